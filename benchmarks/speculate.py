"""How much time drafts save on a real engine.

    python benchmarks/speculate.py --model_name FOLDER [--speculate ngram] [--run RUN]

Runs the mistakes list through the real loop with every reply forced to a recorded text, so that no
figure depends on the replies: with drafts, without, without, with, each in a separate process.
The texts are those of RUN, a results folder of vllm_kflow_qwen.py on the same problems, with at
least as many steps and seeds, of any model. Without RUN an untimed first pass makes them. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from drafted import WHOLE, Texts, apart, parser, rollouts, settings_of, work
from reuse import tokenizer

from kflow.running.settings import Settings


def texts_in(folder: Path, model: str) -> Texts:
    encode = tokenizer(model, "")
    return {
        (each.id, seed, step, each.slot): encode(each.reply)
        for seed, step, each in rollouts(folder)
    }


def benchmark(settings: Settings, choice: str, run: Path | None) -> dict[str, object]:
    texts = apart(work, settings)[0] if run is None else texts_in(run, settings.model_name)
    runs = [
        apart(work, replace(settings, speculate=each, temperature=0.0), texts)
        for each in (choice, None, None, choice)
    ]
    if any(texts[place] != list(replies[place]) for replies, _ in runs for place in replies):
        raise RuntimeError("A reply was not forced to its text: the times would lie.")
    first, plain, again, last = (counts for _, counts in runs)
    return {
        "benchmark": "speculate",
        "speculate": choice,
        "rollouts": len(runs[0][0]),
        "tokens": plain.emitted,
        "drafts_seconds": [round(first.seconds, 2), round(last.seconds, 2)],
        "plain_seconds": [round(plain.seconds, 2), round(again.seconds, 2)],
        "plain_to_drafts": round(
            (plain.seconds + again.seconds) / (first.seconds + last.seconds), 3
        ),
        "tokens_per_step": first.tokens_per_step,
        "accepted": round(first.accepted / max(1, first.proposed), 3),
        "max_num_seqs": settings.max_num_seqs,
        "cpus": os.cpu_count(),
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    own = parser(__doc__, problems=8, max_num_seqs=1)
    add = own.add_argument
    add("--run", type=Path, metavar="RUN", help="where the texts are (made by a first pass)")
    add("--dataset", default="quickstart", help="(%(default)s)")
    add("--steps", type=WHOLE, default=3, help="(%(default)s)")
    add("--num_seeds", type=WHOLE, default=1, help="(%(default)s)")
    return own.parse_args(argv)


if __name__ == "__main__":
    flags = parse()
    chosen = settings_of(
        flags,
        dataset=flags.dataset,
        limit=flags.problems,
        reflex_size=flags.steps,
        num_seeds=flags.num_seeds,
    )
    print(json.dumps(benchmark(chosen, flags.speculate, flags.run)))
