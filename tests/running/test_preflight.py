"""The preflight of dry runs and real starts: what is wrong anywhere ends with code 2, what only a
node can tell does not."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import study_oss
from helpers import scripted
from helpers.fakes import ScriptedChat, ScriptedEngine
from helpers.nodes import H200, index
from helpers.scripted import QUESTIONS, refused, run_script, run_study, write_problems
from kflow import experiment
from kflow.engines.vllm_engine import recipes
from kflow.engines.vllm_engine.recipes import Installed
from kflow.ground import hardware
from kflow.running import checks
from kflow.running.checks import NOT_CHECKED, NOTE, OK, WRONG
from kflow.types import UserError
from vllm_kflow_qwen import EXPERIMENT

QWEN = "vllm_kflow_qwen"

# Whole dry runs.


def refusing(arguments: Mapping[str, object]) -> None:
    if 6 % int(str(arguments["tensor_parallel_size"])):
        raise UserError("vLLM refuses the engine's arguments: 6 attention heads")
    if "nonsense" in arguments:
        raise UserError("vLLM has no engine argument 'nonsense': correct --engine_args.")


def states(out: str) -> list[tuple[str, str]]:
    rows = [line.split(": ", 1) for line in out.splitlines() if ": " in line]
    return [(row[0], row[1]) for row in rows if row[0] in (OK, NOTE, NOT_CHECKED, WRONG)]


def test_what_is_wrong_is_told_after_everything_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "takes_all", refusing)
    model = tmp_path / "own"
    index(model, gone=0)
    (model / "config.json").write_text("{}")
    flags = ["--model_name", str(model), "--dry_run", "--dataset", "gone.jsonl"]
    for more, words in (
        (["--tensor_parallel_size", "4"], "6 attention heads"),
        (["--engine_args", '{"nonsense": 1}'], "no engine argument 'nonsense'"),
    ):
        ran = run_script(QWEN, [*flags, *more], tmp_path)
        refused(ran, words, f"{model} lacks gone.safetensors", "There is no file gone.jsonl")
        assert [state for state, _ in states(ran.out)].count(WRONG) == 3
        assert ran.out.startswith("wrong: ")
        assert "first prompt: " in ran.out
        assert not ran.results.exists()


@pytest.mark.parametrize(
    "flags", [["--dataset", "./gone"], ["--model_name", "./gone"], ["--model_name", "a/b/c"]]
)
def test_a_missing_local_file_is_wrong_anywhere(flags: list[str], tmp_path: Path) -> None:
    refused(run_script(QWEN, ["--dry_run", *flags], tmp_path), flags[1].removeprefix("./"))


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node of eight GPUs with vLLM 0.10.2."""
    monkeypatch.setattr(recipes, "installed", lambda: Installed("vllm", "0.10.2"))
    monkeypatch.setattr(recipes, "gpu_count", lambda: 8)
    monkeypatch.setattr(hardware, "gpus", lambda: (H200,) * 8)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's libraries behind a closed network, with an empty cache."""

    def closed(*arguments: object, **more: object) -> None:
        raise OSError("no route")

    constants = SimpleNamespace(HF_HUB_CACHE=str(tmp_path / "hub"))
    hub = SimpleNamespace(
        hf_hub_download=closed, try_to_load_from_cache=lambda *_, **__: None, constants=constants
    )
    data = SimpleNamespace(load_dataset=closed, disable_progress_bars=lambda: None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "datasets", data)


