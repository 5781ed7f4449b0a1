"""Drafts on paper (benchmarks/reuse.py) against hand computation and a slow reference."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from results_on_disk import ours, published

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import drafted  # noqa: E402
import reuse  # noqa: E402
import suffixes  # noqa: E402
import unchanged  # noqa: E402
from suffixes import Drafts, Text  # noqa: E402


def text(chain: int, step: int, prompt: str, reply: str) -> Text:
    """A rollout whose tokens are characters."""
    prompt_ids, reply_ids = (np.array([ord(c) for c in each], np.int32) for each in (prompt, reply))
    return Text(chain, step, prompt_ids, reply_ids)


# The rollouts; the source; then of the last one, by position: matched, proposed, accepted.
TABLE = [
    # After "a" nothing has two tokens that occurred; after "ab" the prompt goes on with "cd-".
    ("prompt", [(0, 0, "abcd-", "abcx")], "0023", "0033", "0010"),
    # A draft ends where the text known so far ends: "ab" is all that follows the first "ab".
    ("prompt", [(0, 0, "", "ababab")], "000023", "000022", "000021"),
    # The latest of two equal matches is the one: "abY", not "abX".
    ("prompt", [(0, 0, "abXabY.", "abY")], "002", "003", "001"),
    # The longest match is the one, however old: "zab" before X.
    ("prompt", [(0, 0, "zabX-abY.", "zabX")], "0023", "0033", "0021"),
    # The context of the first token is the prompt's end.
    ("prompt", [(0, 0, "abcab", "c")], "2", "3", "1"),
    # Replies of earlier steps count for the chain; their prompts do not.
    ("prompt", [(0, 0, "mnop", "abcd"), (0, 1, "", "abcd")], "0000", "0000", "0000"),
    ("chain", [(0, 0, "mnop", "abcd"), (0, 1, "", "abcd")], "0023", "0021", "0021"),
    ("chain", [(0, 0, "mnop", "abcd"), (0, 1, "", "mnop")], "0000", "0000", "0000"),
    # Another chain's do not, but for `all`; nor does one of the same step.
    ("chain", [(1, 0, "", "abcd"), (0, 1, "", "abcd")], "0000", "0000", "0000"),
    ("all", [(1, 0, "", "abcd"), (0, 1, "", "abcd")], "0023", "0021", "0021"),
    ("all", [(1, 1, "", "abcd"), (0, 1, "", "abcd")], "0000", "0000", "0000"),
    ("chain", [(0, 1, "", "abcd"), (0, 1, "", "abcd")], "0000", "0000", "0000"),
    # Between equal matches the own text wins, a longer one wins anywhere.
    ("chain", [(0, 0, "", "abX"), (0, 1, "abY.", "abY")], "002", "003", "001"),
    ("chain", [(0, 0, "", "zabX"), (0, 1, "abY.", "zabX")], "0023", "0021", "0021"),
    # No match reaches from one reply into the next.
    ("all", [(0, 0, "", "xa"), (1, 0, "", "bc"), (0, 1, "", "abc")], "000", "000", "000"),
    # The latest earlier step's reply is the one.
    ("chain", [(0, 0, "", "abX"), (0, 1, "", "abY"), (0, 2, "", "abY")], "002", "001", "001"),
]


@pytest.mark.parametrize(("source", "rollouts", "matched", "proposed", "accepted"), TABLE)
def test_what_each_source_drafts(
    source: str,
    rollouts: Sequence[tuple[int, int, str, str]],
    matched: str,
    proposed: str,
    accepted: str,
) -> None:
    texts = [text(*each) for each in rollouts]
    drafted = suffixes.from_all_sources(texts, (2, 4), 3)[source][-1]
    assert ["".join(map(str, each)) for each in drafted] == [matched, proposed, accepted]


def slow(texts: Sequence[Text], source: str, span: tuple[int, int], most: int) -> list[Drafts]:
    """The definition, read off directly."""
    result = []
    for own in texts:
        reply = own.reply.tolist()
        rows = []
        for at in range(len(reply)):
            context = [*own.prompt.tolist(), *reply[:at]]
            best = (0, 0, [])  # matched, whether the own text, draft
            for step, other in [(None, None), *((t.step, t) for t in texts)]:
                if other is None:
                    body, suffix = context, context
                elif step < own.step and (source == "all" or other.chain == own.chain):
                    body, suffix = other.reply.tolist(), reply[:at]
                else:
                    continue
                if other is not None and source == "prompt":
                    continue
                for end in range(len(body)):
                    if other is None and end == len(body) - 1:
                        continue
                    for size in range(span[1], span[0] - 1, -1):
                        same = body[max(0, end - size + 1) : end + 1] == suffix[-size:]
                        if size <= min(end + 1, len(suffix)) and same:
                            draft = body[end + 1 : end + 1 + most]
                            better = size > best[0] or (
                                size == best[0] and best[1] == (other is None)
                            )
                            if better:
                                best = (size, other is None, draft)
                            break
            right = 0
            while (
                right < len(best[2])
                and best[2][right : right + 1] == reply[at + right : at + right + 1]
            ):
                right += 1
            rows.append((best[0], len(best[2]), right))
        result.append(rows)
    return result


@pytest.mark.parametrize("seed", range(20))
def test_it_is_what_the_definition_says(seed: int) -> None:
    rng = random.Random(seed)
    letters = "abc" if seed % 2 else "abcdef"
    texts = [
        text(chain, step, *("".join(rng.choices(letters, k=rng.randint(0, 12))) for _ in "pr"))
        for step in range(3)
        for chain in range(3)
    ]
    span, most = (rng.randint(1, 2), rng.randint(2, 5)), rng.randint(1, 4)
    for source, each_source in suffixes.from_all_sources(texts, span, most).items():
        assert [list(zip(*each, strict=True)) for each in each_source] == slow(
            texts, source, span, most
        )


def test_decoding_jumps_over_what_it_accepted() -> None:
    """Seven tokens, by hand: a step without a draft, one that accepts 3 of 3 and adds its own, one
    that accepts nothing of 2, and one whose draft reaches the end of the reply."""
    one = Drafts(
        np.array([0, 2, 9, 9, 9, 2, 2]),
        np.array([0, 3, 9, 9, 9, 2, 3]),
        np.array([0, 3, 9, 9, 9, 0, 1]),
    )
    sums = [int(count.sum()) for count in suffixes.walk([one], 8)]
    assert sums == [4, 3, 8, 4, 7]  # engine steps, drafted, proposed, accepted, emitted
    # At most one token each: the second step ends two positions earlier, and one more follows.
    short = suffixes.walk([one], 1)
    assert [int(count.sum()) for count in short] == [5, 4, 4, 3, 7]


def test_decoding_counts_by_position() -> None:
    nothing = Drafts(*(np.zeros(70, np.int8) for _ in range(3)))
    empty = Drafts(*(np.zeros(0, np.int8) for _ in range(3)))
    walked = suffixes.walk([nothing, empty], 4)
    assert walked.steps.tolist() == [[64, 6, 0, 0, 0, 0], [0] * 6]
    assert walked.emitted.tolist() == walked.steps.tolist()


def test_rows_say_what_was_saved() -> None:
    texts = [text(0, 0, "", "abcdef"), text(0, 1, "", "abcdef")]
    rows = {(r.source, r.draft, r.of): r for r in reuse.rows(texts, (2, 4), [2, 4], 4)}
    second = rows["chain", 4, "step 1"]
    # a, b, then "cdef" at once: three engine steps for six tokens.
    assert (second.tokens, second.tokens_per_step, second.right) == (6, 2.0, round(4 / 6, 4))
    assert (second.accepted, second.drafted) == (4.0, round(1 / 3, 4))
    assert second.checked_per_step == round(1 + 4 / 3, 3)
    # Drafts of two: a, b, cd and e, f: four engine steps.
    assert rows["chain", 2, "all"].tokens_per_step == 1.2
    assert rows["chain", 4, "step 0"].tokens_per_step == 1.0
    assert rows["prompt", 4, "all"].tokens_per_step == 1.0
    assert rows["chain", 4, "token 0 to 63"].tokens == 12


def test_steps_are_shown_in_ranges() -> None:
    steps = np.arange(10)
    named = {name: int(those.sum()) for name, those in reuse.step_ranges(steps)}
    assert named == {"0": 1, "1": 1, "2 to 3": 2, "4 to 7": 4, "8 to 15": 2}


def words(folder: Path) -> Path:
    """A tokenizer's folder: a token for each word."""
    vocabulary = {"[UNK]": 0, "Thinking": 1, ".": 2, "</": 3, "think": 4, "boxed": 5, "Answer": 6}
    folder.mkdir()
    kinds = {"model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"}}
    parts = {"pre_tokenizer": {"type": "Whitespace"}, "version": "1.0", "added_tokens": []}
    empty = dict.fromkeys(("normalizer", "post_processor", "decoder", "truncation", "padding"))
    (folder / "tokenizer.json").write_text(json.dumps({**empty, **parts, **kinds}))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"})
    )
    return folder


