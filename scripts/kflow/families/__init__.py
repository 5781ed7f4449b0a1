"""Model families, and what of them can be read from a record alone."""

from __future__ import annotations

from . import gpt_oss, qwen
from .chat import END_OF_THINKING

FAMILIES = (gpt_oss.FAMILY, qwen.FAMILY)
MARKS = {family.name: family.end_of_thinking for family in FAMILIES}
# The models of the published runs, by the last part of their names.
PUBLISHED = frozenset(family.model.rpartition("/")[2] for family in FAMILIES)


def visible(family: str, text: str) -> str:
    """The part of a reply after the thinking, else all of it; a family that is not ours is read as
    one with a chat template."""
    return text.rpartition(MARKS.get(family, END_OF_THINKING))[2]
