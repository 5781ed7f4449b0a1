"""What starts runs on nodes: the Slurm examples under a fake srun and scontrol, and the lines of
servers.sky.yaml, with the real client and scripted servers at several addresses of this machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from helpers.fakes import ScriptedEngine, contents
from helpers.http_server import Answer, Received, Server
from helpers.scripted import ROOT, run_script

NODES = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
EXAMPLES = ROOT / "bash_scripts" / "nodes"
STEPS = ["--reflex_size", "4", "--num_seeds", "2"]
# Runs a command as a step; its options say where, which is this machine. With Slurm's signals: to
# the step once the command is under way, as two minutes before the time limit, and for CANCEL to
# the batch shell too.
SRUN = """#!/usr/bin/env bash
while [ "${1#--}" != "$1" ]; do shift; done
if [ -z "${SIGNAL:-}" ]; then exec "$@"; fi
"$@" &
until [ -e ready ]; do sleep 0.02; done
if [ "$SIGNAL" = CANCEL ]; then kill -TERM $PPID; fi
kill -TERM $!
wait $!
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
    binaries.mkdir(parents=True, exist_ok=True)
    commands = {"srun": SRUN, "scontrol": SCONTROL, "python": python, "server": SERVER}
    for name, text in commands.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    shutil.copytree(ROOT / "bash_scripts", home / "bash_scripts", dirs_exist_ok=True)
    (home / "serve.sh").write_text('exec server "$@"\n')
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    return {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PORT": str(port),
        "SERVE": "serve.sh",
        "LOOK_EVERY": "0.1",
        "RESTART_AFTER": "0.1",
        **more,
    }


def submit(
    example: str, home: Path, python: str, *flags: str, **more: str
) -> tuple[int, bool, str, str]:
    """Run an example as its batch shell would, with this text as `python`: the exit code, whether
    the job is queued again, and what is printed on stdout and on stderr."""
    slurm = {"SLURM_SUBMIT_DIR": str(home), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n[2-4]"}
    requeued = home / "requeued"
    requeued.unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", str(EXAMPLES / example), *flags],
        env=environment(home, python, **slurm, **more),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert not requeued.exists() or requeued.read_text() == "requeue 4711\n"
    return done.returncode, requeued.exists(), done.stdout, done.stderr


# On one node.


def test_slurm_is_asked_for_a_signal_and_allowed_to_requeue() -> None:
    for example in ("gpt_oss.sbatch", "servers.sbatch"):
        text = (EXAMPLES / example).read_text()
        options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))
        assert (options["requeue"], options["signal"]) == ("", "TERM@120")
        assert (options["open-mode"], options["gpus-per-node"]) == ("append", "8")


@pytest.mark.parametrize(
    ("code", "retry_after", "again"),
    [
        (0, "0", False),
        (1, "0", True),
        (1, "600", False),
        (2, "0", False),
        (137, "0", True),
        (143, "600", True),
    ],
)
def test_the_exit_code_decides(code: int, retry_after: str, again: bool, tmp_path: Path) -> None:
    python = f'#!/bin/sh\nprintf "%s\\n" "$@" >asked\nexit {code}\n'
    done = submit("gpt_oss.sbatch", tmp_path, python, "--limit", "2", RETRY_AFTER=retry_after)
    assert done[:2] == (code, again)
    commands = (tmp_path / "asked").read_text().split()
    assert commands == ["scripts/vllm_kflow_oss.py", "--canary", "--limit", "2"]


# The real program with a scripted engine, which waits for the signal after its fourth reply.
PROGRAM = f"""#!{sys.executable}
{PATHS}
import os, time
from pathlib import Path
from helpers.fakes import ScriptedEngine
from helpers.scripted import run_script

def waiting(keys):
    if "SIGNAL" in os.environ and len(engine.delivered) == 4:
        Path("ready").touch()
        time.sleep(600)
    return keys[:1]

engine = ScriptedEngine(pick=waiting)
flags = ["--reflex_size", "3", *sys.argv[3:]]
ran = run_script("vllm_kflow_oss", flags, Path("run").resolve(), engine)
print(ran.err, file=sys.stderr, end="")
sys.exit(ran.code)
"""


