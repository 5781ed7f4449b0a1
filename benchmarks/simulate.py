"""How long a study takes on one node, and what each way of ordering its rollouts costs.

    python benchmarks/simulate.py [--num_seeds 1 8] [--max_num_seqs 64] [--v1 200] [--b0 64] ...

A study is problems x seeds chains of `steps` rollouts; a rollout starts when the one before it in
its chain has ended. The schedules:

    free                 every chain goes on at once, all seeds in one engine (what the scripts do)
    free_longest_first   free, but where chains must wait for --max_num_seqs, the one with the most
                         expected work left goes first instead of the one that came first
    barrier              all seeds in one engine; every step waits for all of its rollouts
    barrier_one_by_one   one barrier run per seed, one after another
    bound                no schedule is faster: the same tokens without any dependencies

The model: when b sequences run, each decodes v1 / (1 + b / b0) tokens/s, so that the node gives
b times that, at most v1 * b0 (processor sharing with a saturating batch). It follows that a run
takes path / v1 + tokens / (v1 * b0) seconds, where path is what a sequence running from start to
end would have decoded: schedules differ in their path only, and without --max_num_seqs the path
of `free` is the longest chain, which no order can shorten.

Lengths are lognormal; a share of the variance of log(length) belongs to the problem, whatever the
step and seed, the rest to the single rollout. Draws are paired: every schedule, and every number
of seeds, works on the same lengths.

Left out: prefill and its chunking, prefix caching, KV cache limits and preemption, the slowing of
attention with length, the time between rollouts, starting the engine, and any trend of lengths
over steps. The default v1, b0 and lengths are round ASSUMPTIONS for gpt-oss-120b on 8 GPUs, not
measurements: put your own in. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from heapq import heappop, heappush
from importlib.util import find_spec
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from kflow.flags import Parser, between

MOST_ROLLOUTS = 10_000_000  # 0.4 GB

Chain = Sequence[float]  # tokens of each of its rollouts
Study = Sequence[Sequence[Chain]]  # [seed][problem][step]
Urgency = Callable[[int, int, float], float]  # rollouts left, rollouts done, tokens spent


@dataclass(frozen=True)
class Node:
    """v1: tokens/s of a sequence as the batch goes to 0. b0: the batch that halves it.

    max_num_seqs: sequences that run at a time, the others wait; None: as many as there are.
    """

    v1: float
    b0: float
    max_num_seqs: int | None = None

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
    """Where reply lengths come from. median, longest: tokens. sigma: of log(length).

    share: of sigma squared, what belongs to the problem. Longer replies are cut at `longest`.
    """

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


def longest_first(median: float) -> Urgency:
    """Expected tokens left: rollouts left times the chain's mean so far, at first `median`."""
    return lambda left, done, spent: left * (spent / done if done else median)


def simulate(chains: Sequence[Chain], node: Node, urgency: Urgency = lambda *_: 0.0) -> Outcome:
    """Run chains without barriers, from event to event; O(n log n) in the number of rollouts.

    All running sequences are equally fast, so one clock of tokens per sequence serves them all: a
    rollout of n tokens started at clock c ends at c + n, and the next event is the least such end.
    The queue is in order of urgency (as of arrival), then of arrival; what ends at one event makes
    room and queues up, in the order of chains, before anything starts.
    """
    limit = node.max_num_seqs or len(chains)
    running: list[tuple[float, int]] = []  # heap of (clock at the end, chain)
    waiting: list[tuple[float, int, int]] = []  # heap of (-urgency, arrival, chain)
    done, spent = [0] * len(chains), [0.0] * len(chains)
    clock, seconds, tokens = 0.0, 0.0, 0.0
    arrivals = count()
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
    """The median of all lengths stands for chains that have not begun."""
    chains = together(study)
    median = statistics.median(length for chain in chains for length in chain)
    return simulate(chains, node, longest_first(median))


def barrier(study: Study, node: Node) -> Outcome:
    steps = zip(*together(study), strict=True)
    return one_after_another([simulate([[length] for length in step], node) for step in steps])


def barrier_one_by_one(study: Study, node: Node) -> Outcome:
    return one_after_another([barrier([problems], node) for problems in study])


def bound(study: Study, node: Node) -> Outcome:
    """All tokens submitted at once, no dependencies.

    With max_num_seqs the queue's order would matter and could be worse than `free`; so that
    nothing beats the bound, the order is taken to be perfect: the path is the longest rollout
    or an even share of all tokens, whichever is more.
    """
    lengths = [length for chain in together(study) for length in chain]
    tokens = sum(lengths)
    path = max(max(lengths), tokens / (node.max_num_seqs or len(lengths)))
    return Outcome(path / node.v1 + tokens / (node.v1 * node.b0), tokens)


Schedule = Callable[[Study, Node], Outcome]
SCHEDULES: dict[str, Schedule] = {
    schedule.__name__: schedule
    for schedule in (bound, free, free_longest_first, barrier, barrier_one_by_one)
}


def draw(lengths: Lengths, problems: int, steps: int, seeds: int, key: str) -> Study:
    """Whole tokens, at least 1. The same key gives the same normal deviates whatever the share."""
    normal = random.Random(key).gauss
    difficulty = [normal(0, 1) for _ in range(problems)]
    ours = lengths.sigma * math.sqrt(lengths.share)
    other = lengths.sigma * math.sqrt(1 - lengths.share)
    top = math.log(lengths.longest)

    def rollout(problem: float) -> int:
        log = math.log(lengths.median) + ours * problem + other * normal(0, 1)
        return min(lengths.longest, max(1, round(math.exp(min(log, top)))))

    return [[[rollout(p) for _ in range(steps)] for p in difficulty] for _ in range(seeds)]


