"""Whether drafts change anything but time, on a real engine.

    python benchmarks/unchanged.py --model_name FOLDER --run RUN [--speculate ngram]

RUN: a results folder of vllm_kflow_qwen.py by the same model. The prompts of one of its steps are
asked with and without drafts:

equal    once each at temperature 0, one request at a time: replies that differ
sampled  --samples times each at --temperature: right answers, lengths, and the share of a reply
         that repeats its prompt or itself, which grows if wrong drafts are accepted

The means of the two samples are compared by two-sided tests stratified by prompt, each with its p
value and the difference detectable with 80 % power at the 5 % level. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from drafted import KFLOW, WHOLE, Counts, Drafted, apart, parser, rollouts, settings_of
from kflow.running.launch import recipe_of
from reuse import ids, tokenizer
from suffixes import Text, from_itself, walk

from kflow.answers import Integer
from kflow.families.chat import TemplateChat
from kflow.flags import between
from kflow.results.rollout import sampling_seed
from kflow.running.settings import Settings
from kflow.types import Answer, Key, Request

POWER = 1.96 + 0.84  # standard errors: what 80 % of the samples show at 5 %, two-sided
MEASURES = ("right", "tokens", "repeated")


@dataclass(frozen=True)
class Case:
    prompt: Sequence[int]
    gold: Answer


@dataclass(frozen=True)
class Reply:
    tokens: Sequence[int]
    text: str


Replies = dict[str, list[Reply]]  # by problem


@dataclass(frozen=True)
class Compared:
    """A mean without drafts and with them; error: the difference's standard error; p: of no
    difference; detectable: the difference seen with a power of 80 %."""

    plain: float
    drafts: float
    difference: float
    error: float
    p: float
    detectable: float


def compare(
    plain: Mapping[str, Sequence[float]], drafts: Mapping[str, Sequence[float]]
) -> Compared:
    """By prompt: the values of at least two replies in either sample. The means are over prompts,
    the difference is taken as normal."""
    means = [statistics.fmean(map(statistics.fmean, each.values())) for each in (plain, drafts)]
    variance = sum(
        statistics.variance(values) / len(values)
        for sample in (plain, drafts)
        for values in sample.values()
    )
    error, difference = math.sqrt(variance) / len(plain), means[1] - means[0]
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    figures = (*means, difference, error, p, POWER * error)
    return Compared(*(round(figure, 5) for figure in figures))


def measured(case: Case, reply: Reply) -> dict[str, float]:
    answer = Integer().extract(reply.text, KFLOW.method.rule)
    drafts = from_itself(Text(0, 0, ids(case.prompt), ids(reply.tokens)), (2, 8), 8)
    accepted = walk([drafts], 8).accepted.sum() if reply.tokens else 0
    return {
        "right": float(answer is not None and Integer().same(case.gold, answer)),
        "tokens": float(len(reply.tokens)),
        "repeated": float(accepted) / max(1, len(reply.tokens)),
    }


def ask(
    settings: Settings, prompts: Mapping[str, Case], samples: int, most: int
) -> tuple[Replies, Counts]:
    """Replies by problem, `samples` each of at most so many tokens; drafts and none do not share
    seeds."""
    problems = len(prompts)
    arguments = recipe_of(KFLOW.family, settings, None, problems).arguments
    chat = TemplateChat(settings.model_name)
    engine = Drafted(arguments, settings.sampling(chat.stop_token_ids), chat)
    of = 0 if settings.speculate is None else 1
    replies: Replies = defaultdict(list)
    with closing(engine):
        for sample in range(samples):
            for problem, case in prompts.items():
                key, seed = Key("", problem, sample, 0), sampling_seed(of, sample, problem, 0)
                engine.submit(Request(key, tuple(case.prompt), most, seed))
        while done := engine.completions():
            for each in done:
                key = each.key
                tokens = engine.replies[key.problem, key.seed, 0, 0]
                replies[key.problem].append(Reply(tokens, each.text))
    return dict(replies), engine.counts


def equal(settings: Settings, prompts: Mapping[str, Case], most: int) -> dict[str, object]:
    """settings: with drafts."""
    one = replace(settings, temperature=0.0, max_num_seqs=1)
    plain, _ = apart(ask, replace(one, speculate=None), prompts, 1, most)
    drafts, counts = apart(ask, one, prompts, 1, most)
    return {
        "equal_replies": len(plain),
        "equal_tokens": sum(len(each.tokens) for (each,) in plain.values()),
        "equal_differ": sum(plain[name] != drafts[name] for name in plain),
        "equal_tokens_per_step": counts.tokens_per_step,
    }


def sampled(
    settings: Settings, prompts: Mapping[str, Case], samples: int, most: int
) -> dict[str, object]:
    """settings: with drafts."""
    both = [
        apart(ask, replace(settings, speculate=each), prompts, samples, most)
        for each in (None, settings.speculate)
    ]
    values = [
        {
            name: {
                problem: [measured(prompts[problem], each)[name] for each in of]
                for problem, of in replies.items()
            }
            for name in MEASURES
        }
        for replies, _ in both
    ]
    return {
        "sampled_prompts": len(prompts),
        "sampled_each": samples,
        "sampled_tokens_per_step": both[1][1].tokens_per_step,
        **{
            f"sampled_{name}": asdict(compare(values[0][name], values[1][name]))
            for name in MEASURES
        },
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    own = parser(__doc__, problems=24, max_num_seqs=32)
    add = own.add_argument
    add("--run", type=Path, required=True, metavar="RUN")
    add("--parts", nargs="+", choices=("equal", "sampled"), default=["equal", "sampled"])
    add("--step", type=between(int, 0), default=1, help="of RUN (%(default)s)")
    add("--samples", type=between(int, 2, 10**4), default=40, help="per prompt (%(default)s)")
    add("--reply_tokens", type=WHOLE, default=200, help="at most (%(default)s)")
    add("--temperature", type=between(float, 0, 2), default=0.6, help="(%(default)s)")
    return own.parse_args(argv)


def benchmark(flags: argparse.Namespace) -> dict[str, object]:
    encode = tokenizer(flags.model_name, "")
    records = [each for _, step, each in rollouts(flags.run) if step == flags.step]
    prompts = {
        each.id: Case(encode(each.question), Integer().gold(each.gold))
        for each in records[: flags.problems]
    }
    if not prompts:
        sys.exit(f"{flags.run} has no step {flags.step}: give --step.")
    settings = settings_of(flags, temperature=flags.temperature, speculate=flags.speculate)
    figures: dict[str, object] = {"benchmark": "unchanged", "speculate": flags.speculate}
    if "equal" in flags.parts:
        figures |= equal(settings, prompts, flags.reply_tokens)
    if "sampled" in flags.parts:
        figures |= sampled(settings, prompts, flags.samples, flags.reply_tokens)
    return figures


if __name__ == "__main__":
    print(json.dumps(benchmark(parse())))
