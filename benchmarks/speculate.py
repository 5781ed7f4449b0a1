"""How much time drafts save on a real engine.

    python benchmarks/speculate.py --model_name FOLDER [--speculate ngram] [--run RUN]

Runs the mistakes list through the real loop with every reply forced to a recorded text, so that no
figure depends on the replies: with drafts, without, without, with, each in a process of its own.
The texts are those of RUN, a results folder of
vllm_kflow_qwen.py on the same problems, with at least as many steps and seeds, of this model or of
another. Without RUN an untimed first pass makes them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from drafted import Texts, apart, rollouts, work
from reuse import tokenizer

from kflow.flags import Parser, between
from kflow.settings import Settings


def texts_in(folder: Path, model: str) -> Texts:
    encode = tokenizer(model, "")
    return {
        (each.id, seed, step, each.slot): encode(each.reply)
        for seed, step, each in rollouts(folder)
    }


def benchmark(settings: Settings, choice: str, run: Path | None) -> dict[str, object]:
    texts = apart(work, settings)[0] if run is None else texts_in(run, settings.model_name)
    runs = [
        apart(work, replace(settings, speculate=each), texts)
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
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    whole = between(int, 1, 10**6)
    add = parser.add_argument
    add("--model_name", required=True)
    add("--speculate", default="ngram", help="as the scripts take it (%(default)s)")
    add("--run", type=Path, metavar="RUN", help="where the texts are (made by a first pass)")
    add("--dataset", default="quickstart", help="(%(default)s)")
    add("--problems", type=whole, default=8, help="the first of them (%(default)s)")
    add("--steps", type=whole, default=3, help="(%(default)s)")
    add("--num_seeds", type=whole, default=1, help="(%(default)s)")
    add("--max_num_seqs", type=whole, default=1, help="decoded at a time (%(default)s)")
    add("--max_new_tokens", type=whole, default=1024, help="(%(default)s)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    flags = parse()
    chosen = Settings(
        model_name=flags.model_name,
        dataset=flags.dataset,
        limit=flags.problems,
        reflex_size=flags.steps,
        num_seeds=flags.num_seeds,
        max_num_seqs=flags.max_num_seqs,
        max_new_tokens=flags.max_new_tokens,
        enforce_eager=True,
    )
    print(json.dumps(benchmark(chosen, flags.speculate, flags.run)))
