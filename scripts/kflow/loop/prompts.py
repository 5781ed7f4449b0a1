"""Prompt texts: files with `[[SLOT]]`s, checked when loaded and filled in one strict pass.

One pass means that text put into a slot is never searched for slots again, so a model that
writes `[[KNOWLEDGE]]`, or LaTeX full of braces, changes nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kflow.method import Template
from kflow.types import UserError

SLOT = re.compile(r"\[\[(\w+)\]\]")
LIKE_A_SLOT = re.compile(r"\[\[\s*\w+\s*\]\]")
SHIPPED = Path(__file__).parents[1] / "methods" / "prompts"
LARGEST = 1_000_000  # bytes


@dataclass(frozen=True)
class PromptText:
    """The text of one prompt file; leading and trailing blank lines are not part of it."""

    text: str

    def fill(self, **slots: str) -> str:
        """The text with every slot replaced. Raises KeyError for a slot that was not given."""
        return SLOT.sub(lambda match: slots[match.group(1)], self.text)


def load(folder: Path, prompts: Mapping[str, frozenset[str]]) -> Mapping[str, Template]:
    """Read the file of each prompt (`locate`); each must have exactly the slots named for it.

    Raises UserError for a missing or unreadable file and for unknown or missing slots.
    """
    templates: dict[str, Template] = {}
    for name, slots in prompts.items():
        path = locate(folder, name)
        try:
            text = read(path)
        except (OSError, ValueError) as error:
            raise UserError(
                f"Cannot read the prompt {path} ({reason(error)}): give --prompt_dir a folder "
                f"with {', '.join(locate(SHIPPED, each).name for each in prompts)}, copied from "
                f"{SHIPPED}."
            ) from error
        written, required = set(LIKE_A_SLOT.findall(text)), {f"[[{slot}]]" for slot in slots}
        for kind, wrong in (("unknown", written - required), ("missing", required - written)):
            if wrong:
                raise UserError(
                    f"The prompt {path} has {kind} slots {listed(wrong)}: "
                    f"it must have {listed(required) or 'none'}."
                )
        templates[name] = PromptText(text)
    return templates


def locate(folder: Path, name: str) -> Path:
    """The file of a prompt: `<name>.txt`, or, where there is none, that without the first word of
    the name. So families share a text (`mistakes_first.txt` is both `oss_mistakes_first` and
    `qwen_mistakes_first`), and each may have its own."""
    own, shared = (folder / f"{each}.txt" for each in (name, name.partition("_")[2]))
    return shared if os.path.lexists(shared) and not os.path.lexists(own) else own


def read(path: Path) -> str:
    """Raises OSError, or ValueError for a file that cannot be a prompt."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST:,} bytes")
    return path.read_text(encoding="utf-8-sig").strip()


def listed(slots: Iterable[str]) -> str:
    return ", ".join(" ".join(slot.split()) for slot in sorted(slots))


def reason(error: Exception) -> str:
    """The operating system's own words for an error, without the path it repeats."""
    return getattr(error, "strerror", None) or str(error)
