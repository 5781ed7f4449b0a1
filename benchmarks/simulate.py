"""How long a study takes on one node, by the schedule of its rollouts.

    python benchmarks/simulate.py [--num_seeds 1 8] [--max_num_seqs 64] [--v1 200] [--b0 64] ...
    python benchmarks/simulate.py --tokens_per_step 2 --checked_per_step 4     # with --speculate

Schedules of seeds x problems chains of rollouts; each starts when the one before it has ended:

    free                 all chains in one engine, no barrier: what the scripts do
    free_longest_first   free, but where --max_num_seqs makes chains wait, most expected work first
    barrier              all chains in one engine, every step waits for all of its rollouts
    barrier_one_by_one   one barrier run per seed, one after another, as without --num_seeds
    bound                no schedule is faster: the same tokens without any dependencies

The model: when b sequences run, each decodes v1 / (1 + b / b0) tokens/s, so that the node gives
b times that, at most v1 * b0 (processor sharing with a saturating batch). It follows that a run
takes path / v1 + tokens / (v1 * b0) seconds, where path is what a sequence running from start to
end would have decoded: schedules differ in their path only, and without --max_num_seqs the path
of `free` is the longest chain, which no order can shorten. Lengths are lognormal; a share of the
variance of log(length) is the problem's, the rest the rollout's. All schedules get the same draws.

With drafts, a sequence gets `tokens_per_step` (measured ones: docs/speculation.md) from an engine
step in which `checked_per_step` tokens of it are checked. A step is as long as one in which that
many sequences get a token each: v1 grows by the first and b0 shrinks by the second. So a small
batch gains the first, a large one the first over the second, which may be less than 1; the truth
lies above, since tokens of one sequence read its KV cache once. Time for the drafts themselves is
left out.

Left out: prefill and its chunking, prefix caching, KV cache limits (--max_num_seqs can stand in),
decoding that slows with length, pauses between rollouts, starting the engine, lengths that change
over the steps. The default v1, b0 and lengths are round ASSUMPTIONS for gpt-oss-120b on 8 GPUs,
not measurements: set your own. The last line of the output is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import heappop, heappush
from importlib.util import find_spec
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from kflow.flags import between
from kflow.ground.program import Parser

Chain = Sequence[float]  # tokens of each of its rollouts
Study = Sequence[Sequence[Chain]]  # [seed][problem][step]
Urgency = Callable[[int, int, float], float]  # rollouts left, rollouts done, tokens spent


@dataclass(frozen=True)
class Node:
    """v1: tokens/s of a sequence as the batch goes to 0. b0: the batch that halves it.
    max_num_seqs: sequences that run at a time, the others wait; None: as many as there are."""

    v1: float
    b0: float
    max_num_seqs: int | None = None

    def with_drafts(self, tokens: float, checked: float) -> Node:
        """The node where a sequence gets `tokens` from an engine step that checks `checked`."""
        return replace(self, v1=self.v1 * tokens, b0=self.b0 / checked)

    def speed(self, running: int) -> float:
        """Tokens/s of each of `running` sequences."""
        return self.v1 / (1 + running / self.b0)


@dataclass(frozen=True)
class Outcome:
    """Seconds from the first start to the last end, and the tokens decoded in them."""

    seconds: float
    tokens: float


@dataclass(frozen=True)
class Lengths:
    """Tokens of replies. sigma: of their log. share: of its variance, what is the problem's."""

    median: float
    sigma: float
    share: float
    longest: int


