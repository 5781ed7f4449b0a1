"""Prompt texts: files with `[[SLOT]]`s, checked when loaded and filled in one strict pass.

One pass means that text put into a slot is never searched for slots again, so a model that
writes `[[KNOWLEDGE]]`, or LaTeX full of braces, changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .types import Template, UserError

FOLDER = Path(__file__).with_name("prompts")
SLOT = re.compile(r"\[\[(\w+)\]\]")


@dataclass(frozen=True)
class PromptText:
    """The text of one prompt file; leading and trailing blank lines are not part of it."""

    text: str

    def fill(self, **slots: str) -> str:
        """The text with every slot replaced. Raises KeyError for a slot that was not given."""
        return SLOT.sub(lambda match: slots[match.group(1)], self.text)


def load(folder: Path, wanted: dict[str, frozenset[str]]) -> Mapping[str, Template]:
    """Read `<name>.txt` for each wanted name; each must have exactly the slots named for it.

    Raises UserError for a missing or unreadable file and for unknown or missing slots.
    """
    templates: dict[str, Template] = {}
    for name, slots in wanted.items():
        path = folder / f"{name}.txt"
        try:
            text = path.read_text(encoding="utf-8-sig").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"Cannot read the prompt {path} ({reason(error)}): give --prompt_dir a folder "
                f"with {', '.join(f'{each}.txt' for each in wanted)}."
            ) from error
        found = set(SLOT.findall(text))
        for kind, wrong in (("unknown", found - slots), ("missing", slots - found)):
            if wrong:
                raise UserError(
                    f"The prompt {path} has {kind} slots {slot_list(wrong)}: "
                    f"it must have {slot_list(slots) or 'none'}."
                )
        templates[name] = PromptText(text)
    return templates


def slot_list(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"[[{name}]]" for name in sorted(names))


def reason(error: Exception) -> str:
    """The operating system's own words for an error, without the path it repeats."""
    return getattr(error, "strerror", None) or str(error)
