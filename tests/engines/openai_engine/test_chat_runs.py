"""Whole scripts on servers that have only chat completions: what the chains learn, what is on
record of it, which flags and methods are refused, and what it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import study_oss
from helpers.fakes import ScriptedEngine, contents
from helpers.http_server import Server
from helpers.scripted import Ran, ended, refused, run_script
from helpers.served import SECRET
from helpers.talkers import LISTED, OSS, STEPS, Talker, flags, is_trial, run
from helpers.tokenizer import save_tokenizer
from kflow import study as studies
from kflow.analysis import compare
from kflow.analysis.page import report
from kflow.families.messages import BYTES_PER_TOKEN, pieces, text_of

pytestmark = pytest.mark.usefixtures("quickly")


@pytest.mark.parametrize(
    ("script", "argv"),
    [
        (OSS, []),
        ("vllm_kflow_oss24", []),
        ("vllm_kflow_oss_knowledgeRegen", []),
        ("vllm_kflow_oss_positiveKnowledge", []),
        ("vllm_oss_refine", []),
        ("vllm_oss_parallel_thinking", []),
        ("vllm_oss_rsa", ["--rollouts_per_step", "4", "--aggregate", "2"]),
        ("vllm_oss_trt", []),
        ("vllm_oss_rse", ["--attempts", "2"]),
        ("vllm_qwen_pacore", ["--rounds", "3,2"]),
        ("vllm_qwen_parallel_thinking", []),
        ("vllm_kflow_qwen_positiveKnowledge", []),
    ],
)
def test_a_chain_learns_what_it_would_from_an_engine_in_the_process(
    script: str, argv: list[str], tmp_path: Path
) -> None:
    whole = run_script(script, [*STEPS, *argv], tmp_path / "whole", ScriptedEngine())
    with Server(Talker(), LISTED) as one, Server(Talker(), LISTED) as other:
        ran = run(script, [*STEPS, *argv, *flags(one, other)], tmp_path / "served")
        assert (ran.code, whole.code) == (0, 0)
        assert len(one.received) > 1
        assert len(other.received) > 1

    def learnt(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        own = ("id", "predicted", "correct", "verdict", "knowledge", "missing_sections", "note")
        return [{name: record[name] for name in own} for record in records]

    for step in range(3):
        for mine, theirs in zip(ran.step(step)[1:], whole.step(step)[1:], strict=True):
            slots = [record.get("rollouts", [record]) for record in (mine, theirs)]
            assert learnt(slots[0]) == learnt(slots[1])
            assert all(record["failure"] is None for record in slots[0])


def test_what_is_on_record(tmp_path: Path) -> None:
    with Server(Talker(), LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        assert ran.code == 0
        trial, *rest = server.received
        assert is_trial(trial)
        assert len(rest) == 9
    manifest = ran.run()
    assert manifest["model"] == {"name": "some/model", "revision": None, "weights": None}
    arguments = manifest["engine"]["arguments"]
    assert manifest["engine"]["kind"] == "chat"
    marks = {name: arguments[name] for name in ("prefill", "token_ids", "seeds_guaranteed")}
    assert marks == {"prefill": False, "token_ids": False, "seeds_guaranteed": False}
    assert arguments["measured_by"] == f"{BYTES_PER_TOKEN} bytes per token"
    (described,) = manifest["sessions"][0]["engine"]["servers"]
    assert described["request"] == {
        "model": "some/model", "stream": True, "stream_options": {"include_usage": True},
        "top_p": 1.0, "temperature": 0.6, "reasoning_effort": "high",
    }  # fmt: skip
    assert "refused" not in described
    assert "force_sections" not in manifest["settings"]
    # A server gets the low 31 bits of a seed that is on record whole.
    assert max(record["sampling_seed"] for n in range(3) for record in ran.step(n)[1:]) >= 1 << 31
    assert all(received.body["seed"] < 1 << 31 for received in rest)
    for record in ran.step(1)[1:]:
        assert record["question"].startswith("user: How many")
        assert (record["prompt_tokens"], record["completion_tokens"]) == (100, 200)
        assert "\nassistantfinal\n\n" in record["pred_solution"]
        assert "estimated" not in record
    everything = b"".join(contents(tmp_path).values()) + (ran.out + ran.err).encode()
    assert SECRET.encode() not in everything


def test_counts_that_a_server_does_not_give_are_estimated_and_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(Talker(counts=False), LISTED) as server:
        ran = run(OSS, [*STEPS, *flags(server)], tmp_path)
        again = run(OSS, ["--reflex_size", "4", *flags(server)], tmp_path)
        assert (ran.code, again.code) == (0, 0), again.err
        for record in again.step(3)[1:]:
            assert record["estimated"] == ["prompt_tokens", "completion_tokens"]
            assert record["prompt_tokens"] == len(pieces(record["question"]))
            assert record["completion_tokens"] == len(pieces(record["pred_solution"]))
        compare.main(None, [str(ran.folder)])
        assert "token counts of 12 of 12 rollouts are estimates" in capsys.readouterr().err
        path = ran.folder / "predictions_0.json"
        mark = ',"estimated":["prompt_tokens","completion_tokens"]'
        path.write_text(path.read_text().replace(mark, ""))
        changed = run(OSS, ["--reflex_size", "4", *flags(server)], tmp_path)
    refused(changed, "a record was changed after it was written")


def test_a_local_tokenizer_measures(tmp_path: Path) -> None:
    model = tmp_path / "tokenizer"
    save_tokenizer(model, None)
    (model / "config.json").write_text("{}")
    with Server(Talker(counts=False), LISTED) as server:
        named = ["--model_name", str(model), "--served_model_name", "some/model"]
        ran = run(OSS, [*STEPS, *flags(server), *named], tmp_path)
        assert ran.code == 0, ran.err
        assert ran.run()["engine"]["arguments"]["measured_by"] == "tokenizer"
        for record in ran.step(2)[1:]:
            assert record["prompt_tokens"] == len(record["question"].encode())  # it is one of bytes


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with Server(Talker(), LISTED) as server:
        model = ["--model_name", str(tmp_path / "model")]
        ran = run(OSS, [*flags(server), *model], tmp_path)
        assert not server.received
    refused(ran, "Cannot load a tokenizer from the folder", "a name that is not a folder")
    assert not (tmp_path / "results").exists()


BEGINS_THE_TURN = ("vllm_kflow_qwen", "vllm_qwen_refine", "vllm_oss_markovian_thinking")


@pytest.mark.parametrize("script", BEGINS_THE_TURN)
@pytest.mark.parametrize("more", [[], ["--dry_run"]], ids=["run", "dry"])
def test_a_method_that_begins_the_turn_is_refused(
    script: str, more: list[str], tmp_path: Path
) -> None:
    with Server(Talker(), LISTED) as server:
        ran = run(script, [*flags(server), *more], tmp_path)
        assert not server.received
    refused(ran, "begins the assistant's turn", "use --engine openai")
    assert ("run the gpt-oss script" in ran.err) == ("markovian" not in script)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--force_sections"], "--force_sections: only valid with --engine vllm or openai, not"),
        (["--prompt_as_text"], "--prompt_as_text: only valid with --engine openai, not chat"),
        (["--dtype", "float32"], "--dtype: only valid with --engine vllm, not chat"),
        (["--prompt_price", "1"], "--prompt_price: give it together with --reply_price"),
        (["--prompt_price", "-1"], "--prompt_price: must be a number, at least 0"),
    ],
)
def test_flags_that_do_not_go_together(argv: list[str], named: str, tmp_path: Path) -> None:
    refused(run(OSS, [*flags("http://h/v1"), *argv], tmp_path), named)
    assert not (tmp_path / "results").exists()


def test_a_run_stays_with_its_engine(tmp_path: Path) -> None:
    with Server(Talker(), LISTED) as server:
        assert run(OSS, ["--reflex_size", "1", *flags(server)], tmp_path).code == 0
        served = ["--base_url", server.url, "--served_model_name", "some/model"]
        refused(run(OSS, ["--engine", "openai", *served], tmp_path), '"chat" -> "openai"')


def test_a_dry_run_needs_no_server_and_no_model(tmp_path: Path) -> None:
    argv = [*flags("http://127.0.0.1:9/v1"), "--prompt_price", "0.5", "--reply_price", "2"]
    ran = run(OSS, [*argv, "--max_new_tokens", "1000", "--dry_run", "json"], tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert (
        "# not checked: the servers' model, window and prices: http://127.0.0.1:9/v1 can" in ran.out
    )
    # 64 steps, 3 problems, 1,000 tokens at 2 per million
    assert "# cost: about 0.38 (192 rollouts of an assumed 1,000 tokens), at most 0.38" in ran.out
    assert "user: How many roads" in ran.out
    assert not (tmp_path / "results").exists()


def test_costs_are_in_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Server(Talker(), LISTED) as server:
        argv = [*STEPS, *flags(server)]
        priced = run(OSS, [*argv, *PRICES], tmp_path)
        free = run("vllm_oss_refine", argv, tmp_path / "free")
    # 9 rollouts of 100 and 200 tokens
    assert priced.out == f"Results: {priced.folder}\nCost: 9.90\n"
    assert "Cost" not in free.out + free.err
    assert free.out == f"Results: {free.folder}\n"
    assert priced.run()["settings"]["reply_price"] == 5000.0

    def compared(*more: str) -> str:
        compare.main(None, [str(priced.folder), str(free.folder), *more])
        return capsys.readouterr().out

    by_step, without, _, chains = compared("--details").partition("by step")[2].split("\n\n")[:4]
    assert [line.split()[-1] for line in by_step.splitlines()[-3:]] == ["1.10", "2.20", "3.30"]
    assert "cost" not in without
    assert [line.split()[-1] for line in chains.splitlines()[-2:]] == ["9.90", "-"]
    values = json.loads(compared("--json"))
    assert values["runs"][0]["by_step"][-1]["cost"] == pytest.approx(3.3)
    assert [each["cost"] for each in values["runs"]] == [pytest.approx(9.9), None]
    head, first, *_ = compared("--csv").splitlines()
    assert dict(zip(head.split(","), first.split(","), strict=True))["cost"] == "1.1"
    page = tmp_path / "page.html"
    report.main(None, [str(priced.folder), str(free.folder), "-o", str(page)])
    html = page.read_text()
    assert "3 steps, 3.30 per problem</span>" in html
    report.main(None, [str(free.folder), "-o", str(page)])
    assert " per problem</span>" not in page.read_text()


PRICES = ["--prompt_price", "1000", "--reply_price", "5000"]


def study(argv: Sequence[str], folder: Path) -> Ran:
    return ended(folder, list(argv), None, lambda flags, _: studies.main(study_oss.STUDY, flags))


def test_a_study_says_which_arm_cannot_be_asked_in_messages(tmp_path: Path) -> None:
    with Server(Talker(), LISTED) as server:
        refused(study(flags(server), tmp_path), "vllm_markov, step 1", "--arms")
        assert not server.received
    assert not (tmp_path / "results").exists()


def test_a_study_says_what_it_costs_and_what_it_would_cost_at_most(tmp_path: Path) -> None:
    with Server(Talker(), LISTED) as server:
        argv = ["--arms", "vllm,vllm_refine", "--rollouts", "2", *flags(server), *PRICES]
        dry = study([*argv, "--assumed_tokens", "1000", "--dry_run"], tmp_path)
        assert not server.received
        ran = study(argv, tmp_path)
    assert (dry.code, ran.code) == (0, 0), ran.err
    # 12 rollouts of a window of 131,072 tokens at 5,000 per million; 6 an arm of 100 and 200.
    assert "cost: about 60.00 (12 rollouts of an assumed 1,000 tokens), at most 7,864" in dry.out
    assert [line for line in ran.out.splitlines() if "Cost" in line] == ["Cost: 6.60"] * 2


@pytest.mark.parametrize("text", ["", "a", "é😀", "\0\0\0", "So it is.\n" * 50, "日本語"])
def test_pieces_are_the_text_again(text: str) -> None:
    cut = pieces(text)
    assert text_of(cut) == text
    assert len(cut) == -(-len(text.encode()) // BYTES_PER_TOKEN)
