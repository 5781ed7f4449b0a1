"""Model families, and what of them can be read from a record alone."""

from __future__ import annotations

from kflow.families import gpt_oss, qwen
from kflow.families.chat import END_OF_THINKING
from kflow.families.family import Family

FAMILIES = (gpt_oss.FAMILY, qwen.FAMILY)
MARKS = {family.name: family.end_of_thinking for family in FAMILIES}
# The models of the published runs, by the last part of their names.
PUBLISHED = frozenset(family.model.rpartition("/")[2] for family in FAMILIES)


def unusual_end(family: Family) -> str | None:
    """What ends a family's thinking, None where `visible` knows it by the family's name."""
    usual = MARKS.get(family.name, END_OF_THINKING)
    return None if family.end_of_thinking == usual else family.end_of_thinking


def visible(family: str, text: str, end: str | None = None) -> str:
    """The part of a reply after the thinking, else all of it. end: what ends the thinking of a
    family that is neither ours nor one with `</think>`."""
    return text.rpartition(end or MARKS.get(family, END_OF_THINKING))[2]
