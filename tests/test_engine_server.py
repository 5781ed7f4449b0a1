"""The truth over HTTP: vLLM's own server, started and stopped here, beside an engine in-process.

The server is vLLM's `vllm serve` by its module: the `vllm` command of the CPU package asks for the
version of a package named vllm, and ends when there is none. Its threads are not bound to cores:
bound, it computes with one thread less than the engine in the process, and a sum in another order
makes another token sooner or later.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

import prepare_smollm2
from engine_runs import experiment_of, run, start
from fakes import contents
from kflow.engines import servers
from kflow.engines.openai import Limits, OpenAIEngine
from kflow.engines.vllm import VllmEngine
from kflow.experiment import main
from kflow.families.chat import TemplateChat
from kflow.recipes import cpu_dtype
from kflow.types import Completion, Engine, Key, Message, Prompt, Request
from test_engine_qwen import SMOLLM2

pytestmark = pytest.mark.engine

SCRIPTS = {"vllm_kflow_qwen": "1024", "vllm_qwen_markovian_thinking": "384"}  # and its window
START = 240  # seconds a server may take until it answers


class Real(NamedTuple):
    offline: VllmEngine
    url: str
    model: str
    chat: TemplateChat


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Real]:
    """An engine and a server with the same arguments; the server's processes end with the test."""
    model = str(prepare_smollm2.prepare())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    arguments = ["--model", model, "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--served-model-name", "smollm2", "--dtype", cpu_dtype()]
    arguments += ["--enforce-eager", "--max-model-len", "2048", "--no-enable-chunked-prefill"]
    with open(log, "wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            env={
                **os.environ,
                "VLLM_CPU_KVCACHE_SPACE": "1",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            },
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        flags = ["--model_name", model, *SMOLLM2]
        chat = TemplateChat(model, False)
        with closing(start(next(iter(SCRIPTS)), flags, chat)) as offline:
            url = f"http://127.0.0.1:{port}"
            until = time.monotonic() + START
            while not answers(f"{url}/health"):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.5)
            yield Real(offline, f"{url}/v1", model, chat)
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


def test_one_request_at_a_time_gets_the_same_reply(real: Real) -> None:
    """Alone in its batch a request leaves nothing to chance: same arithmetic, same seed."""
    prompt = tuple(real.chat.render(Prompt((Message("user", "Name ten rivers."),))))
    requests = [Request(Key("p", seed, 0), prompt, 24, seed) for seed in range(3)]
    limits = Limits(None, 300.0, 60.0)
    (server,) = found = servers.look([real.url], "smollm2", 2048)
    assert (server.kind, server.window) == ("vllm", 2048)
    assert server.version is not None
    with closing(OpenAIEngine(found, {"temperature": 0.6}, real.chat, limits)) as engine:
        served = ask_one_by_one(engine, requests)
    assert served == ask_one_by_one(real.offline, requests)
    assert len({completion.text for completion in served}) == 3


@pytest.mark.parametrize(("script", "window"), SCRIPTS.items())
def test_two_steps_of_a_script(script: str, window: str, real: Real, tmp_path: Path) -> None:
    """One chain, so that each request is alone in its batch: the files are the same to the byte."""
    shared = ["--model_name", real.model, "--max_new_tokens", window, "--force_sections"]
    shared += ["--dataset", "quickstart", "--limit", "1", "--reflex_size", "2"]
    offline = [*shared, "--enforce_eager", "--results_dir", str(tmp_path / "offline")]
    kept, (_, (_, last)) = run(script, offline, real.offline)
    assert len(kept.completed) == 2
    assert last["completion_tokens"] > 0

    served = [*shared, "--engine", "openai", "--base_url", real.url]
    served += ["--served_model_name", "smollm2", "--results_dir", str(tmp_path / "served")]
    with pytest.raises(SystemExit) as ended:
        main(experiment_of(script), served)
    assert ended.value.code == 0
    expected = contents(tmp_path / "offline", "**/predictions_*.json")
    assert len(expected) == 2
    assert contents(tmp_path / "served", "**/predictions_*.json") == expected


def test_chains_together_on_the_server(real: Real, tmp_path: Path) -> None:
    """In a batch, replies may differ from those in another batch; what is asked first may not."""
    script = next(iter(SCRIPTS))
    argv = ["--model_name", real.model, "--max_new_tokens", "1024", "--force_sections"]
    argv += ["--dataset", "quickstart", "--limit", "6", "--reflex_size", "1"]
    argv += ["--results_dir", str(tmp_path), "--engine", "openai", "--base_url", real.url]
    with pytest.raises(SystemExit) as ended:
        main(experiment_of(script), [*argv, "--served_model_name", "smollm2"])
    assert ended.value.code == 0
    (path,) = tmp_path.rglob("predictions_0.json")
    summary, *records = json.loads(path.read_bytes())
    assert (summary["failed"], len(records)) == (0, 6)
    for record in records:
        assert record["finish_reason"] in ("stop", "length")
        assert 0 < record["completion_tokens"] <= record["max_tokens"]
        assert "[Answer]" in record["pred_solution"]
        assert "missing_sections" not in record["update"]
