"""Replies, plans and keys for the tests, beside what kflow.testing has for those outside too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kflow.answers import AnswerType, Integer
from kflow.loop.sentences import TokenMeasure
from kflow.method import Template
from kflow.running.settings import Settings
from kflow.testing import Pick as Pick
from kflow.testing import Script as Script
from kflow.testing import ScriptedChat as ScriptedChat
from kflow.testing import ScriptedEngine as ScriptedEngine
from kflow.testing import answer_of as answer_of
from kflow.testing import mark as mark
from kflow.testing import obliging as obliging
from kflow.testing import reply_for as reply_for
from kflow.testing import stable as stable
from kflow.types import Chat, Key, Request

MARK = re.compile("«([^»]*)»")


@dataclass(frozen=True)
class FixedPlan:
    """What the loop reads of a run, without a run (loop.steps.Plan)."""

    method: Any
    chat: Chat
    settings: Settings
    templates: Mapping[str, Template] = field(default_factory=dict)
    answers: AnswerType = field(default_factory=Integer)
    name: str = "run"
    family: str = "qwen"
    end_of_thinking: str | None = None
    other_engine: str | None = None

    @property
    def measure(self) -> TokenMeasure:
        return TokenMeasure(self.settings.max_new_tokens, self.chat.count)


def K(problem: str, seed: int, step: int, slot: int = 0) -> Key:
    """The key of a rollout, whichever run it belongs to."""
    return Key("", problem, seed, step, slot)


def marks(text: str) -> set[str]:
    return {f"«{match}»" for match in MARK.findall(text)}


def brief(request: Request, prompt: str) -> str:
    return "«é»"


def contents(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """The files below a folder; not status.json, which says when it was written."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.glob(pattern))
        if path.is_file() and path.name != "status.json"
    }