def write(folder: Path, step: int, records: Sequence[object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    whole = [{"accuracy": 0}, *records]
    (folder / f"predictions_{step}.json").write_text(json.dumps(whole))


def test_the_program_reads_the_published_codes_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "vllm_1024_" / "model"
    for step in range(2):
        write(run, step, [published(0, 1, 1), published(1, 2, None)])
    reuse.main([str(run), "--tokenizer", str(words(tmp_path / "words"))])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["rollouts"], figures["chains"], figures["run"]) == (4, 2, str(run))
    assert figures["reply_tokens"] == sum(
        row["tokens"]
        for row in figures["rows"]
        if row["of"].startswith("step") and row["source"] == "all"
    )


@pytest.mark.parametrize(
    ("arguments", "words_shown"),
    [
        (["nowhere"], "contains no results"),
        (["run"], "as --tokenizer"),
        (["run", "--tokenizer", "empty"], "Cannot load a tokenizer from empty"),
        (["."], "holds 2 runs: name one"),
        (["empty", "--tokenizer", "words"], "holds no replies"),
        (["run", "--match", "4", "2"], "the shortest match comes first"),
    ],
)
def test_a_mistake_is_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words_shown: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "run", 0, [published(0, 1, 1)])
    write(tmp_path / "empty", 0, [published(0, 1, 1, pred_solution="")])
    words(tmp_path / "words")
    with pytest.raises(SystemExit) as ended:
        reuse.main(arguments)
    assert ended.value.code == 2
    assert words_shown in capsys.readouterr().err