def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    code, again, _, err = submit("gpt_oss.sbatch", tmp_path, PROGRAM, SIGNAL="TERM")
    assert (code, again) == (143, True), err
    (folder,) = tmp_path.glob("run/results/*/model")
    lines = [path.read_bytes() for path in folder.glob("rollouts_*.jsonl")]
    records = sum(text.count(b'{"rollout":') for text in lines)
    records += 3 * len(list(folder.glob("predictions_*.json")))
    assert records == 4
    code, again, _, err = submit("gpt_oss.sbatch", tmp_path, PROGRAM)
    assert (code, again) == (0, False), err
    assert len(list(folder.glob("predictions_*.json"))) == 3
    assert len(json.loads((folder / "run.json").read_bytes())["sessions"]) == 2


def test_a_cancelled_job_is_not_queued_again(tmp_path: Path) -> None:
    code, again, _, err = submit("gpt_oss.sbatch", tmp_path, PROGRAM, SIGNAL="CANCEL")
    assert (code, again) == (143, False), err


# On several.


def test_a_server_that_dies_is_started_again_and_the_record_is_as_if_it_had_not(
    tmp_path: Path,
) -> None:
    whole = run_script("vllm_kflow_qwen", STEPS, tmp_path / "whole", ScriptedEngine())
    home = tmp_path / "home"
    code, again, _, err = submit("servers.sbatch", home, CLIENT, DIES="yes")
    assert (code, again) == (0, False), err
    assert "has ended with exit code 1 and is started again" in "".join(
        path.read_text() for path in home.glob("*.log")
    )
    (folder,) = home.glob("run/results/*/model")
    expected = contents(whole.folder, "seed_*/predictions_*")
    assert len(expected) == 8
    assert contents(folder, "seed_*/predictions_*") == expected
    assert (home / "knowledge-flow-4711.servers").read_text().count("/v1\n") in (2, 3)


def test_the_client_is_given_the_list_of_servers(tmp_path: Path) -> None:
    python = '#!/bin/sh\nprintf "%s\\n" "$@" >asked\nexit 1\n'
    done = submit("servers.sbatch", tmp_path, python, "--limit", "2", RETRY_AFTER="0")
    assert done[:2] == (1, True)
    script, *flags = (tmp_path / "asked").read_text().split()
    listed = tmp_path / "knowledge-flow-4711.servers"
    assert script == "scripts/vllm_kflow_oss.py"
    assert flags == ["--canary", "--engine", "openai", "--base_url", f"@{listed}", "--limit", "2"]
    addresses = listed.read_text().split()
    assert [address.split(":")[1] for address in addresses] == [f"//{node}" for node in NODES]


@pytest.mark.parametrize("code", [1, 2])
def test_without_any_server_no_client_is_started(code: int, tmp_path: Path) -> None:
    more = {"SERVE": "ended.sh", "START_WITHIN": "1", "RETRY_AFTER": "600"}
    tmp_path.joinpath("ended.sh").write_text(f"exit {code}\n")
    done = submit("servers.sbatch", tmp_path, "#!/bin/sh\ntouch asked\n", **more)
    assert done[:2] == (code, False)
    assert not (tmp_path / "asked").exists()


async def nothing(received: Received, answer: Answer) -> None:
    raise AssertionError("only its health is asked for")


def test_the_run_begins_with_those_that_answer_in_time(tmp_path: Path) -> None:
    tmp_path.joinpath("some.sh").write_text("exec sleep 600\n")
    with Server(nothing, host=NODES[0]) as one, Server(nothing, host=NODES[1], port=one.port):
        more = {"SERVE": "some.sh", "START_WITHIN": "0", "PORT": str(one.port)}
        code, _, out, _ = submit("servers.sbatch", tmp_path, "#!/bin/sh\ntouch asked\n", **more)
    assert code == 0
    assert "2 of 3 servers answer after 0 seconds." in out
    assert (tmp_path / "asked").exists()


# SkyPilot runs the same lines on every node, and ends the job with the last of them.


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 1), (143, 33)])
def test_sky_restarts_what_is_worth_it(code: int, expected: int, tmp_path: Path) -> None:
    job = yaml.safe_load((EXAMPLES / "servers.sky.yaml").read_text())
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
