r"""The program that compares expressions: `comparer.py SECONDS BYTES`, started by `worker`.

It writes `ready`, then answers every line of its input, a JSON pair (gold, other), with a line:
`same`, `different` or `undecided`. What compares is a fork of the warm program, so that the next
one takes no time to start. The kernel kills a fork after SECONDS of processor time on one pair,
whatever it is doing and whether or not anyone still waits for it; BYTES bounds its address space.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import resource
import signal
import sys
from functools import lru_cache

from math_verify import LatexExtractionConfig, parse, verify

# One of each kind, to load and warm what comparing needs.
WARM = (
    (r"\frac{\sqrt{3}}{2}", r"\cos\frac{\pi}{6}"),
    (r"x^2+2x+1", r"(x+1)^2"),
    (r"\{1, 2\}", r"(1, 2]"),
    (r"x = 3", r"x \le 2.5\%"),
    (r"\begin{pmatrix}1 & 2\end{pmatrix}", r"\binom{5}{2} + 3! + \log_2 8 - i"),
    (r"(-\infty, 2) \cup [3, 7)", r"\text{none}"),
)
LIFE = 1000  # comparisons of one fork
SAME, LAST = 1, 2  # bits of a fork's reply


def same(gold: str, other: str) -> bool:
    """math-verify's verdict. Raises ValueError, MemoryError, RecursionError, ..."""
    return bool(verify(parsed(gold), parsed(other), timeout_seconds=None))


@lru_cache(1000)
def parsed(text: str) -> list[object]:
    """The expression, then its normalised text, which is all there is where it cannot be parsed.

    A sentence's punctuation at the end is dropped; with it nothing can be parsed.
    """
    text = re.sub(r"(?<!\\)[.,;:\s]+$", "", text)
    config = [LatexExtractionConfig(boxed_match_priority=0)]
    expressions: list[object] = parse(rf"\boxed{{{text}}}", config, parsing_timeout=None)
    return expressions


class Fork:
    """Compares pairs until one kills it, or until it has grown old or large."""

    def __init__(self, seconds: float, memory: int) -> None:
        requests, asks = os.pipe()
        self._answers, replies = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            try:
                os.close(asks)
                os.close(self._answers)
                serve(requests, replies, seconds, memory)
            finally:
                os._exit(1)
        os.close(requests)
        os.close(replies)
        self._asks = os.fdopen(asks, "w")

    def ask(self, line: str) -> int | None:
        """Its reply; None where it died of this line."""
        self._asks.write(line)
        self._asks.flush()
        reply = os.read(self._answers, 1)
        return reply[0] if reply else None

    def end(self) -> None:
        self._asks.close()
        os.close(self._answers)
        os.waitpid(self._pid, 0)


def serve(requests: int, replies: int, seconds: float, memory: int) -> None:
    for served, line in enumerate(os.fdopen(requests), 1):
        signal.setitimer(signal.ITIMER_PROF, seconds)  # nothing handles it: it kills
        verdict = same(*json.loads(line))
        signal.setitimer(signal.ITIMER_PROF, 0)
        held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        last = served == LIFE or held > memory // 4
        os.write(replies, bytes([SAME * verdict | LAST * last]))


def main() -> None:
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    for gold, other in WARM:
        same(gold, other)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # up to here the parent reads what went wrong
    print("ready", flush=True)
    gc.freeze()  # a fork that collects would copy every page it shares
    fork: Fork | None = None
    for line in sys.stdin:
        fork = fork or Fork(seconds, memory)
        reply = fork.ask(line)
        if reply is None or reply & LAST:
            fork.end()
            fork = None
        verdict = "undecided" if reply is None else "same" if reply & SAME else "different"
        print(verdict, flush=True)


if __name__ == "__main__":
    main()
