"""How long runs that share an engine still take: what their chains have to do one after another is
played to its end, as fast as the engine works now. Counts of rollouts say little of that: attempts
that are asked all at once end early, and the chains then have the engine for themselves.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

from kflow.results.status import EngineStatus

YEARS = 1e9  # seconds, of a forecast that can be meant
MOST_PLAYED = 5_000  # steps; of more, several are played as one
MEMORY = 60.0  # seconds; what was seen longer ago counts little
BEGUN = 0.4  # of a rollout in flight, at most and where nothing says how far it is
PRIOR = 2.0  # replies of the usual length that a chain counts beside its own
# Rollouts at a time with which each takes twice as long as alone: what an engine gains by a batch.
# Round assumptions, which matter until the batch has changed.
ON_CPU, ON_GPUS, ON_SERVERS = 16.0, 128.0, math.inf


class Rest(NamedTuple):
    """What a chain still has to do. steps: one after another. rollouts: in all of them, those in
    flight too. replies, tokens: of this start of the program. first: what it has in flight was
    asked at the beginning."""

    steps: int
    rollouts: int
    replies: int = 0
    tokens: int = 0
    first: bool = True


@dataclass
class Speed:
    """How fast the engine was lately, in tokens per second of a rollout that has it for itself.

    half: one of the three above. clock: seconds since the first look, as such a rollout has them.
    most: rollouts that were running at a time.
    """

    half: float
    clock: float = 0.0
    most: int = 0
    _began: float | None = None
    _looked: float = 0.0
    _tokens_before: float = 0.0
    _tokens: float = 0.0
    _seconds: float = 0.0

    def look(self, now: float, tokens: float, running: int, so_far: bool) -> None:
        """now: any clock, in seconds. tokens: of all replies so far, whole or not. so_far: whether
        those of replies that are not whole are known; whole ones alone end rarely."""
        if self._began is None:
            self._began, self._looked, self._tokens_before = now, now, tokens
        passed = now - self._looked
        lately = MEMORY if so_far else max(MEMORY, (now - self._began) / 2)
        alone = passed / self.slower(running) if running else 0.0
        fading = math.exp(-passed / lately)
        self.clock += alone
        self._tokens = self._tokens * fading + max(0.0, tokens - self._tokens_before)
        self._seconds = self._seconds * fading + alone * running
        self._looked, self._tokens_before = now, tokens
        self.most = max(self.most, running)

    def pause(self, now: float) -> None:
        """Nothing has run since the last look."""
        self._looked = now

    def slower(self, running: int) -> float:
        """How much longer a rollout takes with so many running than alone."""
        return 1 + running / self.half

    @property
    def alone(self) -> float:
        """0 where nothing is known yet."""
        return self._tokens / self._seconds if self._seconds else 0.0


class Forecast:
    """Of chains that share an engine, from one look at them to the next. at_once: rollouts that it
    is asked at a time, None for all."""

    def __init__(self, half: float = ON_SERVERS, at_once: int | None = None) -> None:
        self._speed, self._at_once = Speed(half), at_once
        # Of each chain, its steps left at the last look, and the clock when its next one began to
        # run, at the earliest.
        self._asked: list[tuple[int, float]] = []

    def seconds_left(
        self, now: float, rests: Sequence[Rest], engine: EngineStatus
    ) -> list[float] | None:
        """Until each chain ends; None before there is a reply, while the engine stands still, and
        where it would be decades. now: any clock, in seconds. rests: of the same chains each time,
        in the same order."""
        speed = self._speed
        if engine.stands_still:
            speed.pause(now)
            return None
        in_flight = sum(rest.rollouts // max(1, rest.steps) for rest in rests)
        # Of replies that a server sends in one piece none is seen to run.
        running = engine.running or min(in_flight, self._at_once or in_flight)
        replies, tokens = sum(rest.replies for rest in rests), sum(rest.tokens for rest in rests)
        usual = tokens / replies if replies else 0.0
        so_far = engine.tokens_in_flight
        under_way = BEGUN * running * usual if so_far is None else so_far
        speed.look(now, tokens + under_way, running, so_far is not None)
        before = self._asked or [(rest.steps, speed.clock) for rest in rests]
        in_line = bool(engine.waiting) if engine.running else running < in_flight
        self._asked = [
            (rest.steps, asked if rest.steps == steps and not in_line else speed.clock)
            for rest, (steps, asked) in zip(rests, before, strict=True)
        ]
        if not speed.alone or not usual:
            return None
        # Short replies end first, so those in flight count for the mean as far as they are.
        begun = min(BEGUN, under_way / (running * usual)) if running else 0.0
        mean = (tokens + under_way) / (replies + begun * running)
        lengths = [
            length(rest, (speed.clock - asked) * speed.alone, mean)
            for rest, (_, asked) in zip(rests, self._asked, strict=True)
        ]
        seconds = [each / speed.alone for each in lengths]
        ends = play(rests, seconds, speed, speed.most if in_line else None, begun)
        return ends if max(ends, default=0) < YEARS else None


def length(rest: Rest, so_far: float, mean: float) -> float:
    """The tokens to expect of a chain's replies. so_far: what the one in flight must have, 0 where
    that is not known; one that is longer than usual already counts as a whole one."""
    one_at_a_time = rest.rollouts == rest.steps
    longer = so_far if one_at_a_time and so_far > mean else 0
    return (rest.tokens + longer + PRIOR * mean) / (rest.replies + bool(longer) + PRIOR)


def play(
    rests: Sequence[Rest],
    seconds: Sequence[float],
    speed: Speed,
    slots: int | None = None,
    begun: float = 0.0,
) -> list[float]:
    """Seconds until each chain ends. seconds: of one of its rollouts, alone. slots: rollouts that
    run at a time, the others waiting in line; None: all that are asked. begun: how much is done of
    each rollout that runs now."""
    steps_as_one = max(1, math.ceil(sum(rest.steps for rest in rests) / MOST_PLAYED))
    steps = [math.ceil(rest.steps / steps_as_one) for rest in rests]
    ends, pending = [0.0] * len(rests), [0] * len(rests)
    line: deque[tuple[int, int]] = deque()  # chains, and how many rollouts of each
    running: list[tuple[float, int, int]] = []  # when they end by the clock, and the same
    at_once, time, clock = 0, 0.0, 0.0

    def ask(chain: int) -> None:
        pending[chain] = max(1, rests[chain].rollouts // rests[chain].steps)
        line.append((chain, pending[chain]))

    for chain in sorted(range(len(rests)), key=lambda chain: not rests[chain].first):
        if steps[chain]:
            ask(chain)
    while line or running:
        while line and (slots is None or at_once < max(1, slots)):
            chain, number = line.popleft()
            taken = number if slots is None else min(number, max(1, slots) - at_once)
            if taken < number:
                line.appendleft((chain, number - taken))
            left = steps_as_one - (begun if not clock else 0)
            heappush(running, (clock + seconds[chain] * left, chain, taken))
            at_once += taken
        end, chain, number = heappop(running)
        time, clock = time + (end - clock) * speed.slower(at_once), end
        at_once -= number
        pending[chain] -= number
        if not pending[chain]:
            ends[chain], steps[chain] = time, steps[chain] - 1
            if steps[chain]:
                ask(chain)
    return ends
