"""Parts of what a run.json says, one by one and flat, and whose prompt texts the run has: the
authors', byte for byte, or others.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

HASH = re.compile(r"[0-9a-f]{64}")
# The settings on which results depend, as flags declare it (running.settings.IDENTITY, which a test
# compares): reading results needs no flags.
IDENTITY = (
    "max_new_tokens", "temperature", "top_p", "top_k", "seed", "token_budget", "force_sections",
    "stop_when_stable", "engine", "prompt_as_text", "request_args", "speculate",
)  # fmt: skip
# Parts of a manifest that belong to a method or a family.
OWN = (
    "experiment.fields.", "experiment.rule.", "experiment.family_fields.", "prompts.", "shows_list",
)  # fmt: skip


def part(value: object, *names: str) -> Any:
    """A part of a manifest, None where it is not there."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def flatten(value: object, name: str = "") -> dict[str, str]:
    """`outer.inner` -> its value: a text as it is, a hash by its beginning, the rest as JSON."""
    if isinstance(value, str):
        return {name: value[:12] if HASH.fullmatch(value) else value}
    if not isinstance(value, dict):
        return {name: json.dumps(value, ensure_ascii=False)}
    return {
        key: text
        for inner, inner_value in value.items()
        for key, text in flatten(inner_value, f"{name}.{inner}".lstrip(".")).items()
    }


def find_different(flat: Sequence[dict[str, str]]) -> dict[str, list[str]]:
    """Name -> its value in each of the flat manifests, `-` for none, where these differ. What only
    one method or family has is left out: it follows from which of them it is."""
    values = {}
    for key in sorted(set().union(*flat)):
        stated = {manifest[key] for manifest in flat if key in manifest}
        everywhere = all(key in manifest for manifest in flat)
        implied = not everywhere and key.startswith(OWN)
        if len(stated) > 1 or (not everywhere and not implied):
            values[key] = [manifest.get(key, "-") for manifest in flat]
    return values


SOURCE = "github.com/EvanZhuang/test_time_recursive_thinking at 76a00f2"
OWN_WORDING = "own wording"
# What `hash_prompts` gives for the texts in SOURCE, by the script that has them; parallel thinking
# has a part of those of the main loop.
PUBLISHED: Mapping[str, str] = {
    "vllm_kflow_oss": "c53218d8b5a2998aa07ba28e167b57fe",
    "vllm_kflow_qwen": "3e5e2c939c01fefbdb9962a26d2f3229",
    "vllm_kflow_oss24": "523fbf6c16435d33eb3cadb124ca0855",
    "vllm_kflow_qwen24": "aaa18159a3fcdbf4302e77169fd0d7c5",
    "vllm_kflow_oss_knowledgeRegen": "1db2799d8fdadc8c154844ed1dd4ce23",
    "vllm_kflow_qwen_knowledgeRegen": "806c8d9748f1aee45d94b941ed9ce02c",
    "vllm_kflow_oss_positiveKnowledge": "9682bd878c86676a54831cbeaaa6951b",
    "vllm_kflow_qwen_positiveKnowledge": "1d03ada9c690a175c8faf9ff297ca196",
    "vllm_oss_markovian_thinking": "a18b7493cc55e1e7462417bc3775a6f1",
    "vllm_qwen_markovian_thinking": "372066c7da74130766038ec42c7b8ba8",
    "vllm_oss_parallel_thinking": "30f4b1778343b62634e9be9fe68b8a64",
    "vllm_qwen_parallel_thinking": "fb24b68fddda7e4736495b958f932438",
}


def hash_prompts(hashes: Mapping[str, object]) -> str:
    """The first 32 digits of one sha256 over prompt files by their names and their own."""
    lines = "".join(f"{sha256}  {name}.txt\n" for name, sha256 in sorted(hashes.items()))
    return hashlib.sha256(lines.encode(errors="replace")).hexdigest()[:32]


def wording(hashes: Mapping[str, object], prompt_dir: object) -> str:
    """Whose texts a run has, in words: `own wording`, `published (sha256 ...)` with the same digits
    for every script, or, of a folder whose files are not all the published ones, `own wording,
    --prompt_dir (sha256 ...)`.

    hashes: prompt name -> the file's sha256. prompt_dir: None where the method's own texts were
    used.
    """
    if prompt_dir is None:
        return OWN_WORDING
    sha256 = hash_prompts(hashes)
    if sha256 in PUBLISHED.values():
        return f"published (sha256 {hash_prompts(PUBLISHED)[:12]})"
    return f"{OWN_WORDING}, --prompt_dir (sha256 {sha256[:12]})"
