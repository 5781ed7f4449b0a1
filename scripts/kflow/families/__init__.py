"""Model families, and what of them can be read from a record alone."""

from __future__ import annotations

from kflow.families import gpt_oss, qwen
from kflow.families.family import Family
from kflow.sections import END_OF_THINKING, MARKS

FAMILIES = (gpt_oss.FAMILY, qwen.FAMILY)
# The models of the published runs, by the last part of their names.
PUBLISHED = frozenset(family.model.rpartition("/")[2] for family in FAMILIES)


def unusual_end(family: Family) -> str | None:
    """What ends a family's thinking, None where `visible` knows it by the family's name."""
    usual = MARKS.get(family.name, END_OF_THINKING)
    return None if family.end_of_thinking == usual else family.end_of_thinking
