"""The truth over HTTP: vLLM's own server, started and stopped here, beside an engine in-process.

The server is vLLM's `vllm serve` by its module: the `vllm` command of the CPU package asks for the
version of a package named vllm, and ends when there is none. Its threads are not bound to cores:
bound, it computes with one thread less than the engine in the process, and a sum in another order
makes another token sooner or later.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
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
from kflow.engines.openai_engine import servers
from kflow.engines.openai_engine.api import COMPLETIONS
from kflow.engines.openai_engine.openai import Limits, OpenAIEngine
from kflow.engines.vllm_engine.recipes import cpu_dtype, node
from kflow.experiment import main
from kflow.results.rollout import sampling_seed
from kflow.types import Completion, Engine, Message, Prompt, Request

pytestmark = pytest.mark.engine

SCRIPTS = {"vllm_kflow_qwen": "896", "vllm_qwen_markovian_thinking": "256"}  # and its window
WINDOW = 1024  # the server's
START = 240  # seconds a server may take until it answers


@pytest.fixture(scope="module")
def url(smollm2: SmolLM2, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the arguments of the engine here; its processes end with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    arguments = ["--model", smollm2.model, "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--served-model-name", "smollm2", "--dtype", cpu_dtype(node().release)]
    arguments += ["--enforce-eager", "--max-model-len", str(WINDOW), "--no-enable-chunked-prefill"]
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
                "VLLM_REGEX_COMPILATION_TIMEOUT_S": "0",
            },
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        address, until = f"http://127.0.0.1:{port}", time.monotonic() + START
        while not answers(f"{address}/health"):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.5)
        yield f"{address}/v1"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


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
    needs = servers.describe_needs(
        "smollm2", "--model_name", WINDOW, COMPLETIONS, {"temperature": 0.6}, smollm2.chat, 60.0
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
        main(experiment_of(script), [*served, "--served_model_name", "smollm2"])
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
        main(script, [*argv, "--served_model_name", "smollm2"])
    assert ended.value.code == 0
    steps = steps_of(tmp_path)
    check_sections(steps)
    for summary, *records in steps:
        assert (summary["failed"], len(records)) == (0, len(QUESTIONS))
        for record in records:
            assert record["finish_reason"] in ("stop", "length")
            assert 0 < record["completion_tokens"] <= record["max_tokens"]
