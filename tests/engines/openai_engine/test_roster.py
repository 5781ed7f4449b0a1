"""Servers that a file lists, which changes while the run goes on."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from unittest import mock

import pytest

from helpers.fakes import ScriptedEngine, contents
from helpers.http_server import Answer, Received, Scripted, Server
from helpers.scripted import Ran, refused, run_script
from helpers.served import flags, run
from kflow.engines.openai_engine import roster
from kflow.engines.openai_engine.retry import Fleet, balance
from kflow.engines.openai_engine.roster import Follower, Listing, Roster
from kflow.engines.openai_engine.servers import Reached
from kflow.results import description
from kflow.types import Key, UserError

QWEN = "vllm_kflow_qwen"
STEPS = ["--reflex_size", "5", "--num_seeds", "4"]
A, B, C = (f"http://{name}:8000/v1" for name in "abc")


pytestmark = pytest.mark.usefixtures("quickly")

# What a file lists.


@pytest.mark.parametrize(
    ("text", "urls", "faults"),
    [
        (f"{A}\n{B}\n", (A, B), ()),
        (f"\n# two nodes\n  {A}/  # the first\r\n\n{A}\n{B}", (A, B), ()),
        ("# none yet\n", (), ("f lists no server",)),
        (f"{A}\nhttp:/", (A,), ("line 2 of f must be like http://HOST:PORT/v1",)),
        (f"http://me:secret@h/v1\n{B}", (B,), ("line 1 of f must not contain a user name or",)),
        (f"{A} {B}", (), ("line 1 of f must be like http://HOST:PORT/v1",)),
    ],
)
def test_a_file_lists_one_address_a_line(
    text: str, urls: tuple[str, ...], faults: tuple[str, ...]
) -> None:
    listing = roster.parse(text, "f")
    assert listing.urls == urls
    for said, expected in zip(listing.faults, faults, strict=True):
        assert said.startswith(expected)
        assert "secret" not in said


@pytest.mark.parametrize("content", [None, b"\xff\xfe\0", b"#" * (1 << 21)])
def test_a_file_that_cannot_be_read_lists_nothing(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "servers"
    if content is not None:
        file.write_bytes(content)
    listing = roster.read(file)
    assert listing.urls == ()
    assert [fault.startswith(f"cannot read {file} (") for fault in listing.faults] == [True]
    file.write_text(A, encoding="utf-8-sig")
    assert roster.read(file) == Listing((A,))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["Cannot read", "No such file or directory", "give --base_url @FILE"]),
        ("", ["lists no server", "give --base_url @FILE"]),
        ("nodes:\n", ["Line 1 of", "must be like"]),
    ],
)
def test_a_file_that_is_wrong_at_the_start_is_the_users_mistake(
    content: str | None, words: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "servers"
    if content is not None:
        file.write_text(content)
    refused(start(Scripted(), file, tmp_path), *words)
    assert not (tmp_path / "results").exists()


# Which server a chain goes to.


@pytest.mark.parametrize(
    ("before", "chains", "after"),
    [*product([(0,), (0, 1), (0, 1, 2, 3)], (1, 7, 12), [(0, 1), (1, 4), (4,), (0, 1, 2, 3, 4)])],
)
def test_chains_are_spread_again_and_few_move(
    before: tuple[int, ...], chains: int, after: tuple[int, ...]
) -> None:
    homes: dict[object, int] = {n: before[n % len(before)] for n in range(chains)}
    balanced = balance(homes, after)
    loads = Counter(balanced.values())
    assert balanced.keys() == homes.keys()
    assert set(loads) <= set(after)
    counts = [loads[server] for server in after]
    assert max(counts) - min(counts) <= 1
    then = Counter(homes.values())
    most = sum(max(0, then[s] - loads[s]) for s in {*before, *after})
    assert sum(homes[chain] != balanced[chain] for chain in homes) == most


def test_a_fleet_grows_and_shrinks() -> None:
    fleet = Fleet(["a", "b"], 60, print, {n: n % 2 for n in range(6)})
    fleet.add("c")
    assert Counter(fleet.choose(n, 0.0) for n in range(6)) == {0: 2, 1: 2, 2: 2}
    fleet.remove(0)
    assert Counter(fleet.choose(n, 0.0) for n in range(6)) == {1: 3, 2: 3}
    assert fleet.choose("new", 0.0) in (1, 2)
    assert {fleet.choose(0, 0.0, refused) for refused in range(4)} == {1, 2}


# What becomes of a change.


def server(url: str) -> description.Server:
    return description.Server(url, "model", "vllm", "0.10.2", None)


def follow(
    present: tuple[str, ...], *listings: Listing, given: tuple[str, ...] = (), dead: str = ""
) -> list[str]:
    """What a follower makes of the files as they read one after another: +URL and -URL."""
    events = []

    async def reach(url: str, needs: None, say: Callable[[str], None]) -> description.Server:
        if url == dead:
            say(f"{url} is waited for")
            raise UserError(f"{url} cannot be used: start the server first.")
        return server(url)

    async def join(joined: description.Server) -> None:
        events.append(f"+{joined.url}")

    async def work() -> None:
        tasks: list[asyncio.Task[None]] = []
        follower = Follower(
            Roster(given, {Path("f"): tuple(url for url in present if url not in given)}),
            Reached([server(url) for url in present], {}),
            None,  # type: ignore[arg-type]
            join,
            lambda url: events.append(f"-{url}"),
            lambda work: tasks.append(asyncio.create_task(work)),
        )
        for listing in listings:
            follower.act([listing])
            for _ in range(5):  # nothing that tasks do takes longer
                await asyncio.sleep(0)

    with mock.patch.object(roster, "reached", reach):
        asyncio.run(work())
    return sorted(events)


@pytest.mark.parametrize(
    ("listings", "events", "said"),
    [
        ([Listing((A, B))], [], ""),
        ([Listing((A, B, C))], [f"+{C}"], ""),
        ([Listing((B,))], [f"-{A}"], ""),
        ([Listing((B, C))], [f"+{C}", f"-{A}"], ""),
        ([Listing((), ("f lists no server",))], [], "F lists no server: its servers stay as the"),
        ([Listing((A, B), ("line 3 of f is bad",))], [], "Line 3 of f is bad: that line is left"),
        ([Listing((C,))], [f"+{C}"], "None of the servers listed now takes part yet: the others"),
        ([Listing((C,)), Listing((C,))], [f"+{C}", f"-{A}", f"-{B}"], "None of the servers"),
        ([Listing((A, C)), Listing((A, B))], [f"+{B}", f"+{C}", f"-{B}", f"-{C}"], ""),
    ],
)
def test_a_change_lets_servers_join_and_leave(
    listings: list[Listing], events: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert follow((A, B), *listings) == sorted(events)
    err = capsys.readouterr().err
    assert err.startswith(said)
    assert err.count("\n") == bool(said)


def test_what_is_wrong_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    empty = Listing((), ("f lists no server",))
    assert follow((A,), empty, empty, Listing((A,)), empty) == []
    assert capsys.readouterr().err.count("lists no server") == 2


def test_servers_that_are_given_stay() -> None:
    assert follow((A, B), Listing((C,)), given=(A,)) == [f"+{C}", f"-{B}"]


def test_one_that_does_not_pass_takes_no_part_and_is_tried_again_in_silence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(roster, "TRY_AGAIN", 0)
    assert follow((A, B), Listing((B, C)), Listing((B, C)), dead=C) == [f"-{A}"]
    assert capsys.readouterr().err.splitlines() == [
        f"{C} is waited for",
        f"{C} cannot be used: start the server first. Until it passes, {C} takes no part.",
    ]


# Whole runs.


def start(scripted: Scripted, file: Path, home: Path) -> Ran:
    return run(QWEN, scripted, [*STEPS, *flags(f"@{file}")], home)


def write(file: Path, *servers: Server | str) -> None:
    file.write_text("".join(f"{s if isinstance(s, str) else s.url}\n" for s in servers))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    ran = run_script(QWEN, STEPS, tmp_path_factory.mktemp("whole"), ScriptedEngine())
    return predictions(ran)


def predictions(ran: Ran) -> dict[str, bytes]:
    return contents(ran.folder, "seed_*/predictions_*")


async def until(true: Callable[[], object]) -> None:
    while not true():
        await asyncio.sleep(0.001)


def test_one_is_added_one_killed_and_one_replaced(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """A change at each step, by the first request of that step; the others wait for it."""
    file = tmp_path / "servers"
    begun: set[int] = set()
    ended: set[int] = set()

    async def change(received: Received, answer: Answer, key: Key) -> bool:
        if key.step in (1, 2, 3) and key.step not in begun:
            begun.add(key.step)
            if key.step == 1:
                write(file, one, two, added)
                await until(lambda: said(f"{added.url} takes part"))
            if key.step == 3:
                write(file, one, two, other)
                await until(lambda: said(f"{other.url} takes part"))
                await until(lambda: said(f"{added.url} is not listed any more"))
            ended.add(key.step)
            if key.step == 2:
                await asyncio.to_thread(two.shut)
        await until(lambda: key.step in ended or key.step in (0, 4))
        return False

    scripted = Scripted(before=change, steps=5)
    up = [Server(scripted) for _ in range(4)]
    one, two, added, other = up
    with ExitStack() as running:
        for each in up:
            running.enter_context(each)
        write(file, one, two)
        ran = start(scripted, file, tmp_path)
    assert (ran.code, ended) == (0, {1, 2, 3}), ran.err
    assert predictions(ran) == undisturbed
    steps = [steps_at(each, scripted) for each in up]
    assert [max(each) for each in steps[:1] + steps[2:]] == [4, 3, 4]
    assert (max(steps[1]) < 3, min(steps[2]) > 0, steps[3]) == (True, True, {4})
    (session,) = ran.run()["sessions"]
    assert [each["url"] for each in session["engine"]["servers"]] == [each.url for each in up]


def said(words: str) -> bool:
    """Whether the program has said so by now."""
    return words.encode() in sys.stderr.buffer.getvalue()  # type: ignore[attr-defined]


def steps_at(server: Server, scripted: Scripted) -> set[int]:
    """The steps that a server was asked rollouts of."""
    seeds = {each.body["seed"] for each in server.received}
    return {scripted.keys[seed].step for seed in seeds & scripted.keys.keys()}


@pytest.mark.parametrize("content", ["http", None, "# all gone\n", "http://127.0.0.1:9/v1", "new"])
def test_no_content_of_the_file_ends_a_run_or_loses_a_reply(
    content: str | None,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """new: it is half written, and reads otherwise each time; None: it is gone."""
    file, changed = tmp_path / "servers", list[int]()
    read, reads = roster.read, []

    def counted(path: Path) -> Listing:
        another = Listing((f"http://h{len(reads)}/v1",))
        reads.append(another if content == "new" and changed else read(path))
        return reads[-1]

    monkeypatch.setattr(roster, "read", counted)

    async def change(received: Received, answer: Answer, key: Key) -> bool:
        if key.step == 1 and not changed:
            changed.append(len(reads))
            if content is None:
                file.unlink()
            else:
                (tmp_path / "new").write_text(content)
                (tmp_path / "new").replace(file)
        await until(lambda: key.step < 1 or len(reads) > changed[0] + 4)
        return False

    scripted = Scripted(before=change, steps=5)
    with Server(scripted) as server:
        write(file, server)
        ran = start(scripted, file, tmp_path)
    assert ran.code == 0
    assert predictions(ran) == undisturbed
    complaints = {"http://127.0.0.1:9/v1": 2, "new": 0}.get(str(content), 1)
    assert len(ran.complaints) == complaints, ran.err


def test_a_start_needs_one_of_those_listed_and_one_of_another_version_does_not_join(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    file, changed = tmp_path / "servers", list[Key]()

    async def change(received: Received, answer: Answer, key: Key) -> bool:
        if key.step == 1 and not changed:
            changed.append(key)
            write(file, other, one, newer)
        await until(lambda: key.step != 1 or newer.received)  # its trial
        return False

    scripted = Scripted(before=change, steps=5)
    with (
        Server(scripted) as one,
        Server(scripted, {"id": "another"}) as other,
        Server(scripted, version="0.11.0") as newer,
    ):
        write(file, other)
        refused(start(scripted, file, tmp_path), "does not serve model")
        write(file, other, one)
        ran = start(scripted, file, tmp_path)
        assert (ran.code, len(other.received), steps_at(newer, scripted)) == (0, 0, set())
    first, second = ran.complaints
    assert first.endswith(f"Until it passes, {other.url} takes no part.")
    assert "is vllm 0.11.0, but this run uses vllm 0.10.2" in second
    assert predictions(ran) == undisturbed
