"""Prompt texts: files with `[[SLOT]]`s, checked when loaded and filled in one strict pass.

One pass means that text put into a slot is never searched for slots again, so a model that
writes `[[KNOWLEDGE]]`, or LaTeX full of braces, changes nothing.

A file's text is all that it holds, blank lines at both ends too, but for the line feed that ends
its last line. How a list is written in the place of `[[KNOWLEDGE]]` is the method's to say, unless
two more files do: `<name>_list.txt`, whose line with `[[ENTRY]]` is repeated for each entry, and
`<name>_empty.txt` for a list without entries.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kflow.types import UserError

SLOT = re.compile(r"\[\[(\w+)\]\]")
LIKE_A_SLOT = re.compile(r"\[\[\s*\w+\s*\]\]")
SHIPPED = Path(__file__).parents[1] / "methods" / "prompts"
LARGEST = 1_000_000  # bytes
OPTIONAL = frozenset({"TAIL", "N"})  # slots that any text may leave out
ABOUT_ANSWERS = frozenset({"ANSWER", "BOX"})  # and these where answers are integers
# The slots of the files that may stand beside a prompt with a list.
PIECES = {"list": frozenset({"ENTRY", "N"}), "empty": frozenset[str]()}


@dataclass(frozen=True)
class PromptText:
    """The text of one prompt file. sha256: of the file, as sha256sum gives it."""

    text: str
    sha256: str = ""

    @property
    def slots(self) -> frozenset[str]:
        return frozenset(SLOT.findall(self.text))

    def fill(self, **slots: str) -> str:
        """The text with every slot replaced. Raises KeyError for a slot that was not given."""
        return SLOT.sub(lambda match: slots[match.group(1)], self.text)

    def fill_lines(self, entries: Iterable[tuple[int, str]]) -> str:
        """The text with its line that holds `[[ENTRY]]` once for each entry and its number."""
        before, line, after = around_entry(self.text)
        filled = (PromptText(line).fill(N=str(n), ENTRY=text) for n, text in entries)
        return before + "\n".join(filled) + after


def around_entry(text: str) -> tuple[str, str, str]:
    """The text before, in and after its line with `[[ENTRY]]`."""
    place = text.index("[[ENTRY]]")
    start, end = text.rfind("\n", 0, place) + 1, text.find("\n", place)
    end = len(text) if end < 0 else end
    return text[:start], text[start:end], text[end:]


def load(
    folder: Path,
    prompts: Mapping[str, frozenset[str]],
    prefix: str = "",
    optional: frozenset[str] = frozenset(),
) -> dict[str, PromptText]:
    """Read the file of each prompt (`locate`), and those beside one with a list where there are
    any.

    prompts: name -> its slots; a text must have exactly these, but for those that any text may
    leave out and for the `optional` ones. Raises UserError for a missing or unreadable file and for
    unknown or missing slots.
    """
    needed = dict(prompts)
    for name in with_list(prompts):
        for piece, slots in PIECES.items():
            if os.path.lexists(locate(folder, f"{name}_{piece}", prefix)):
                needed[f"{name}_{piece}"] = slots
    templates: dict[str, PromptText] = {}
    for name, slots in needed.items():
        path = locate(folder, name, prefix)
        try:
            templates[name] = read(path)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error  # without the path
            raise UserError(
                f"Cannot read the prompt {path} ({why}): give --prompt_dir a folder "
                f"with {', '.join(locate(SHIPPED, name).name for name in prompts)}, copied from "
                f"{SHIPPED}."
            ) from error
        check(path, templates[name], slots, slots & (optional | OPTIONAL))
    return templates


def with_list(prompts: Mapping[str, frozenset[str]]) -> list[str]:
    """The names of those that have a place for a list of entries."""
    return [name for name, slots in prompts.items() if "KNOWLEDGE" in slots]


def locate(folder: Path, name: str, prefix: str = "") -> Path:
    """The file of a prompt: `<name>.txt`, or, where there is none, that without the first word of
    the name. So families share a text (`mistakes_first.txt` is both `oss_mistakes_first` and
    `qwen_mistakes_first`), and each may have its own. One in the subfolder `prefix`, of the script
    whose results have it, comes before both."""
    shared = folder / f"{name.partition('_')[2]}.txt"
    places = (folder / prefix / f"{name}.txt", folder / f"{name}.txt", shared)
    return next((path for path in places if os.path.lexists(path)), places[1])


def read(path: Path) -> PromptText:
    """Raises OSError, or ValueError for a file that cannot be a prompt."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("not a regular file")
    if status.st_size > LARGEST:
        raise ValueError(f"larger than {LARGEST:,} bytes")
    content = path.read_bytes()
    text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    return PromptText(text.removesuffix("\n"), hashlib.sha256(content).hexdigest())


def check(path: Path, prompt: PromptText, slots: frozenset[str], optional: frozenset[str]) -> None:
    """Raises UserError for slots that a prompt must not have, or must. optional: of its slots those
    that it may leave out."""
    written = set(LIKE_A_SLOT.findall(prompt.text))
    required, known = ({f"[[{slot}]]" for slot in names} for names in (slots - optional, slots))
    for kind, wrong in (("unknown", written - known), ("missing", required - written)):
        if wrong:
            may = f", and may have {name_slots(known - required)}" if optional else ""
            raise UserError(
                f"The prompt {path} has {kind} slots {name_slots(wrong)}: "
                f"it must have {name_slots(required) or 'none'}{may}."
            )
    if "ENTRY" in slots and SLOT.search("\n".join(around_entry(prompt.text)[::2])):
        raise UserError(
            f"The prompt {path} has slots on several lines: put them all on the line that is "
            "repeated for each entry, the one with [[ENTRY]]."
        )


def name_slots(slots: Iterable[str]) -> str:
    return ", ".join(" ".join(slot.split()) for slot in sorted(slots))
