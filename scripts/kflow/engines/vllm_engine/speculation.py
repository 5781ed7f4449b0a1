"""--speculate: drafts of several tokens that the engine checks at once, as vLLM's
speculative_config. What is sampled keeps its distribution, but no longer follows from a seed alone.

docs/gpus_and_servers.md says which vLLM has what.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from kflow.engines.vllm_engine.recipes import Installed
from kflow.ground.hub import split
from kflow.types import UserError

EAGLE3 = "eagle3:"
# Tokens of a draft, and of the text that it must follow.
NGRAM = {"num_speculative_tokens": 4, "prompt_lookup_min": 3, "prompt_lookup_max": 8}
EAGLE_TOKENS = 3
DEVICE_TOKENS = 4  # where every token of a draft is checked, a filler too
# A chain's last reply drafts its next one; the chains that are ahead of it push replies in between.
KEPT = 2
ASSUMED = 30  # rollouts in flight
MOST_TOKENS = 1 << 26  # on the device, of up to 68 bytes each


class Drafting(NamedTuple):
    """What an environment has for speculation. fields: of its vLLM's SpeculativeConfig. trees:
    whether arctic-inference is installed, which keeps the suffix trees."""

    vllm: Installed
    fields: frozenset[str]
    trees: bool


def wrong(choice: str) -> str:
    """What a value of --speculate must be, "" if it is that."""
    if choice in ("ngram", "suffix") or (choice.startswith(EAGLE3) and choice != EAGLE3):
        return ""
    return "must be ngram, suffix or eagle3:MODEL"


def drafting(vllm: Installed | None) -> Drafting | None:
    """What is installed, read without importing vLLM; None without one."""
    if vllm is None:
        return None
    files = importlib.metadata.distribution(vllm.package)
    source = Path(str(files.locate_file("vllm/config/speculative.py")))
    fields = fields_in(source.read_text()) if source.is_file() else frozenset()
    return Drafting(vllm, fields, find_spec("arctic_inference") is not None)


def fields_in(source: str) -> frozenset[str]:
    """The fields of the class SpeculativeConfig in the text of its module."""
    body = re.search(
        r"^class SpeculativeConfig\b.*?(?=^[^\s#]|\Z)", source, re.MULTILINE | re.DOTALL
    )
    return frozenset(re.findall(r"^    (\w+): ", body.group() if body else "", re.MULTILINE))


def with_drafts(
    arguments: Mapping[str, object],
    given: Mapping[str, object],
    choice: str,
    in_flight: int | None,
    window: int,
    here: Drafting | None,
) -> dict[str, object]:
    """Engine arguments with speculation. given: those of them that the user chose. in_flight:
    rollouts at most, None where it is not known. window: tokens. here: None for vLLM 0.10.2. Raises
    UserError for what this vLLM lacks."""
    if "speculative_config" in given:
        raise UserError("--engine_args has a speculative_config: leave it or --speculate out.")
    if given.get("async_scheduling") and not (choice.startswith(EAGLE3) and schedules_ahead(here)):
        name = f"vLLM {here.vllm.version if here else '0.10.2'}"
        raise UserError(
            f"--speculate {choice} does not go with asynchronous scheduling in {name}: leave "
            "async_scheduling out of --engine_args."
        )
    # Published for the other engine: with drafts, vLLM schedules ahead where it knows how.
    left = {k: v for k, v in arguments.items() if k != "async_scheduling" or k in given}
    return {**left, "speculative_config": config(choice, in_flight or ASSUMED, window, here)}


def check_sampling(
    arguments: Mapping[str, object], temperature: float, vllm: Installed | None
) -> None:
    """Raises UserError where drafts would change what is sampled. The CPU kernel that spreads the
    requests' temperatures over their draft tokens writes to a copy (vLLM 0.32), so that logits are
    divided by whatever the memory held before."""
    if vllm is not None and vllm.cpu and temperature and arguments.get("speculative_config"):
        raise UserError(
            "Drafts on vLLM's CPU build ignore the temperature and change the replies (a bug seen "
            "in 0.32): leave --speculate out, or give --temperature 0."
        )


def schedules_ahead(here: Drafting | None) -> bool:
    """Whether this vLLM combines asynchronous scheduling with draft models."""
    return here is not None and here.vllm.release >= (0, 12)


def config(choice: str, in_flight: int, window: int, here: Drafting | None) -> dict[str, Any]:
    fields = here.fields if here else frozenset()
    if choice == "ngram":
        return {"method": "ngram", **NGRAM}
    if choice.startswith(EAGLE3):
        model, revision = split(choice.removeprefix(EAGLE3))
        drafts: dict[str, Any] = {"method": "eagle3", "model": model}
        drafts |= {"revision": revision} if revision else {}
        # A draft that is a single guess; drawn ones were not always checked rightly.
        drafts |= {"draft_sample_method": "greedy"} if "draft_sample_method" in fields else {}
        return {**drafts, "num_speculative_tokens": EAGLE_TOKENS}
    return {"method": "suffix", **corpus(in_flight, window, here)}


def corpus(in_flight: int, window: int, here: Drafting | None) -> dict[str, int]:
    """What the suffixes are looked up in: replies enough that a chain's last one is still there
    when its next one begins. A reply is taken for a quarter of the window."""
    if here is None or "suffix_decoding_max_cached_requests" not in here.fields:
        name = here.vllm.version if here else "0.10.2"
        raise UserError(
            f"--speculate suffix needs vLLM 0.11.2 or newer, this is {name}: give --speculate "
            "ngram."
        )
    requests = {"suffix_decoding_max_cached_requests": KEPT * in_flight}
    if "suffix_decoding_corpus_tokens" in here.fields:
        tokens = min(MOST_TOKENS, KEPT * in_flight * (window // 4))
        return {
            **requests,
            "suffix_decoding_corpus_tokens": tokens,
            "num_speculative_tokens": DEVICE_TOKENS,
        }
    if not here.trees:
        raise UserError(
            f"--speculate suffix needs arctic-inference with vLLM {here.vllm.version}: pip install "
            "arctic-inference, or give --speculate ngram."
        )
    return requests
