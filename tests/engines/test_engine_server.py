"""The truth over HTTP: vLLM's own server beside an engine in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import pytest

from helpers.engine_runs import (
    QUESTIONS,
    SmolLM2,
    check_sections,
    experiment_of,
    problems,
    run,
    steps_of,
)
from helpers.fakes import K, contents
from helpers.vllm_server import NAME, serving
from kflow.engines.openai_engine import roster, servers
from kflow.engines.openai_engine.api import COMPLETIONS
from kflow.engines.openai_engine.openai import Limits, OpenAIEngine
from kflow.experiment import main
from kflow.ground import smollm2 as small_model
from kflow.results.rollout import sampling_seed
from kflow.types import Completion, Engine, Message, Prompt, Request

pytestmark = pytest.mark.engine

SCRIPTS = {"vllm_kflow_qwen": "896", "vllm_qwen_markovian_thinking": "256"}  # and its window
WINDOW = 1024  # the server's


@pytest.fixture(scope="module")
def url(smollm2: SmolLM2, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(smollm2.model, tmp_path_factory.mktemp("server") / "log", WINDOW) as server:
        server.wait()
        yield server.url


def ask_one_by_one(engine: Engine, requests: list[Request]) -> list[Completion]:
    done = []
    for request in requests:
        engine.submit(request)
        done += engine.completions()
    return done


def test_one_request_at_a_time_gets_the_same_reply(smollm2: SmolLM2, url: str) -> None:
    """Alone in its batch a request leaves nothing to chance: same arithmetic, same seed."""
    prompt = tuple(smollm2.chat.render(Prompt((Message("user", "Name ten rivers."),), 0.9)))
    requests = [Request(K("p", seed, 0), prompt, 24, seed) for seed in range(3)]
    limits = Limits(None, 300.0, 60.0)
    needs = servers.Needs(
        NAME, "--model_name", WINDOW, COMPLETIONS, {"temperature": 0.6}, smollm2.chat, 60.0
    )
    (server,) = fleet = servers.reach([url], needs).servers
    assert (server.kind, server.window) == ("vllm", WINDOW)
    assert server.version is not None
    with closing(OpenAIEngine(fleet, {"temperature": 0.6}, smollm2.chat, limits)) as engine:
        served = ask_one_by_one(engine, requests)
    assert served == ask_one_by_one(smollm2.engine, requests)
    assert len({completion.text for completion in served}) == 3


@pytest.mark.parametrize(("script", "window"), SCRIPTS.items())
def test_two_steps_of_a_script(
    script: str, window: str, smollm2: SmolLM2, url: str, tmp_path: Path
) -> None:
    """Each request alone in its batch: the files are the same to the byte, with seeds that a server
    gets whole."""
    first, _, _ = QUESTIONS[0]
    seed = next(n for n in count() if all(sampling_seed(n, 0, first, t) < 1 << 31 for t in (0, 1)))
    shared = ["--model_name", smollm2.model, "--max_new_tokens", window, "--force_sections"]
    shared += ["--limit", "1", "--reflex_size", "2", "--seed", str(seed)]
    offline = [*shared, "--enforce_eager", *problems(tmp_path / "offline")]
    kept = run(script, offline, smollm2.engine)
    assert len(kept.completed) == 2
    assert all(completion.tokens for completion in kept.completed.values())

    served = [*shared, "--engine", "openai", "--base_url", url, *problems(tmp_path / "served")]
    with pytest.raises(SystemExit) as ended:
        main(experiment_of(script), [*served, "--served_model_name", NAME])
    assert ended.value.code == 0
    expected = contents(tmp_path / "offline", "**/predictions_*.json")
    assert len(expected) == 2
    assert contents(tmp_path / "served", "**/predictions_*.json") == expected


def test_chains_together_on_the_server(smollm2: SmolLM2, url: str, tmp_path: Path) -> None:
    """In a batch, replies may differ from those in another batch; what is asked may not."""
    argv = ["--model_name", smollm2.model, "--max_new_tokens", "320", "--force_sections"]
    argv += ["--reflex_size", "3", "--engine", "openai", "--base_url", url, *problems(tmp_path)]
    script = experiment_of("vllm_qwen_parallel_thinking")
    with pytest.raises(SystemExit) as ended:
        main(script, [*argv, "--served_model_name", NAME])
    assert ended.value.code == 0
    steps = steps_of(tmp_path)
    check_sections(steps)
    for summary, *records in steps:
        assert (summary["failed"], len(records)) == (0, len(QUESTIONS))
        for record in records:
            assert record["finish_reason"] in ("stop", "length")
            assert 0 < record["completion_tokens"] <= record["max_tokens"]


def test_servers_join_die_and_are_replaced_in_mid_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request at a time, so that the files are those of an undisturbed run to the byte; the
    two chains go on at servers that were not there when they began."""
    file, model = tmp_path / "servers", str(small_model.prepare())
    flags = ["--model_name", model, "--max_new_tokens", "256", "--force_sections"]
    flags += ["--num_seeds", "2", "--reflex_size", "3", "--max_concurrency", "1", "--limit", "1"]
    flags += ["--engine", "openai", "--served_model_name", NAME]
    script = experiment_of("vllm_qwen_markovian_thinking")
    monkeypatch.setattr(roster, "LOOK_EVERY", 0.2)
    with ExitStack() as running:
        up = []
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            up.append(running.enter_context(serving(model, tmp_path / host, WINDOW, host)))
            up[-1].wait()
        one, added, other = up

        def work(home: Path) -> dict[str, bytes]:
            home.mkdir()
            file.write_text(f"{one.url}\n")
            with pytest.raises(SystemExit) as ended:
                main(script, [*flags, "--base_url", f"@{file}", *problems(home)])
            assert ended.value.code == 0
            return contents(home, "**/predictions_*.json")

        undisturbed = work(tmp_path / "undisturbed")
        finished, completions = list[Completion](), OpenAIEngine.completions

        def disturbed(engine: OpenAIEngine) -> list[Completion]:
            done = completions(engine)
            for completion in done:
                finished.append(completion)
                if len(finished) == 1:
                    file.write_text(f"{one.url}\n{added.url}\n")
                    until(lambda: len(engine.joined) == 1)
                if len(finished) == 2:
                    one.kill()
                if len(finished) == 4:
                    file.write_text(f"{other.url}\n")
                    until(lambda: len(engine.joined) == 2)
                    added.kill()
            return done

        monkeypatch.setattr(OpenAIEngine, "completions", disturbed)
        assert work(tmp_path / "disturbed") == undisturbed
    assert (len(undisturbed), len(finished)) == (6, 6)


def until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.05)
