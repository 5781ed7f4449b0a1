"""report.py --watch: the page of a run in progress, over a real connection."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from fakes import ScriptedEngine, brief
from kflow.analysis.page import watch
from kflow.analysis.page.report import main
from kflow.analysis.page.watch import Page, Server
from kflow.results.status import EngineStatus, Status, StatusFile, to_json
from kflow.types import Key
from pages import ENCODABLE
from results_on_disk import write_run
from scripted import ROOT, run_script

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]
ENGINE = EngineStatus(5310.4, 28, 2, 1_204_000, 0.634, 4)


@contextmanager
def serving(*arguments: Path, port: int = 0) -> Iterator[Server]:
    with Server(port, Page(list(map(str, arguments)))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    port: int, method: str = "GET", path: str = "/", hosts: Sequence[str] | None = None
) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for host in [f"127.0.0.1:{port}"] if hosts is None else hosts:
        connection.putheader("Host", host)
    connection.endheaders()
    response = connection.getresponse()
    return response, response.read().decode()


def test_the_page_is_served_and_asks_to_be_fetched_again(tmp_path: Path) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)
    with serving(tmp_path) as server:
        response, text = ask(server.port)
        _, local = ask(server.port, hosts=[f"LOCALHOST:{server.port}"])
    assert (response.status, response.headers["Refresh"]) == (200, "30")
    assert response.headers["Cache-Control"] == "no-store"
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\';' in text
    assert "<p>vllm_64_a/m: no status.json</p>" in text
    assert "<bdi>vllm_<wbr>64_<wbr>a</bdi>" in text
    assert local == text


def test_only_this_machine_can_connect(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        assert server.socket.getsockname() == ("127.0.0.1", server.port)
        with pytest.raises(ConnectionRefusedError):  # an address of this machine too
            socket.create_connection(("127.0.0.2", server.port))


REFUSED: dict[str, tuple[str, str, list[str] | None, int]] = {
    "another path": ("GET", "/run.json", None, 404),
    "a file above": ("GET", "/../../etc/passwd", None, 404),
    "a file, percent-encoded": ("GET", "/%2e%2e/run.json", None, 404),
    "a file's whole path": ("GET", "{folder}/run.json", None, 404),
    "a query": ("GET", "/?x", None, 404),
    "another server's address": ("GET", "http://127.0.0.1:{port}/", None, 404),
    "a name that was pointed here": ("GET", "/", ["rebound.example:{port}"], 421),
    "that name without the port": ("GET", "/", ["rebound.example"], 421),
    "another port": ("GET", "/", ["127.0.0.1:1"], 421),
    "no port": ("GET", "/", ["127.0.0.1"], 421),
    "two hosts": ("GET", "/", ["127.0.0.1:{port}", "rebound.example"], 421),
    "a host that begins well": ("GET", "/", ["127.0.0.1:{port}.rebound.example"], 421),
    "no host": ("GET", "/", [], 421),
    "post": ("POST", "/", None, 501),
    "put": ("PUT", "/", None, 501),
    "delete": ("DELETE", "/", None, 501),
    "options": ("OPTIONS", "/", None, 501),
}


@pytest.mark.parametrize("case", REFUSED)
def test_nothing_but_the_page_can_be_had(case: str, tmp_path: Path) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder, STEPS, GOLDS)
    (folder / "run.json").write_text('{"secret": "precious"}')
    method, path, hosts, status = REFUSED[case]
    with serving(tmp_path) as server:
        path = path.format(folder=folder, port=server.port)
        hosts = hosts and [host.format(port=server.port) for host in hosts]
        response, text = ask(server.port, method, path, hosts)
        assert response.status == status
        assert not {"precious", "Knowledge Flow", "root:"} & set(re.split(r"\b", text))
        assert "vllm_64_a" not in text
        assert ask(server.port)[0].status == 200


def test_a_page_is_built_only_where_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder, STEPS, GOLDS)
    built = []
    build = watch.built
    monkeypatch.setattr(watch, "built", lambda given: built.append(1) or build(given))
    with serving(tmp_path) as server:
        first = ask(server.port)[1]
        StatusFile(folder).update(Status(9, 6, engine=ENGINE))
        second = ask(server.port)[1]
        assert len(built) == 1
        write_run(folder, [*STEPS, [25, 7]], GOLDS)
        third = ask(server.port)[1]
        assert len(built) == 2
    assert "vllm_64_a/m: running, 6/9 steps, 28 running, 2 waiting, 5,310 tokens/s" in second
    assert ('"steps":[0,1,2]' in first, '"steps":[0,1,2,3]' in third) == (True, True)


def test_a_page_that_cannot_be_built_says_why_and_the_next_one_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    folder.mkdir(parents=True)
    StatusFile(folder).update(Status(9, 0))
    with serving(folder) as server:
        for why in (f"{folder} contains no results", f"{folder} has no step that can be read"):
            response, text = ask(server.port)
            assert (response.status, response.headers["Refresh"]) == (200, "30")
            assert why in text
            assert "running, 0/9 steps" in text
            (folder / "rollouts_0.jsonl").touch()
        write_run(folder, STEPS, GOLDS)
        assert "<bdi>vllm_<wbr>64_<wbr>a</bdi>" in ask(server.port)[1]
        (folder / "predictions_1.json").write_text("[")
        assert "predictions_1.json is left out: it is not JSON" in ask(server.port)[1]


def test_a_bug_in_the_page_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)

    def broken(given: object) -> str:
        raise ZeroDivisionError("division by zero")

    with serving(tmp_path) as server:
        with monkeypatch.context() as patched:
            patched.setattr(watch, "built", broken)
            response, text = ask(server.port)
        assert (response.status, "ZeroDivisionError: division by zero" in text) == (200, True)
        assert "<bdi>vllm_<wbr>64_<wbr>a</bdi>" in ask(server.port)[1]
    assert "Traceback" not in capsys.readouterr().err


# What is in a status.json -> what is shown of it.
STATUSES: dict[str, tuple[bytes, str]] = {
    "a run that ended": (to_json(Status(9, 9, "complete", updated="2026-11-24T10:00:00+00:00")),
                         "m: complete, 9/9 steps"),
    "one that was killed": (
        to_json(Status(9, 3, updated="2026-11-24T10:00:00+00:00")),
        "nothing written since 2026-11-24T10:00:00+00:00: it may have been killed",
    ),
    "markup": (
        to_json(Status(9, 3, "<script>alert(1)</script>", updated="2026-11-24T10:00:00+00:00")),
        "m: &lt;script&gt;alert(1)&lt;/script&gt;, 3/9 steps",
    ),
    "control characters": (
        to_json(Status(9, 3, ENCODABLE, updated="2026-11-24T10:00:00+00:00")), "⟨U+001B⟩[31m",
    ),
    "no time": (to_json(Status(9, 3)), "status.json cannot be read"),
    "a time without a zone": (to_json(Status(9, 3, updated="2026-11-24")), "cannot be read"),
    "not JSON": (b"{", "status.json cannot be read"),
    "texts for numbers": (b'{"steps_total": "9", "steps_done": 1}', "cannot be read"),
    "deep": (b"[" * 100_000, "status.json cannot be read"),
    "NaN": (b'{"steps_total": 9, "steps_done": NaN}', "status.json cannot be read"),
    "endless": (
        b'{"steps_total": 9, "steps_done": 3, "seconds_left": 1e308, "updated": '
        b'"2026-11-24T10:00:00+00:00", "engine": {"tokens_per_second": 1e308}}',
        "m: running, 3/9 steps, but",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", STATUSES)
def test_a_status_is_shown_as_text_whatever_it_holds(case: str, tmp_path: Path) -> None:
    content, expected = STATUSES[case]
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder, STEPS, GOLDS)
    (folder / "status.json").write_bytes(content)
    text = Page([str(folder)]).now()
    (line,) = re.findall(r"<body>\n<p>(.*)</p>\n", text)
    assert expected in line
    assert line.isprintable()
    assert len(line) < 2000


def test_a_link_in_the_place_of_a_status_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder, STEPS, GOLDS)
    status = Status(9, 3, "halfway there", updated="2026-11-24T10:00:00+00:00")
    (tmp_path / "other").write_bytes(to_json(status))
    (folder / "status.json").symlink_to(tmp_path / "other")
    assert "halfway there" not in Page([str(folder)]).now()


def test_a_scripted_run_is_followed_from_its_first_rollout_to_its_end(tmp_path: Path) -> None:
    pages: list[str] = []

    class Looking(ScriptedEngine):
        look: Callable[[], None]

        def completions(self):  # type: ignore[no-untyped-def]
            if len(self.delivered) in (0, 1, 4):
                self.look()
            return super().completions()

    def in_order(waiting: list[Key]) -> list[Key]:
        return [min(waiting, key=lambda key: key.step)]

    engine = Looking(brief, pick=in_order)
    folder = tmp_path / "results" / "vllm_262144_" / "model"
    folder.mkdir(parents=True)
    with serving(folder) as server:
        engine.look = lambda: pages.append(ask(server.port)[1])
        assert run_script("vllm_kflow_qwen", ["--reflex_size", "2"], tmp_path, engine).code == 0
        engine.look()
    states = [re.findall(r"<p>vllm_262144_/model: (.*)</p>", text) for text in pages]
    assert [each.startswith(("running, ", "complete, 6/6")) for (each,) in states] == [True] * 4
    assert states[3] == ["complete, 6/6 steps"]
    assert "contains no results" in pages[0]
    assert "has no step that can be read" in pages[1]
    assert "in progress: 1 of 2 steps are complete" in pages[2]
    assert "in progress" not in pages[3]


def program(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "report.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_program_ends_with_130_on_ctrl_c(tmp_path: Path) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)
    before = set(tmp_path.rglob("*"))
    process = program("--watch", tmp_path)
    try:
        assert process.stdout is not None
        address = re.fullmatch(
            r"Page: http://127\.0\.0\.1:(\d+)/ \(stop with Ctrl-C\)\n", process.stdout.readline()
        )
        assert address is not None
        assert ask(int(address[1]))[0].status == 200
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
        assert process.communicate() == ("", "")
    finally:
        process.kill()
        process.wait()
    assert set(tmp_path.rglob("*")) == before


MISTAKES = {
    "nothing there": (["--watch", "{home}/none"], "none does not exist"),
    "a port without a watch": (["--port", "8000", "{home}"], "--port: belongs to --watch"),
    "no port": (["--watch", "--port", "0", "{home}"], "must be a whole number, at least 1"),
    "no such port": (["--watch", "--port", "65536", "{home}"], "must be at most 65535"),
    "a file too": (["--watch", "-o", "r.html", "{home}"], "--watch serves one"),
    "a port in use": (["--watch", "--port", "{port}", "{home}"], "cannot be used"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_ends_with_code_2(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = MISTAKES[case]
    with serving(tmp_path) as server, pytest.raises(SystemExit) as ended:
        main(None, [each.format(home=tmp_path, port=server.port) for each in arguments])
    assert ended.value.code == 2
    (sentence,) = capsys.readouterr().err.splitlines()
    assert words in sentence
