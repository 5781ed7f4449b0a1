"""Drafts by suffix matching, simulated: how much of token sequences repeats earlier text, and what
decoding would take with it.

Arithmetic on whole arrays: 30 x 64 replies of 20,000 tokens take minutes and some gigabytes.
Positions and lengths count tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer[Any]]
Span = tuple[int, int]  # the shortest and the longest match that counts

EDGES = (0, 64, 256, 1024, 4096, 16_384)  # where a range of positions begins
FACTOR, OTHER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


class Text(NamedTuple):
    """A rollout in token ids. chain: its number."""

    chain: int
    step: int
    prompt: Ints
    reply: Ints


class Match(NamedTuple):
    """For each position, of the context that ends with it: length of its longest suffix that
    occurred before, 0 where none did, and the position after that occurrence."""

    length: Ints
    after: Ints


class Drafts(NamedTuple):
    """For each position of a reply, if an engine step began there: length of the match that the
    draft follows, tokens proposed, and those of them that are right."""

    matched: Ints
    proposed: Ints
    accepted: Ints


def matches(tokens: Ints, family: Ints, stage: Ints, room: Ints, span: Span) -> Match:
    """The latest occurrence of the longest suffix, within the same family and at an earlier stage.

    family, stage: of each token; the stage does not fall within a family. room: how many tokens
    of its document end with it, which no match exceeds. Sequences are compared by hashes of 64
    bits.
    """
    length, after = np.zeros(len(tokens), np.int8), np.zeros(len(tokens), np.int32)
    words = tokens.astype(np.uint64) + np.uint64(1)
    apart = (family.astype(np.uint64) + np.uint64(1)) * OTHER
    hashes = np.zeros_like(words)
    alive: Ints = np.arange(len(tokens), dtype=np.int32)
    for size in range(1, span[1] + 1):
        hashes[1:] = hashes[:-1] * FACTOR
        hashes[:1] = 0
        hashes += words
        if size < span[0]:
            continue
        alive = alive[room[alive] >= size]
        if not len(alive):
            break
        keys = hashes[alive] * FACTOR + apart[alive]
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], alive[order]
        again = keys[1:] == keys[:-1]
        begins = np.ones(len(places), bool)
        begins[1:] = ~(again & (stage[places[1:]] == stage[places[:-1]]))
        # The one before all of the same stage, if it is the same sequence.
        before = np.maximum.accumulate(np.where(begins, np.arange(len(places)), 0)) - 1
        here = np.flatnonzero((before >= 0) & (keys[before] == keys))
        length[places[here]] = size
        after[places[here]] = places[before[here]] + 1
        # A sequence that occurs once ends no longer one that occurs twice.
        twice = np.zeros(len(places), bool)
        twice[1:] |= again
        twice[:-1] |= again
        alive = np.sort(places[twice])
    return Match(length, after)


def drafts(
    tokens: Ints, ends: Ints, contexts: Ints, match: Match, reply: Ints, most: int
) -> Drafts:
    """What a source proposes at each position of a reply.

    tokens: of the source. ends: by the reply's position, up to where they may be read. contexts:
    where in the source the context of that position ends, -1 where it has none there. most: tokens
    of a draft.
    """
    matched = np.where(contexts >= 0, match.length[contexts], 0).astype(np.int8)
    after = match.after[contexts]
    proposed = np.where(matched > 0, np.minimum(most, ends - after), 0).astype(np.int8)
    accepted = np.zeros(len(reply), np.int8)
    right = np.flatnonzero(proposed)
    for number in range(most):
        right = right[(proposed[right] > number) & (right + number < len(reply))]
        right = right[tokens[after[right] + number] == reply[right + number]]
        accepted[right] += 1
    return Drafts(matched, proposed, accepted)


def from_itself(text: Text, span: Span, most: int) -> Drafts:
    """Drafts from a reply's prompt and what there is of it."""
    tokens = np.concatenate((text.prompt, text.reply))
    whole = np.arange(len(tokens), dtype=np.int32)
    matched = matches(tokens, np.zeros_like(whole), whole, whole + 1, span)
    contexts = len(text.prompt) + np.arange(len(text.reply)) - 1
    return drafts(tokens, contexts + 1, contexts, matched, text.reply, most)


def from_earlier(
    texts: Sequence[Text], family: Sequence[int], span: Span, most: int
) -> list[Drafts]:
    """Drafts for each text from the replies of the same family's earlier steps; before a reply's
    first token there is no context for them. texts: in the order of their steps."""
    sizes = np.array([len(text.reply) for text in texts])
    starts = np.cumsum(sizes) - sizes
    tokens = np.concatenate([text.reply for text in texts])
    room = np.arange(len(tokens), dtype=np.int32) - np.repeat(starts, sizes) + 1
    steps = np.array([text.step for text in texts], np.int32)
    families = np.repeat(np.array(family, np.int32), sizes)
    matched = matches(tokens, families, np.repeat(steps, sizes), room, span)
    ends = np.repeat((starts + sizes).astype(np.int32), sizes)
    result = []
    for text, start in zip(texts, starts, strict=True):
        contexts = np.arange(len(text.reply)) - 1
        contexts[1:] += start
        inside = np.maximum(matched.after[contexts] - 1, 0)
        result.append(drafts(tokens, ends[inside], contexts, matched, text.reply, most))
    return result


def better(own: Drafts, other: Drafts) -> Drafts:
    """Those of the longer match, between equal ones the own."""
    use = other.matched > own.matched
    return Drafts(*(np.where(use, b, a) for a, b in zip(own, other, strict=True)))


def from_all_sources(texts: Sequence[Text], span: Span, most: int) -> dict[str, list[Drafts]]:
    """Drafts for each text, by source: the prompt and the reply so far; those and the replies of
    the chain's earlier steps; those and the replies of all chains' earlier steps. texts: in the
    order of their steps."""
    own = [from_itself(text, span, most) for text in texts]
    by_source = {"prompt": own}
    for source, family in (("chain", [text.chain for text in texts]), ("all", [0] * len(texts))):
        earlier = from_earlier(texts, family, span, most)
        by_source[source] = [better(*pair) for pair in zip(own, earlier, strict=True)]
    return by_source


class Walked(NamedTuple):
    """What decoding took, by rollout and range of positions (EDGES): engine steps, those of them
    that had a draft, tokens proposed, accepted and emitted."""

    steps: Ints
    drafted: Ints
    proposed: Ints
    accepted: Ints
    emitted: Ints


def walk(replies: Sequence[Drafts], most: int) -> Walked:
    """Decode every reply with drafts of at most so many tokens. An engine step emits what it
    accepts and one token of its own."""
    sizes = np.array([len(each.accepted) for each in replies])
    starts = np.cumsum(sizes) - sizes
    proposed = np.concatenate([each.proposed for each in replies])
    accepted = np.concatenate([each.accepted for each in replies])
    counts = Walked(*np.zeros((len(Walked._fields), len(replies), len(EDGES)), np.int64))
    at, running = np.zeros_like(sizes), np.flatnonzero(sizes)
    while len(running):
        here = starts[running] + at[running]
        part = np.searchsorted(EDGES, at[running], side="right") - 1
        offered = np.minimum(proposed[here], most)
        taken = np.minimum(accepted[here], most)
        emitted = np.minimum(taken + 1, sizes[running] - at[running])
        for count, number in zip(counts, (1, offered > 0, offered, taken, emitted), strict=True):
            count[running, part] += number
        at[running] += emitted
        running = running[at[running] < sizes[running]]
    return counts
