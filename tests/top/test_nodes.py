"""What starts runs on several nodes: servers.sbatch under a fake srun and scontrol, and the lines
of servers.sky.yaml, with the real client and scripted servers at several addresses of this machine.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.fakes import ScriptedEngine, contents
from helpers.scripted import ROOT, run_script

NODES = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
EXAMPLE = ROOT / "bash_scripts" / "nodes" / "servers.sbatch"
SKY = ROOT / "bash_scripts" / "nodes" / "servers.sky.yaml"
STEPS = ["--reflex_size", "4", "--num_seeds", "2"]
# Runs a command as a step; its options say where, which is this machine.
SRUN = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
SCONTROL = f"""#!/bin/sh
case "$1" in
show) printf '%s\\n' {" ".join(NODES)} ;;
*) echo "$@" >>requeued ;;
esac
"""
PATHS = f"import sys; sys.path[:0] = {[str(ROOT / 'scripts'), str(ROOT / 'tests')]!r}"
# A server that replies as the scripted engine does. The second node's dies with the first rollout
# of step 1; the last steps wait until it has come back.
SERVER = f"""#!{sys.executable}
{PATHS}
import asyncio, os, time
from pathlib import Path
from helpers.fakes import obliging
from helpers.http_server import DONE, Scripted, Server, TRIAL, delta
from kflow.types import Request

words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
host, port = words["--host"], int(words["--port"])
back = Path("back")
died = Path("died")
if died.exists() and host == "{NODES[1]}":
    back.touch()
scripted = Scripted(seeds=2)

async def reply(received, answer):
    text, key = received.body["prompt"], scripted.keys.get(received.body["seed"])
    if key is None or TRIAL in text:
        return await answer.stream(delta("42", None, "stop"), DONE)
    if os.environ.get("DIES") and host == "{NODES[1]}" and key.step == 1 and not back.exists():
        died.touch()
        os._exit(1)
    while os.environ.get("DIES") and key.step > 1 and not back.exists():
        await asyncio.sleep(0.01)
    request = Request(key, (), received.body["max_tokens"], 0)
    await answer.stream(delta(obliging(request, text), None, "stop"), DONE)

with Server(reply, {{"id": "model", "owned_by": "vllm"}}, host=host, port=port):
    time.sleep(600)
"""
CLIENT = f"""#!{sys.executable}
{PATHS}
from pathlib import Path
from helpers.http_server import SharedChat
from helpers.scripted import run_script
from kflow.engines.openai_engine import retry, roster

