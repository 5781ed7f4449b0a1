"""The time left, against made-up runs: chains of different lengths, attempts asked all at once, and
more chains than fit in a batch."""

from __future__ import annotations

import copy
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from kflow.results.status import EngineStatus
from kflow.running.forecast import MOST_PLAYED, ON_CPU, ON_GPUS, Forecast, Rest, Speed, play

WITHIN = 4 / 3


@dataclass
class Line:
    """A chain of a made-up run. tokens: of a reply, on average. width: replies of a step. ahead:
    all of them are asked at the beginning."""

    steps: int
    tokens: int
    width: int = 1
    ahead: bool = False
    step: int = 0
    pending: int = 0
    replies: int = 0
    tokens_so_far: int = 0

    @property
    def rest(self) -> Rest:
        left = self.steps - self.step
        done = (self.replies, self.tokens_so_far)
        if self.ahead:
            return Rest(min(1, self.pending), self.pending, *done)
        return Rest(left, left * self.width, *done, self.step == 0)


@dataclass
class World:
    """An engine that decodes `slots` rollouts at a time at speed / (1 + number / half) tokens per
    second each. spread: of the logarithm of a reply's length."""

    lines: list[Line]
    speed: float
    half: float
    slots: int | None = None
    spread: float = 0.0
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    queue: deque[list[float]] = field(default_factory=deque)  # chain, tokens left, tokens so far
    running: list[list[float]] = field(default_factory=list)

    def ask(self, number: int) -> None:
        line = self.lines[number]
        line.pending = line.width * (line.steps if line.ahead else 1)
        for _ in range(line.pending):
            shift = self.dice.gauss(-(self.spread**2) / 2, self.spread)
            self.queue.append([number, line.tokens * math.exp(shift), 0.0])

    def take(self) -> None:
        while self.queue and (self.slots is None or len(self.running) < self.slots):
            self.running.append(self.queue.popleft())

    def seconds(self) -> Iterator[EngineStatus]:
        """What the engine says of itself, second by second."""
        for number in sorted(range(len(self.lines)), key=lambda n: self.lines[n].ahead):
            self.ask(number)
        self.take()
        while self.running:
            gained = self.speed / (1 + len(self.running) / self.half)
            for each in self.running:
                each[2] += gained
            done = [each for each in self.running if each[2] >= each[1]]
            self.running = [each for each in self.running if each[2] < each[1]]
            for number, tokens, _ in done:
                self.end(int(number), int(tokens))
            self.take()
            so_far = int(sum(each[2] for each in self.running))
            yield EngineStatus(
                running=len(self.running), waiting=len(self.queue), tokens_in_flight=so_far
            )

    def end(self, number: int, tokens: int) -> None:
        line = self.lines[number]
        line.replies, line.tokens_so_far = line.replies + 1, line.tokens_so_far + tokens
        line.pending -= 1
        if not line.pending:
            line.step = line.steps if line.ahead else line.step + 1
            if line.step < line.steps:
                self.ask(number)


def chains(number: int, steps: int, **more: int) -> list[Line]:
    return [Line(steps, 2000, **more) for _ in range(number)]


