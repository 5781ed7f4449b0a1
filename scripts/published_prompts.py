"""The prompt texts of the authors' own scripts as a folder for --prompt_dir.

    git clone https://github.com/EvanZhuang/test_time_recursive_thinking
    python scripts/published_prompts.py test_time_recursive_thinking -o prompts_published
    python scripts/vllm_kflow_qwen.py --prompt_dir prompts_published

The scripts are read, never executed. One folder serves all ten scripts, and parallel thinking.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from kflow.experiment import Experiment
from kflow.ground.program import Parser
from kflow.ground.signals import end
from kflow.loop import prompts
from kflow.results.recorded import PUBLISHED, SOURCE, hash_prompts
from kflow.running import authors_code
from kflow.types import UserError

# Those on AIME 2025 first: what the others share with them is theirs, what differs has a folder.
SCRIPTS = (
    "vllm_kflow_oss", "vllm_kflow_qwen", "vllm_kflow_oss24", "vllm_kflow_qwen24",
    "vllm_kflow_oss_knowledgeRegen", "vllm_kflow_qwen_knowledgeRegen",
    "vllm_kflow_oss_positiveKnowledge", "vllm_kflow_qwen_positiveKnowledge",
    "vllm_oss_markovian_thinking", "vllm_qwen_markovian_thinking",
)  # fmt: skip
ROLES = ("first", "later", "prefill", "nudge")  # fields of a method that name its prompts
PLACES = ("", "scripts", "AIME/scripts", "AIME")  # of the scripts in a checkout


def write(source: Path, target: Path, changed: bool) -> None:
    """changed: take texts too that are not those known. Raises UserError, with nothing written."""
    if not target.absolute().parent.is_dir():
        raise UserError(f"{target.parent} is not a folder: create it, or give -o another name.")
    if os.path.lexists(target):
        raise UserError(f"{target} exists: remove it, or give -o another name.")
    folder = scripts_in(source)
    experiments: dict[str, Experiment] = {each: import_module(each).EXPERIMENT for each in SCRIPTS}
    files: dict[str, str] = {}
    for script, experiment in experiments.items():
        path = folder / f"{script}.py"
        for name, text in named(authors_code.read(path), experiment.method, path).items():
            if files.setdefault(name, text) != text:
                files[f"{experiment.prefix}/{name}"] = text
    part = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.part")
    try:
        for name, text in files.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / f"{name}.txt").write_text(f"{text}\n", encoding="utf-8", newline="")
        whose = {each: checked(each, known, part, changed) for each, known in experiments.items()}
        os.replace(part, target)
    except OSError as error:
        raise UserError(f"Cannot write {target} ({error.strerror}): give another -o.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for script, words in whose.items():
        print(f"{script}.py: {words}")
    print(f"{target}: for --prompt_dir")


def scripts_in(source: Path) -> Path:
    for place in PLACES:
        if any((source / place / f"{script}.py").is_file() for script in SCRIPTS):
            return source / place
    raise UserError(
        f"{source} is not a checkout of the authors' code, which has {SCRIPTS[0]}.py in scripts or "
        f"AIME/scripts: clone {SOURCE.partition(' ')[0]}, and name its folder."
    )


def named(texts: Mapping[str, str], method: Any, path: Path) -> dict[str, str]:
    """The texts by the names of this project's prompts. Raises UserError for a script that lacks
    one of them, or has one more."""
    names = {role: name for role in ROLES if (name := getattr(method, role, None))}
    found = sorted(role for role in texts if role in ROLES)
    if found != sorted(names):
        raise UserError(
            f"{path} is not the known version of the authors' code: its texts should be "
            f"{', '.join(sorted(names))}, but they are {', '.join(found)}."
        )
    parts = {role: role.partition("_") for role in texts}
    return {
        names[whole] + mark + piece: texts[role] for role, (whole, mark, piece) in parts.items()
    }


def checked(script: str, experiment: Experiment, folder: Path, changed: bool) -> str:
    """Whose texts a script has in the folder. Raises UserError for texts that are not the ones
    known, unless `changed`, and for those that no run could use."""
    needed = experiment.method.prompts
    texts = prompts.load(folder, needed, experiment.prefix, prompts.ABOUT_ANSWERS)
    sha256 = hash_prompts({name: text.sha256 for name, text in texts.items()})
    if sha256 == PUBLISHED.get(script):
        return f"published (sha256 {sha256[:12]})"
    if changed:
        return f"changed (sha256 {sha256[:12]})"
    raise UserError(
        f"{script}.py has changed: the sha256 of its texts is {sha256[:12]}, but in {SOURCE} it is "
        f"{PUBLISHED[script][:12]}; check that commit out, or pass --changed to accept these texts."
    )


if __name__ == "__main__":
    parser = Parser(__doc__)
    parser.add_argument("source", metavar="FOLDER", type=Path, help="of the authors' code")
    parser.add_argument("-o", "--output", metavar="FOLDER", type=Path, required=True)
    parser.add_argument(
        "--changed",
        action="store_true",
        help="also accept texts that differ from the known published code; a run that uses them "
        "is not called published",
    )
    given = parser.parse_args()
    end(lambda: write(given.source, given.output, given.changed))