def spread(values: Sequence[float]) -> Spread:
    return Spread(statistics.fmean(values), min(values), max(values))


def rows_of(share: float, seeds: int, studies: Sequence[Study], node: Node) -> list[Row]:
    """One row per schedule, from the first `seeds` seeds of each draw's study."""
    hours = {
        name: [schedule(study[:seeds], node).seconds / 3600 for study in studies]
        for name, schedule in SCHEDULES.items()
    }

    def over(numerator: str, denominator: str) -> Spread:
        pairs = zip(hours[numerator], hours[denominator], strict=True)
        return spread([a / b for a, b in pairs])

    return [
        Row(share, seeds, s, spread(hours[s]), over(s, "bound"), over("barrier_one_by_one", s))
        for s in SCHEDULES
    ]


def compare(flags: argparse.Namespace) -> list[Row]:
    node = Node(flags.v1, flags.b0, flags.max_num_seqs)
    rows = []
    for share in flags.difficulty_share:
        lengths = Lengths(flags.median_tokens, flags.sigma, share, flags.max_tokens)
        sizes = flags.problems, flags.steps, max(flags.num_seeds)
        studies = [draw(lengths, *sizes, f"{flags.seed}/{d}") for d in range(flags.draws)]
        for seeds in flags.num_seeds:
            rows += rows_of(share, seeds, studies, node)
    return rows


def table(rows: Sequence[Row]) -> str:
    def line(*cells: object) -> str:
        return "{:>5}  {:>5}  {:<18}  {:>24}  {:>19}  {:>19}".format(*map(str, cells))

    lines = [line("share", "seeds", "schedule", "hours", "ratio to bound", "speed-up")]
    for row in rows:
        lines += [""] if row.schedule == "bound" else []
        lines.append(line(*vars(row).values()))
    return "\n".join(lines)


def plot(rows: Sequence[Row], file: str) -> None:
    """Hours by number of seeds, a line per schedule, a panel per difficulty share."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shares = list(dict.fromkeys(row.difficulty_share for row in rows))
    figure, panels = pyplot.subplots(
        1, len(shares), figsize=(5 * len(shares), 4), sharey=True, squeeze=False
    )
    for share, panel in zip(shares, panels[0], strict=True):
        for name in SCHEDULES:
            mine = [r for r in rows if (r.difficulty_share, r.schedule) == (share, name)]
            panel.plot([r.num_seeds for r in mine], [r.hours.mean for r in mine], "o-", label=name)
        panel.set(title=f"difficulty share {share:g}", xlabel="seeds", ylabel="hours")
    panels[0][0].legend()
    figure.savefig(file, bbox_inches="tight")


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    positive, rate = between(int, 1, 10**9), between(float, 0.001, 1e9)
    add = parser.add_argument
    add("--problems", type=positive, default=30, help="(%(default)s)")
    add("--steps", type=positive, default=64, help="rollouts per chain (%(default)s)")
    add("--num_seeds", type=positive, nargs="+", default=[1, 2, 4, 8], help="(1 2 4 8)")
    add("--median_tokens", type=between(float, 1, 1e9), default=20_000, help="assumed: %(default)s")
    add("--sigma", type=between(float, 0, 10), default=0.8, help="assumed: %(default)s")
    share = between(float, 0, 1)
    add("--difficulty_share", type=share, nargs="+", default=[0.5, 0.9], help="assumed: 0.5 0.9")
    add("--v1", type=rate, default=200, help="tokens/s of a sequence alone; assumed: %(default)s")
    add("--b0", type=rate, default=64, help="batch that halves v1; assumed: %(default)s")
    add("--max_num_seqs", type=positive, help="sequences running at a time (no limit)")
    add("--max_tokens", type=positive, default=117_964, help="of a reply (%(default)s)")
    add("--draws", type=positive, default=5, help="studies drawn per setting (%(default)s)")
    add("--seed", type=between(int, 0), default=0, help="of the lengths (%(default)s)")
    add("--plot", metavar="FILE.png", help="draw hours by number of seeds; needs matplotlib")
    flags = parser.parse_args(argv)
    flags.num_seeds = sorted(set(flags.num_seeds))
    flags.difficulty_share = sorted(set(flags.difficulty_share))
    if flags.problems * flags.steps * flags.num_seeds[-1] * flags.draws > MOST_ROLLOUTS:
        parser.error(f"problems x steps x seeds x draws must be at most {MOST_ROLLOUTS:,}")
    if flags.plot is not None:
        if not (flags.plot.endswith(".png") and Path(flags.plot).parent.is_dir()):
            parser.error("argument --plot: must be a .png file in a folder that exists")
        if find_spec("matplotlib") is None:
            parser.error("argument --plot: needs matplotlib, which is not installed")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse(argv)
    rows = compare(flags)
    print(table(rows) + "\n")
    figures = {"benchmark": "simulate", **vars(flags), "rows": [asdict(row) for row in rows]}
    print(json.dumps(figures))
    if flags.plot is not None:
        try:
            plot(rows, flags.plot)
        except OSError as error:
            print(f"Could not write the plot ({error}).", file=sys.stderr)
            sys.exit(2)


if __name__ == "__main__":
    main()