def longer_and_longer(number: int, steps: int) -> list[Line]:
    return [Line(steps, 2000 * (each + 1) // number) for each in range(number)]


def attempts(number: int, of_each: int) -> list[Line]:
    return [Line(of_each, 2000, ahead=True) for _ in range(number)]


RUNS: dict[str, tuple[World, float]] = {
    "alike, replies of any length": (World(chains(20, 64), 200, 100, spread=0.5), ON_GPUS),
    "longer and longer": (World(longer_and_longer(10, 64), 200, 30), ON_GPUS),
    "more chains than slots": (World(chains(40, 32), 100, 30, slots=16, spread=0.5), ON_GPUS),
    "steps of several": (World([*chains(4, 20, width=8), *chains(4, 60)], 100, 100), ON_GPUS),
    "attempts and chains, in line": (
        World([*attempts(10, 16), *chains(20, 16)], 100, 30, slots=16, spread=0.3), ON_GPUS,
    ),
    "attempts and chains, a GPU": (
        World([*attempts(10, 8), *chains(20, 32)], 100, 100, spread=0.3), ON_GPUS,
    ),
    "attempts and chains, a CPU": (
        World([*attempts(10, 8), *chains(20, 32)], 100, 8, spread=0.3), ON_CPU,
    ),
}  # fmt: skip


CASES = [
    *[(name, True) for name in RUNS],
    *[(name, False) for name, (world, _) in RUNS.items() if world.slots is None],
]


@pytest.mark.parametrize(("name", "figures"), CASES)
def test_the_time_left_is_right_within_a_third(name: str, figures: bool) -> None:
    """From the first tenth of a run on. figures: whether the engine says anything of itself."""
    whole, assumed = RUNS[name]
    world, forecast = copy.deepcopy(whole), Forecast(assumed)
    said: dict[int, list[float] | None] = {}
    length = 0
    for length, engine in enumerate(world.seconds()):
        if length % 5 == 0:
            rests = [line.rest for line in world.lines]
            seen = engine if figures else EngineStatus()
            said[length] = forecast.seconds_left(length, rests, seen)
    for second, ends in said.items():
        left = length - second
        if 0.1 * length <= second <= 0.85 * length:
            assert ends is not None
            assert left / WITHIN < max(ends) < left * WITHIN, f"{second}: {max(ends):.0f}, {left}"


ONE = Rest(4, 4)
# What chains have to do, with seconds for each rollout, and slots -> when each chain ends.
PLAYED: dict[str, tuple[list[tuple[Rest, float]], int | None, list[float]]] = {
    "nothing": ([], None, []),
    "two side by side": ([(ONE, 10), (Rest(2, 2), 10)], None, [40, 20]),
    "two in one slot": ([(Rest(2, 2), 10), (Rest(2, 2), 10)], 1, [30, 40]),
    "attempts in two slots": ([(Rest(1, 8), 10)], 2, [40]),
    "behind attempts": ([(Rest(1, 4), 10), (Rest(1, 1, first=False), 5)], 2, [20, 25]),
    "before attempts": ([(Rest(1, 4, first=False), 10), (Rest(1, 1), 5)], 2, [25, 5]),
    "steps of three": ([(Rest(2, 6), 10)], 1, [60]),
    "one that has ended": ([(Rest(0, 0), 10), (ONE, 1)], None, [0, 4]),
}


@pytest.mark.parametrize("case", PLAYED)
def test_chains_are_played_to_their_end(case: str) -> None:
    chains, slots, expected = PLAYED[case]
    rests, seconds = [rest for rest, _ in chains], [each for _, each in chains]
    assert play(rests, seconds, Speed(math.inf), slots) == pytest.approx(expected)


def test_a_chain_that_is_alone_in_the_end_is_faster_then() -> None:
    """With two at a time each takes twice as long as alone, and so alone 1.5 times."""
    ends = play([ONE, Rest(2, 2)], [10.0, 10.0], Speed(2))
    assert ends == pytest.approx([2 * 20 + 2 * 15, 2 * 20])


def test_long_runs_are_played_in_few_steps() -> None:
    steps = 50 * MOST_PLAYED
    (end,) = play([Rest(steps, steps)], [1.0], Speed(math.inf))
    assert end == pytest.approx(steps)


def test_nothing_is_said_before_there_is_a_reply_or_of_decades() -> None:
    forecast, engine = Forecast(), EngineStatus(running=1, tokens_in_flight=10)
    assert forecast.seconds_left(0, [ONE], engine) is None
    assert forecast.seconds_left(60, [ONE], engine) is None
    assert forecast.seconds_left(120, [Rest(3, 3, 1, 100)], engine) is not None
    assert forecast.seconds_left(180, [Rest(10**12, 10**12, 1, 100)], engine) is None


def test_a_reply_that_a_server_sends_in_one_piece_runs_before_it_is_seen() -> None:
    """A chain whose replies of 100 tokens take 10 seconds each has had five."""
    forecast, unseen, said = Forecast(), EngineStatus(running=0, waiting=1), None
    for second in range(52):
        done = min(5, second // 10)
        said = forecast.seconds_left(second, [Rest(9 - done, 9 - done, done, 100 * done)], unseen)
    assert said == pytest.approx([40], rel=0.2)


def test_the_time_in_which_an_engine_stands_still_is_not_its_speed() -> None:
    forecast, working = Forecast(), EngineStatus(running=1)
    for second in range(50):
        done = second // 10
        forecast.seconds_left(second, [Rest(9 - done, 9 - done, done, 100 * done)], working)
    still = EngineStatus(running=0, waiting=1, waits="a server: HTTP 503")
    for second in range(50, 350):
        forecast.seconds_left(second, [Rest(4, 4, 5, 500)], still)
    (said,) = forecast.seconds_left(351, [Rest(4, 4, 5, 500)], working) or [0.0]
    assert said == pytest.approx(40, rel=0.25)


def test_an_engine_that_has_become_slower_is_taken_as_it_is_now() -> None:
    """A shared machine: of 10 tokens a second one is left, in the middle of a reply."""
    forecast, tokens = Forecast(), 0.0
    for second in range(720):
        tokens += 10 if second < 420 else 1
        done, so_far = divmod(int(tokens), 1000)
        engine = EngineStatus(running=1, tokens_in_flight=so_far)
        said = forecast.seconds_left(second, [Rest(5 - done, 5 - done, done, 1000 * done)], engine)
    assert said is not None
    assert said[0] == pytest.approx(5000 - tokens, rel=0.25)
