"""Every prompt of a chain with each published script, byte for byte as it has always been.

The files were written by the program before its methods were rebuilt, with the present nudge.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.driver import chain, context, method
from kflow.types import Prompt

GOLDEN = Path(__file__).parents[1] / "golden" / "prompts"
QUESTION = r"How many [[SLOT]]s are in $\{1, 2\}$?"
ANSWERS = (1, 2, 2, 3, 3)


def script(step: int, slot: int, prompt: Prompt) -> str:
    """A reply with every section that any of the prompts asks for."""
    answer = ANSWERS[step]
    return (
        f"analysis Thoughts {step}. It may be {answer}.</think>assistantfinal\n"
        f"[Solution without EK]: Count {step}.\n\n[Adding?]: Yes\n\n"
        f"[Novel Knowledge to Add to the List]: Trigger: a sum {step}. Steps: add.\n\n"
        "[Reason to make this addition]: It helps.\n\n[Dropping?]: No\n\n"
        "[Least Useful to Drop]: N/A\n\n[Why that knowledge should be dropped?]: N/A\n\n"
        f"[Why the reference solution is wrong?]: Slip {step}: a case was left out.\n\n"
        f"[Error Report]: Slip {step}: a case was left out.\n\n"
        f"[Things to Avoid]: 1. Guessing {step}.\n2. Haste.\n\n"
        f"[Summary]: First add {step}. The result is {answer}.\n\n"
        f"[Answer]: \\boxed{{{answer}}}"
    )


def written(step: int, prompt: Prompt) -> str:
    turns = "".join(f"--- {turn.role}\n{turn.content}\n" for turn in prompt.messages)
    prefill = f"--- prefill\n{prompt.prefill}\n" if prompt.prefill else ""
    return f"=== step {step}\n{turns}{prefill}"


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_prompts_are_what_they_were(path: Path) -> None:
    of = method(path.stem)
    family = "gpt_oss" if "oss" in path.stem else "qwen"
    steps = chain(of, context(of), script, len(ANSWERS), QUESTION, family)
    text = "".join(written(number, step.prompts[0]) for number, step in enumerate(steps))
    assert text == path.read_text(encoding="utf-8")