@dataclass(frozen=True)
class Spread:
    """One figure over the draws."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.2f} ({self.low:.2f}-{self.high:.2f})"


@dataclass(frozen=True)
class Row:
    """A line of the table; ratio and speed-up are taken draw by draw."""

    difficulty_share: float
    num_seeds: int
    schedule: str
    hours: Spread
    ratio_to_bound: Spread
    speedup_over_one_by_one: Spread


def simulate(chains: Sequence[Chain], node: Node, urgency: Urgency = lambda *_: 0.0) -> Outcome:
    """Run chains without barriers, from event to event; O(n log n) in the number of rollouts.

    All running sequences are equally fast, so one clock of tokens per sequence serves them all: a
    rollout of n tokens started at clock c ends at c + n, and the next event is the least such end.
    The queue goes by urgency, then arrival; what ends together queues up before anything starts.
    """
    limit = node.max_num_seqs or len(chains)
    running: list[tuple[float, int]] = []  # heap of (clock at the end, chain)
    waiting: list[tuple[float, int, int]] = []  # heap of (-urgency, arrival, chain)
    done, spent = [0] * len(chains), [0.0] * len(chains)
    clock, seconds, tokens, arrivals = 0.0, 0.0, 0.0, count()
    ready = list(range(len(chains)))
    while True:
        for chain in ready:
            if left := len(chains[chain]) - done[chain]:
                first = urgency(left, done[chain], spent[chain])
                heappush(waiting, (-first, next(arrivals), chain))
        while waiting and len(running) < limit:
            chain = heappop(waiting)[-1]
            heappush(running, (clock + chains[chain][done[chain]], chain))
        if not running:
            return Outcome(seconds, tokens)
        passed = running[0][0] - clock
        seconds += passed / node.speed(len(running))
        tokens += passed * len(running)
        clock, ready = running[0][0], []
        while running and running[0][0] == clock:
            chain = heappop(running)[1]
            spent[chain] += chains[chain][done[chain]]
            done[chain] += 1
            ready.append(chain)


def one_after_another(outcomes: Sequence[Outcome]) -> Outcome:
    return Outcome(sum(o.seconds for o in outcomes), sum(o.tokens for o in outcomes))


def together(study: Study) -> list[Chain]:
    """All chains in the order the scripts submit them: seed by seed."""
    return [chain for problems in study for chain in problems]


def free(study: Study, node: Node) -> Outcome:
    return simulate(together(study), node)


def free_longest_first(study: Study, node: Node) -> Outcome:
    """Most urgent: rollouts left times the chain's mean length, at first the median of all."""
    chains = together(study)
    median = statistics.median(length for chain in chains for length in chain)
    return simulate(chains, node, lambda left, n, spent: left * (spent / n if n else median))


def barrier(study: Study, node: Node) -> Outcome:
    steps = zip(*together(study), strict=True)
    return one_after_another([simulate([[length] for length in step], node) for step in steps])


def barrier_one_by_one(study: Study, node: Node) -> Outcome:
    return one_after_another([barrier([problems], node) for problems in study])


def bound(study: Study, node: Node) -> Outcome:
    """All tokens at once, no dependencies, and, so that nothing is faster, a queue without loss:
    the path is the longest rollout or, with max_num_seqs, an even share of all tokens if more."""
    lengths = [length for chain in together(study) for length in chain]
    tokens = sum(lengths)
    path = max(max(lengths), tokens / (node.max_num_seqs or len(lengths)))
    return Outcome(path / node.v1 + tokens / (node.v1 * node.b0), tokens)


SCHEDULES: dict[str, Callable[[Study, Node], Outcome]] = {
    f.__name__: f for f in (bound, free, free_longest_first, barrier, barrier_one_by_one)
}


def draw(lengths: Lengths, problems: int, steps: int, seeds: int, key: str) -> Study:
    """Whole tokens, at least 1. The same key gives the same normal deviates whatever the share."""
    normal = random.Random(key).gauss
    difficulty = [normal(0, 1) for _ in range(problems)]
    ours = lengths.sigma * math.sqrt(lengths.share)
    other = lengths.sigma * math.sqrt(1 - lengths.share)

    def rollout(problem: float) -> int:
        log = math.log(lengths.median) + ours * problem + other * normal(0, 1)
        return max(1, round(math.exp(min(log, math.log(lengths.longest)))))

    return [[[rollout(p) for _ in range(steps)] for p in difficulty] for _ in range(seeds)]


def spread(values: Sequence[float]) -> Spread:
    figures = statistics.fmean(values), min(values), max(values)
    return Spread(*(float(f"{figure:.6g}") for figure in figures))


def rows_of(share: float, seeds: int, studies: Sequence[Study], node: Node) -> list[Row]:
    """One row per schedule, from the first `seeds` seeds of each draw's study."""
    hours = {
        name: [schedule(study[:seeds], node).seconds / 3600 for study in studies]
        for name, schedule in SCHEDULES.items()
    }

    def over(above: str, below: str) -> Spread:
        return spread([a / b for a, b in zip(hours[above], hours[below], strict=True)])

    return [
        Row(share, seeds, s, spread(hours[s]), over(s, "bound"), over("barrier_one_by_one", s))
        for s in SCHEDULES
    ]