def test_failed_and_repeated_rollouts_are_left_out(tmp_path: Path) -> None:
    from kflow.results.rollout import to_json

    records = [ours(0, 1, 1), ours(1, 2, None, failure="refused"), ours(2, 3, 3, repeats_step=0)]
    write(tmp_path, 0, [json.loads(to_json(record)) for record in records])
    texts = reuse.texts_of(tmp_path, str(words(tmp_path / "words")))
    assert len(texts) == 1


def test_two_samples_are_compared_by_prompt() -> None:
    """Variances of the means: 2 / 2 and 0 in each sample, so an error of sqrt(2) over 2 prompts."""
    plain = {"a": [0.0, 2.0], "b": [1.0, 1.0]}
    drafts = {"a": [1.0, 3.0], "b": [2.0, 2.0]}
    differences = unchanged.compare(plain, drafts)
    assert (differences.plain, differences.drafts, differences.difference) == (1, 2, 1)
    assert differences.error == pytest.approx(0.5**0.5, abs=1e-5)
    assert differences.p == pytest.approx(0.1573, abs=1e-4)
    assert differences.detectable == pytest.approx(2.8 * 0.5**0.5, abs=1e-5)
    same = unchanged.compare({"a": [1.0, 1.0]}, {"a": [1.0, 1.0]})
    assert (same.difference, same.p) == (0, 1)


@pytest.mark.parametrize(
    ("drafts", "tokens", "right"),
    [([], [1], 0), ([1, 2, 3], [1, 2, 4], 2), ([2], [1, 2], 0), ([1, 2], [1, 2, 3, -1], 2)],
)
def test_drafts_are_right_up_to_the_first_that_is_not(
    drafts: list[int], tokens: list[int], right: int
) -> None:
    assert drafted.agreeing(drafts, tokens) == right


def test_a_reply_repeats_what_its_prompt_and_itself_had_written() -> None:
    case = unchanged.Case([1, 2, 3, 4, 5, 6], 7)
    measures = unchanged.measured(case, unchanged.Reply([1, 2, 3, 4], r"\boxed{7}"))
    assert measures == {"right": 1.0, "tokens": 4.0, "repeated": 0.5}
    none = unchanged.measured(case, unchanged.Reply([], ""))
    assert none == {"right": 0.0, "tokens": 0.0, "repeated": 0.0}
