"""How much of a reply repeats its prompt, its chain or the whole run: what speculative decoding
could draft without a draft model, computed from saved replies; no engine, no GPU.

    python benchmarks/reuse.py RUN [--tokenizer FOLDER_OR_NAME] [--match 2 8] [--drafts 1 2 4 8 16]

RUN: a results folder, this program's or the published code's. The decoding of every reply is
replayed: before each engine step the context's longest suffix of --match tokens that occurred
before is looked up, what followed its latest occurrence is the draft, and its prefix that equals
the saved reply is accepted; the engine adds one token of its own. Drafts come from

    prompt  the prompt and the reply so far
    chain   those and the replies of the chain's earlier steps
    all     those and the replies of all chains' earlier steps (in a run without a barrier a chain
            may be ahead of another: ignored here)

The longer match counts; of equal ones, that in prompt and reply so far. A saved reply stands for
what would be sampled: exact at temperature 0, otherwise the expected acceptance of a deterministic
draft. Saved replies hold no special tokens, so these are not counted.
Needs --tokenizer unless the replies are gpt-oss's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from suffixes import EDGES, Ints, Span, Text, Walked, from_all_sources, walk

from kflow.flags import between
from kflow.ground.program import Parser
from kflow.ground import hub
from kflow.ground.terminal import first_line, say
from kflow.results import reading
from kflow.results.find import find, find_places
from kflow.types import UserError

Encode = Callable[[str], Sequence[int]]

SOURCES = ("prompt", "chain", "all")


@dataclass(frozen=True)
class Row:
    """tokens_per_step: of the engine; checked_per_step: the tokens it computes for them; both are 1
    without drafts. right: share of all tokens that a draft had proposed rightly. accepted: mean
    tokens of a draft that were right. drafted: share of engine steps that had one."""

    source: str
    draft: int
    of: str
    tokens: int
    tokens_per_step: float
    checked_per_step: float
    right: float
    accepted: float
    drafted: float


def row(source: str, draft: int, of: str, walked: Walked) -> Row:
    steps, drafted, proposed, accepted, emitted = (int(count.sum()) for count in walked)
    return Row(
        source,
        draft,
        of,
        emitted,
        round(emitted / max(1, steps), 3),
        round(1 + proposed / max(1, steps), 3),
        round(accepted / max(1, emitted), 4),
        round(accepted / max(1, drafted), 3),
        round(drafted / max(1, steps), 4),
    )


def step_ranges(steps: Ints) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    """Step 0, 1, 2 to 3, 4 to 7...: the rollouts of each."""
    low, high = 0, 0
    while low <= steps.max(initial=0):
        name = str(low) if low == high else f"{low} to {high}"
        yield name, (low <= steps) & (steps <= high)
        low, high = high + 1, max(1, 2 * high + 1)


def rows(texts: Sequence[Text], span: Span, sizes: Sequence[int], shown: int) -> list[Row]:
    """By draft length, then for drafts of `shown` tokens by step and by position."""
    by_source = from_all_sources(texts, span, max(sizes))
    steps = np.array([text.step for text in texts], np.int64)
    result = []
    for source in SOURCES:
        walked = {size: walk(by_source[source], size) for size in sizes}
        result += [row(source, size, "all", walked[size]) for size in sizes]
        for name, those in step_ranges(steps):
            part = Walked(*(count[those] for count in walked[shown]))
            result.append(row(source, shown, f"step {name}", part))
        for number, low in enumerate(EDGES):
            high = f"{EDGES[number + 1] - 1:,}" if number + 1 < len(EDGES) else "on"
            part = Walked(*(count[:, number : number + 1] for count in walked[shown]))
            if part.emitted.sum():
                result.append(row(source, shown, f"token {low:,} to {high}", part))
    return result


def table(results: Sequence[Row]) -> str:
    def line(*cells: object) -> str:
        return "{:<7} {:>5}  {:<22} {:>12} {:>12} {:>12} {:>7} {:>9} {:>8}".format(*map(str, cells))

    heads = ("source", "draft", "of", "tokens", "tokens/step", "checked/step")
    lines = [line(*heads, "right", "accepted", "drafted")]
    for before, each in zip([None, *results], results, strict=False):
        lines += [""] if before is not None and before.source != each.source else []
        lines.append(line(*vars(each).values()))
    return "\n".join(lines)


def tokenizer(name: str | None, family: str) -> Encode:
    """Text -> token ids, special tokens read as such. Raises UserError."""
    if name is None and family == "gpt_oss":
        import openai_harmony as harmony

        encoding = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
        return lambda text: list(encoding.encode(text, allowed_special="all"))
    if name is None:
        raise UserError("Give the model's folder or hub name as --tokenizer.")
    hub.prepare()
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # whatever a broken folder or a closed network raises
        raise UserError(
            f"Cannot load a tokenizer from {name} ({first_line(error)}): give a folder that holds "
            "one, or a hub name with the network up."
        ) from error
    return lambda text: list(loaded.encode(text, add_special_tokens=False, verbose=False))


def texts_of(folder: Path, name: str | None) -> list[Text]:
    """A run's rollouts in the order of their steps, without those that failed or repeat another.
    Raises UserError."""
    encode: Encode | None = None
    chains: dict[tuple[int, str], int] = {}
    texts = []
    for seed, place in find_places(folder, []).items():
        for step, path in sorted(place.predictions.items()):
            try:
                for record in reading.read_records(path):
                    chain = chains.setdefault((seed, record.id), len(chains))
                    encode = encode or tokenizer(name, record.family)
                    texts += [
                        Text(chain, step, ids(encode(each.question)), ids(encode(each.reply)))
                        for each in record.slots
                        if each.failure is None and each.repeats_step is None
                    ]
            except (reading.Damaged, OSError) as error:
                raise UserError(
                    f"Cannot read {path} ({first_line(error)}): move it away."
                ) from error
    if not any(len(text.reply) for text in texts):
        raise UserError(f"{folder} holds no replies: name a run that has some.")
    return sorted(texts, key=lambda text: text.step)


def ids(values: Sequence[int]) -> Ints:
    return np.array(values, np.int32)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    layout = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    size = between(int, 1, 64)
    add = parser.add_argument
    add("run", metavar="RUN")
    add("--tokenizer", metavar="FOLDER_OR_NAME", help="of the model (gpt-oss's own)")
    add("--match", type=size, nargs=2, default=[2, 8], help="shortest and longest match (2 8)")
    add("--drafts", type=size, nargs="+", default=[1, 2, 4, 8, 16], help="tokens (1 2 4 8 16)")
    add("--shown", type=size, default=8, help="draft length by step and position (%(default)s)")
    flags = parser.parse_args(argv)
    if flags.match[0] > flags.match[1]:
        parser.error("argument --match: the shortest match comes first")
    flags.drafts = sorted({*flags.drafts, flags.shown})
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse(argv)
    begun = time.perf_counter()
    try:
        (folder, *others) = find([flags.run]).folders
        if others:
            raise UserError(f"{flags.run} holds {1 + len(others)} runs: name one of them.")
        texts = texts_of(folder, flags.tokenizer)
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    results = rows(texts, tuple(flags.match), flags.drafts, flags.shown)
    figures = {
        "benchmark": "reuse",
        "run": str(flags.run),
        "match": flags.match,
        "rollouts": len(texts),
        "chains": len({text.chain for text in texts}),
        "reply_tokens": sum(len(text.reply) for text in texts),
        "prompt_tokens": sum(len(text.prompt) for text in texts),
        "rows": [asdict(each) for each in results],
        "seconds": round(time.perf_counter() - begun, 1),
    }
    say(table(results) + "\n")
    say(json.dumps(figures))


if __name__ == "__main__":
    main()