def compare(flags: argparse.Namespace) -> list[Row]:
    plain, rows = Node(flags.v1, flags.b0, flags.max_num_seqs), []
    node = plain.with_drafts(flags.tokens_per_step, flags.checked_per_step)
    for share in flags.difficulty_share:
        lengths = Lengths(flags.median_tokens, flags.sigma, share, flags.max_tokens)
        sizes = flags.problems, flags.steps, flags.num_seeds[-1]
        studies = [draw(lengths, *sizes, f"{flags.seed}/{d}") for d in range(flags.draws)]
        for seeds in flags.num_seeds:
            rows += rows_of(share, seeds, studies, node)
    return rows


def table(rows: Sequence[Row]) -> str:
    def line(*cells: object) -> str:
        return "{:>5}  {:>5}  {:<18}  {:>24}  {:>19}  {:>19}".format(*map(str, cells))

    lines = [line("share", "seeds", "schedule", "hours", "ratio to bound", "speed-up")]
    for row in rows:
        lines += [*([""] if row.schedule == "bound" else []), line(*vars(row).values())]
    return "\n".join(lines)


def plot(rows: Sequence[Row], file: str) -> None:
    """Hours by number of seeds, a line per schedule, a panel per difficulty share."""
    from matplotlib.figure import Figure

    shares = list(dict.fromkeys(row.difficulty_share for row in rows))
    figure = Figure(figsize=(5 * len(shares), 4))
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)
    for share, panel in zip(shares, panels[0], strict=True):
        for name in SCHEDULES:
            mine = [r for r in rows if (r.difficulty_share, r.schedule) == (share, name)]
            panel.plot([r.num_seeds for r in mine], [r.hours.mean for r in mine], "o-", label=name)
        panel.set(title=f"difficulty share {share:g}", xlabel="seeds", ylabel="hours")
    panels[0][0].legend()
    figure.savefig(file, bbox_inches="tight")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    positive, share = between(int, 1, 10**9), between(float, 0, 1)
    rate, median = between(float, 0.001, 1e9), between(float, 1, 1e9)
    add = parser.add_argument
    add("--problems", type=positive, default=30, help="(%(default)s)")
    add("--steps", type=positive, default=64, help="rollouts per chain (%(default)s)")
    add("--num_seeds", type=positive, nargs="+", default=[1, 2, 4, 8], help="(1 2 4 8)")
    add("--median_tokens", type=median, default=20_000, help="of a reply; assumed: %(default)s")
    add("--sigma", type=between(float, 0, 10), default=0.8, help="of its log; assumed: %(default)s")
    add("--difficulty_share", type=share, nargs="+", default=[0.5, 0.9], help="assumed: 0.5 0.9")
    add("--v1", type=rate, default=200, help="tokens/s at the smallest batch; assumed: %(default)s")
    add("--b0", type=rate, default=64, help="batch that halves v1; assumed: %(default)s")
    drafts = between(float, 1, 1000)
    add("--tokens_per_step", type=drafts, default=1, help="of a sequence, with drafts (none: 1)")
    add("--checked_per_step", type=drafts, default=1, help="of a sequence, with drafts (none: 1)")
    add("--max_num_seqs", type=positive, help="sequences running at a time (no limit)")
    add("--max_tokens", type=positive, default=117_964, help="of a reply (%(default)s)")
    add("--draws", type=positive, default=5, help="studies drawn per setting (%(default)s)")
    add("--seed", type=between(int, 0), default=0, help="of the lengths (%(default)s)")
    add("--plot", metavar="FILE.png", help="draw hours by number of seeds; needs matplotlib")
    flags = parser.parse_args(argv)
    flags.num_seeds = sorted(set(flags.num_seeds))
    flags.difficulty_share = sorted(set(flags.difficulty_share))
    if flags.tokens_per_step > flags.checked_per_step:
        parser.error("argument --tokens_per_step: no more are right than --checked_per_step")
    if flags.problems * flags.steps * flags.num_seeds[-1] * flags.draws > 10_000_000:
        parser.error("problems x steps x seeds x draws must be at most 10 million")
    if flags.plot is not None and find_spec("matplotlib") is None:
        parser.error("argument --plot: needs matplotlib, which is not installed")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse(argv)
    rows = compare(flags)
    print(table(rows) + "\n")
    figures = {"parameters": vars(flags), "rows": [asdict(row) for row in rows]}
    print(json.dumps({"benchmark": "simulate", **figures}), flush=True)
    try:
        if flags.plot is not None:
            plot(rows, flags.plot)
    except (OSError, ValueError) as error:
        print(f"Could not write the plot: {error}.", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