@pytest.mark.parametrize("flags", [["--dataset", "org/set"], ["--model_name", "org/model"]])
@pytest.mark.usefixtures("no_hub")
def test_what_the_hub_has_is_not_checked_without_it(flags: list[str], tmp_path: Path) -> None:
    ran = run_script(QWEN, ["--dry_run", *flags], tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert any(state == NOT_CHECKED and flags[1] in text for state, text in states(ran.out))


@pytest.mark.parametrize(
    ("flags", "problems"),
    [
        (["--dataset", "org/set"], 30),
        (["--dataset", "HuggingFaceH4/MATH-500", "--limit", "70"], 70),
    ],
)
@pytest.mark.usefixtures("no_hub", "eight")
def test_the_plan_without_a_hub_is_that_of_the_run(
    flags: list[str], problems: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch."""
    monkeypatch.setattr(checks, "free", lambda path: 10**12)  # bytes, for the weights
    model = ["--model_name", "openai/gpt-oss-120b", "--max_new_tokens", "131072"]
    ran = run_script("vllm_kflow_oss", ["--dry_run", "json", *model, *flags], tmp_path)
    assert ran.code == 0
    assert f"not checked: the number of problems: the plan assumes {problems} problems" in ran.out
    assert f"recipe published, 8 GPUs, batches of {problems}\n" in ran.out
    assert f"work: {problems} problems (assumed) of " in ran.out
    assert f'"max_num_seqs": {problems},' in ran.out


@pytest.mark.usefixtures("no_hub")
def test_a_plan_for_a_node_can_be_read_on_a_laptop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "installed", lambda: None)
    monkeypatch.setattr(hardware, "gpus", lambda: ())
    monkeypatch.setattr(checks, "free", lambda path: 10**9)
    monkeypatch.setenv("VLLM_ATTENTION_BACKEND", "FLASH_ATTN")
    flags = ["--model_name", "Qwen/Qwen3-235B-A22B-Thinking-2507", "--tensor_parallel_size", "8"]
    ran = run_script(QWEN, ["--dry_run", *flags], tmp_path)
    assert (ran.code, ran.err) == (0, "")
    by_text = {text: state for state, text in states(ran.out)}
    for words, state in {
        "8 GPUs: no NVIDIA driver answers here": NOT_CHECKED,
        "470 GB of weights are still to be downloaded": NOT_CHECKED,
        "all 3 rollouts fit in a batch": OK,
    }.items():
        assert [s for text, s in by_text.items() if words in text] == [state], words
    told, _, planned = ran.out.partition("\n\n")
    lines = dict(line.split(": ", 1) for line in planned.splitlines()[:-1])
    assert lines["engine"].startswith("vLLM 0.10.2, recipe published, 8 GPUs, batches of 3; that ")
    assert lines["first token"].startswith("after about 50 min: 470 GB downloaded at 200 MB/s (40 ")
    assert lines["time"].startswith("3.8 million tokens at 600 tokens/s in total: 1 h 47 min")
    assert lines["size"] == "3.8 million tokens, 17 MB of results"
    assert len(lines) <= 10
    assert not any(words in told for words in ("environment: ", "allreduce"))
    whole = run_script(QWEN, ["--dry_run", "json", *flags], tmp_path)
    assert "# environment: VLLM_ATTENTION_BACKEND=FLASH_ATTN" in whole.out
    assert all(f"# {line}" in whole.out for line in told.splitlines())


@pytest.mark.usefixtures("no_hub")
def test_with_the_cpu_build_what_is_a_nodes_is_not_checked(tmp_path: Path) -> None:
    """A published model is planned for on a laptop that has run the quickstart."""
    words = "GPUs and batch, since this is vLLM's CPU build"
    flags = ["--dry_run", "--model_name"]
    published = run_script(QWEN, [*flags, "Qwen/Qwen3-235B-A22B-Thinking-2507"], tmp_path)
    assert published.code == 0
    assert [state for state, text in states(published.out) if words in text] == [NOT_CHECKED]
    assert words not in run_script(QWEN, [*flags, "org/small"], tmp_path).out


@pytest.mark.parametrize("fast", ["bfloat16", "float32"])
def test_bfloat16_on_a_cpu_without_instructions_for_it_is_noted(
    fast: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "cpu_dtype", lambda release: fast)
    for given in ([], ["--dtype", "float32"], ["--dtype", "bfloat16"]):
        ran = run_script(QWEN, ["--dry_run", *given], tmp_path)
        noted = any("no instructions for bfloat16" in text for _, text in states(ran.out))
        assert noted == ("bfloat16" in given and fast == "float32")


@pytest.mark.usefixtures("eight")
def test_a_study_is_checked_as_a_whole(tmp_path: Path) -> None:
    ran = run_study("study_oss", ["--dry_run"], tmp_path, None)
    assert ran.code == 0
    # Three chains each: 64 rollouts ahead, 16, 2, 8 and 56 slots, and arms of width 1.
    widths = 64 + 16 + 2 + 8 + 56 + len(study_oss.STUDY.arms) - 5
    assert f"checked: all {3 * widths} rollouts fit in a batch" in ran.out
    assert "checked: chat format and vocabulary of gpt_oss found" in ran.out
    refused(
        run_study("study_oss", ["--dry_run", "--dataset", "gone.jsonl"], tmp_path, None), "gone"
    )


# Real starts.


@pytest.mark.parametrize("more", [[], ["--dry_run"]], ids=["start", "plan"])
def test_a_start_is_refused_where_results_have_no_room(
    more: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "free", lambda path: 1000)
    ran = run_script(QWEN, ["--reflex_size", "2", *more], tmp_path)
    refused(ran, "has 1 kB free for about", "give another --results_dir")
    assert not ran.results.exists()


def test_only_what_is_left_to_do_needs_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for steps, room in (("2", 600_000), ("3", 300_000)):
        monkeypatch.setattr(checks, "free", lambda path, room=room: room)
        assert run_script(QWEN, ["--reflex_size", steps], tmp_path, ScriptedEngine()).code == 0
    monkeypatch.setattr(checks, "free", lambda path: 300_000)
    refused(run_script(QWEN, ["--reflex_size", "5"], tmp_path), "--results_dir")


def test_a_start_is_refused_what_its_dry_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the engine that the settings ask for, which is not started."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = write_problems(tmp_path / "problems.jsonl", QUESTIONS)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    family = replace(EXPERIMENT.family, chat=lambda *_, **__: ScriptedChat())
    flags = ["--model_name", str(tmp_path / "model"), "--dataset", str(rows)]
    with pytest.raises(SystemExit) as ended:
        experiment.main(
            replace(EXPERIMENT, family=family), [*flags, "--results_dir", str(tmp_path / "r")]
        )
    assert ended.value.code == 2
    assert "lacks every file of weights: copy the whole model there" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()
