"""Several solutions shown side by side, to be combined or compared."""

from __future__ import annotations

from collections.abc import Sequence

from kflow.method import Room
from kflow.methods.notes import cut


def numbered(texts: Sequence[str]) -> str:
    return "\n\n".join(f"### Candidate {n}\n{text or 'N/A'}" for n, text in enumerate(texts, 1))


def shorten(texts: Sequence[str], excess: int, room: Room) -> tuple[tuple[str, ...], int] | None:
    """Texts cut to their last sentences, so that they take `excess` tokens less: none has more than
    an equal share, and what short ones leave of theirs is the others'. Also the number of tokens
    that are gone. None where nothing is left to cut."""
    if not any(texts):
        return None
    lengths = [room.count(text) for text in texts]
    share, saved, kept = equal_share(lengths, sum(lengths) - excess), 0, list(texts)
    for n, length in enumerate(lengths):
        if texts[n] and length > share:
            kept[n], less = cut(texts[n], length - share, room)
            saved += less
    return tuple(kept), saved


def equal_share(lengths: Sequence[int], total: int) -> int:
    """The most that each may have so that all together have at most `total`."""
    left = total
    for rank, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - rank)
        if length > share:
            return share
        left -= length
    return max(lengths, default=0)