roster.LOOK_EVERY = roster.TRY_AGAIN = retry.ASK_AGAIN = 0.05
flags = [*{STEPS!r}, "--served_model_name", "model", "--prompt_as_text", *sys.argv[2:]]
ran = run_script("vllm_kflow_qwen", flags, Path("run").resolve(), served=SharedChat())
print(ran.err, file=sys.stderr, end="")
sys.exit(ran.code)
"""


def environment(home: Path, python: str, **more: str) -> dict[str, str]:
    """A place with the scripts, and commands of these texts before all others."""
    binaries = home / "bin"
    binaries.mkdir(parents=True)
    commands = {"srun": SRUN, "scontrol": SCONTROL, "python": python, "server": SERVER}
    for name, text in commands.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    shutil.copytree(ROOT / "bash_scripts", home / "bash_scripts")
    (home / "serve.sh").write_text('exec server "$@"\n')
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PORT": str(free_port()),
        "SERVE": "serve.sh",
        "LOOK_EVERY": "0.1",
        "RESTART_AFTER": "0.1",
        **more,
    }


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        return int(free.getsockname()[1])


def submit(home: Path, python: str, *flags: str, **more: str) -> subprocess.CompletedProcess[str]:
    slurm = {"SLURM_SUBMIT_DIR": str(home), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[2-4]"}
    return subprocess.run(
        ["bash", str(EXAMPLE), *flags],
        env=environment(home, python, **slurm, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )


def requeued(home: Path) -> list[str]:
    path = home / "requeued"
    return path.read_text().splitlines() if path.exists() else []


def test_a_server_that_dies_is_started_again_and_the_record_is_as_if_it_had_not(
    tmp_path: Path,
) -> None:
    whole = run_script("vllm_kflow_qwen", STEPS, tmp_path / "whole", ScriptedEngine())
    home = tmp_path / "home"
    done = submit(home, CLIENT, DIES="yes")
    assert (done.returncode, requeued(home)) == (0, []), done.stderr
    assert "Complete." in done.stdout
    assert "has ended with exit code 1 and is started again" in "".join(
        path.read_text() for path in home.glob("*.log")
    )
    (folder,) = home.glob("run/results/*/model")
    expected = contents(whole.folder, "seed_*/predictions_*")
    assert len(expected) == 8
    assert contents(folder, "seed_*/predictions_*") == expected
    assert (home / "knowledge-flow-4711.servers").read_text().count("/v1\n") in (2, 3)


@pytest.mark.parametrize(
    ("code", "retry_after", "again"),
    [(0, "0", False), (1, "0", True), (1, "600", False), (2, "0", False), (143, "600", True)],
)
def test_the_exit_code_decides(code: int, retry_after: str, again: bool, tmp_path: Path) -> None:
    python = f'#!/bin/sh\nprintf "%s\\n" "$@" >asked\nexit {code}\n'
    done = submit(tmp_path, python, "--limit", "2", RETRY_AFTER=retry_after)
    assert done.returncode == code
    assert requeued(tmp_path) == ["requeue 4711"] * again
    script, *flags = (tmp_path / "asked").read_text().split()
    listed = f"@{tmp_path}/knowledge-flow-4711.servers"
    assert script == "scripts/vllm_kflow_oss.py"
    assert flags == ["--canary", "--engine", "openai", "--base_url", listed, "--limit", "2"]
    addresses = (tmp_path / "knowledge-flow-4711.servers").read_text().split()
    assert [address.split(":")[1] for address in addresses] == [f"//{node}" for node in NODES]


@pytest.mark.parametrize(("code", "expected"), [("2", 2), ("1", 1)])
def test_without_any_server_no_client_is_started(code: str, expected: int, tmp_path: Path) -> None:
    more = {"SERVE": "ended.sh", "START_WITHIN": "1", "RETRY_AFTER": "600"}
    tmp_path.joinpath("ended.sh").write_text(f"exit {code}\n")
    done = submit(tmp_path, "#!/bin/sh\ntouch asked\n", **more)
    assert (done.returncode, requeued(tmp_path)) == (expected, [])
    assert not (tmp_path / "asked").exists()


def test_the_run_begins_with_those_that_answer_in_time(tmp_path: Path) -> None:
    tmp_path.joinpath("some.sh").write_text(f'[ "$2" = {NODES[2]} ] && exit 1\nexec server "$@"\n')
    done = submit(tmp_path, "#!/bin/sh\ntouch asked\n", SERVE="some.sh", START_WITHIN="3")
    assert done.returncode == 0
    assert "2 of 3 servers answer after 3 seconds." in done.stdout
    assert (tmp_path / "asked").exists()


# SkyPilot runs the same lines on every node, and ends the job with the last of them.


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (2, 2), (143, 33)])
def test_sky_restarts_what_is_worth_it(code: int, expected: int, tmp_path: Path) -> None:
    job = yaml.safe_load(SKY.read_text())
    assert job["resources"]["job_recovery"] == {"recover_on_exit_codes": [33]}
    seen = "until grep -q 'this node ends when' said_1; do sleep 0.1; done"
    python = f'#!/bin/sh\nprintf "%s\\n" "$@" >asked\n{seen}\nexit {code}\n'
    more = {"SKYPILOT_NODE_IPS": "\n".join(NODES[:2]), "OPENAI_API_KEY": "k"}
    more |= {"GONE_AFTER": "1", "LINGER": "0", "FLAGS": "--num_seeds 2"}
    env = environment(tmp_path, python, **more)
    shells = []
    for rank in (0, 1):
        with open(tmp_path / f"said_{rank}", "w") as said:
            shells.append(
                subprocess.Popen(
                    ["bash", "-c", job["run"]],
                    cwd=tmp_path,
                    env={**env, "SKYPILOT_NODE_RANK": str(rank)},
                    stdout=said,
                    stderr=said,
                )
            )
    codes = [shell.wait(timeout=120) for shell in shells]
    assert codes == [expected, 0], [path.read_text() for path in tmp_path.glob("said_*")]
    asked = (tmp_path / "asked").read_text().split()
    assert asked[asked.index("--base_url") + 1 :] == [
        f"@{tmp_path}/servers", "--results_dir", "/results", "--num_seeds", "2"
    ]  # fmt: skip
