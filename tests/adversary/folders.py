"""The table of odd results folders, for compare_results.py and report.py.

Each row builds `all/odd` beside an honest run, `all/good`: mostly a copy of it, spoiled. Both
scripts show what is above them with code 0 and the honest run in it; `code` is that of
compare_results.py for the odd folder alone. noted: something was left out, which stderr
says. apart: of other problems than the honest run's, so that the two are not compared.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adversary.damage import DEEP, OVERWRITTEN
from adversary.odd_inputs import PLACES
from adversary.records import (
    GOLD,
    ID,
    PREDICTED,
    PUBLISHED,
    QUESTION,
    SESSIONS,
    SETTINGS,
    SOLUTION,
)  # fmt: skip

Build = Callable[[Path], object]  # of all/odd, which is not there yet


@dataclass(frozen=True)
class Folder:
    name: str
    build: Build
    code: int = 0
    noted: bool = False
    apart: bool = False
    odd: str = "odd"


def honest(folder: Path) -> None:
    """A copy of the run of three problems and three steps that is at hand as `base`."""
    base = next(above / "base" for above in folder.parents if (above / "base").is_dir())
    shutil.copytree(base, folder)


def older(folder: Path) -> None:
    """The honest run as the published code would have written it."""
    honest(folder)
    for path in (folder / "run.json", folder / "status.json"):
        path.unlink(missing_ok=True)
    for path in folder.glob("predictions_*.json"):
        summary, *records = json.loads(path.read_bytes())
        kept = [{name: record[name] for name in PUBLISHED} for record in records]
        path.write_text(json.dumps([{name: summary[name] for name in list(summary)[:4]}, *kept]))


def spoiled(change: Build) -> Build:
    def build(folder: Path) -> None:
        honest(folder)
        change(folder)

    return build


def step(change: Callable[[list[Any]], Any], *numbers: int) -> Build:
    """The parsed predictions of these steps, changed."""

    def edit(folder: Path) -> None:
        for number in numbers or range(3):
            path = folder / f"predictions_{number}.json"
            path.write_text(json.dumps(change(json.loads(path.read_bytes()))))

    return spoiled(edit)


def in_the_older(name: str, value: object) -> Build:
    """A field of the example's last step."""

    def build(folder: Path) -> None:
        older(folder)
        rows = json.loads((folder / "predictions_2.json").read_bytes())
        rows[2][name] = value
        (folder / "predictions_2.json").write_text(json.dumps(rows))

    return build


def field(name: str, value: object, *numbers: int) -> Build:
    """A field of the second record of these steps."""

    def change(rows: list[Any]) -> list[Any]:
        rows[2][name] = value
        return rows

    return step(change, *numbers)


def settings(**values: object) -> Build:
    def edit(folder: Path) -> None:
        run = json.loads((folder / "run.json").read_bytes())
        run[SETTINGS] |= values
        (folder / "run.json").write_text(json.dumps(run))

    return spoiled(edit)


def run(change: Callable[[dict[str, Any]], Any]) -> Build:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "run.json").read_bytes())
        (folder / "run.json").write_text(json.dumps(change(content)))

    return spoiled(edit)


def written(name: str, value: bytes) -> Build:
    return spoiled(lambda folder: (folder / name).write_bytes(value))


def instead(name: str, maker: Callable[[Path], object]) -> Build:
    def edit(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        maker(folder / name)

    return spoiled(edit)


def copied(name: str) -> Build:
    """Step 1's file once more, by another name."""
    return spoiled(lambda folder: shutil.copy(folder / "predictions_1.json", folder / name))


def in_place(*edits: Build) -> Build:
    def build(folder: Path) -> None:
        for edit in edits:
            edit(folder)

    return build


def links(**targets: str) -> Build:
    def edit(folder: Path) -> None:
        for name, target in targets.items():
            (folder / name).symlink_to(target)

    return edit


def deep(folder: Path) -> None:
    """1,500 folders in each other, made one by one: together their path would be too long."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


def without_ids(rows: list[Any]) -> list[Any]:
    return [{key: value for key, value in row.items() if key != ID} for row in rows]


def unnamed(folder: Path) -> None:
    for path in folder.glob("predictions_*.json"):
        path.write_text(json.dumps(without_ids(json.loads(path.read_bytes()))))


def seeds(*names: str) -> Build:
    return lambda folder: [honest(folder / name) for name in names] and None


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = {"a": value}
    return value


WRONG: dict[str, tuple[str, object]] = {
    "predicted_true": (PREDICTED, True),
    "predicted_float": (PREDICTED, 1.5),
    "predicted_list": (PREDICTED, [1]),
    "question_number": (QUESTION, 5),
    "question_null": (QUESTION, None),
    "solution_number": (SOLUTION, 5),
    "solution_null": (SOLUTION, None),
    "gold_list": (GOLD, [1]),
    "gold_null": (GOLD, None),
}
FINE: dict[str, tuple[str, object]] = {
    "predicted_huge": (PREDICTED, 10**4000),
    "question_escapes": (QUESTION, "\x1b[31m\x1b]0;x\x07\u202e\u2066\x00"),
    "solution_escapes": (SOLUTION, "\x1b[31m\x1b]0;x\x07\u202e\u2066\x00"),
    "solution_html": (SOLUTION, "</script><script>alert(1)</script><!--" * 100),
    "solution_long": (SOLUTION, "It follows. " * 400_000),
    "solution_boxes": (SOLUTION, "\\boxed{" * 50_000),
    "question_lists": (QUESTION, "## Wrong Answer List\n" + "**Wrong Answer 1**: x\n" * 50_000),
}
NUMBERS = {
    "999999999999": "999999999999",
    "30000000": "30000000",
    "200_digits": "9" * 200,
}
NAMES = (
    *("\x1b[31mred", "\u202egpj", "a\nb", "a\rb", "\udcff\udcfe", "x" * 250, "-json", "[a]", "*"),
    *("$HOME", "{0}", "a b", "'", '"', "%s", "\u2028", "=1+1", "[bold]x[/bold]"),
)
ODD_SETTINGS: dict[str, object] = {
    "window_0": {"max_new_tokens": 0},
    "window_negative": {"max_new_tokens": -1},
    "window_true": {"max_new_tokens": True},
    "window_text": {"max_new_tokens": "many"},
    "window_float": {"max_new_tokens": 0.5},
    "window_huge": {"max_new_tokens": 10**30},
    "window_list": {"max_new_tokens": []},
    "steps_text": {"reflex_size": "many"},
    "steps_huge": {"reflex_size": 10**30},
    "steps_true": {"reflex_size": True},
    "steps_negative": {"reflex_size": -5},
    "deep_900": {"engine": nested(900)},
    "escapes": {"\x1b[31m\u202e": "\x1b[31m\u202e\x00\ud800"},
    "long": {"engine": "a" * 1_000_000},
    "many": {"engine": {str(n): n for n in range(20_000)}},
}
ODD_RUNS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "settings_null": lambda run: {**run, SETTINGS: None},
    "settings_list": lambda run: {**run, SETTINGS: []},
    "sessions_null": lambda run: {**run, SESSIONS: None},
    "sessions_empty": lambda run: {**run, SESSIONS: []},
    "sessions_numbers": lambda run: {**run, SESSIONS: [1]},
}


def rows() -> list[Folder]:
    folders: list[Folder] = []

    def add(name: str, build: Build, code: int = 0, noted: bool = False, **more: Any) -> None:
        folders.append(Folder(name, build, code, noted, **more))

    # One step of two cannot be read; then none.
    for name, value in OVERWRITTEN.items():
        add(f"step_{name}", written("predictions_1.json", value), 0, True)
    for name, maker in PLACES.items():
        add(f"step_is_{name}", instead("predictions_1.json", maker), 0, True)
        add(f"run_is_{name}", instead("run.json", maker), 0, name != "a_dead_link")
    for name, (key, value) in WRONG.items():
        add(f"step_{name}", field(key, value, 1), 0, True)
        add(f"older_{name}", in_the_older(key, value), 0, True, apart=True)
    add("older_predicted_text", in_the_older(PREDICTED, "many"), 0, True, apart=True)
    add("older_without_ids", in_place(older, unnamed), apart=True)
    add("step_surrogate", field(SOLUTION, "\ud800", 1), 0, True)
    add("step_links_out", instead("predictions_1.json", links_to("../../outside.json")), 0, True)
    add("steps_all_empty", in_place(honest, emptied), 2, True)
    add("steps_all_fifos", in_place(honest, fifos), 2, True)
    for name, (key, value) in FINE.items():
        add(name, field(key, value))
    add("step_without_records", step(lambda rows: rows[:1], 1), 0, True)
    add("step_with_fewer", step(lambda rows: rows[:3], 1), 0, True)
    add("step_of_others", field(ID, "another", 1), 0, True)
    add("step_of_other_golds", field(GOLD, 99999, 1), 0, True)
    add("ids_twice", step(lambda rows: [rows[0], rows[1], *rows[1:]]), 2, True)
    add("ids_escapes", field(ID, "\x1b[31m\u202e"))
    add("ids_none", step(without_ids), 2, True)
    # Numbers in names.
    for name, number in NUMBERS.items():
        add(f"step_number_{name}", copied(f"predictions_{number}.json"), 0, True)
        add(f"journal_number_{name}", written(f"rollouts_{number}.jsonl", b""))
    for name in ("-1", "1.5", "", "x", "1e3", "0x1", " 1", "1.json.bak"):
        add(f"step_number_{name.strip()}_", copied(f"predictions_{name}.json"))
    add("gap", copied("predictions_7.json"), 0, True)
    # run.json.
    for name, values in ODD_SETTINGS.items():
        add(f"settings_{name}", settings(**values))  # type: ignore[arg-type]
    add("settings_deep_100000", written("run.json", b'{"settings": ' + DEEP), 0, True)
    for name, change in ODD_RUNS.items():
        add(f"run_{name}", run(change), 0, name.startswith("settings"))
    for name, value in OVERWRITTEN.items():
        add(f"run_{name}", written("run.json", value), 0, True)
    # Folders in folders.
    add("empty", Path.mkdir, 2)
    add("journal_alone", in_place(Path.mkdir, lambda f: (f / "rollouts_0.jsonl").touch()), 2)
    add("deep", deep, 2)
    add("loops_alone", in_place(Path.mkdir, links(a=".", b=".")), 2)
    add("loops", in_place(Path.mkdir, links(a=".", b=".", c=".."), lambda f: honest(f / "run")))
    add("loops_in_a_run", spoiled(links(a=".", b="..", seed_x=".")))
    add("link_to_the_root", in_place(Path.mkdir, links(root="/"), lambda f: honest(f / "run")))
    add("link_to_proc", in_place(Path.mkdir, links(proc="/proc/self"), lambda f: honest(f / "run")))
    add("fifo_beside", spoiled(lambda f: os.mkfifo(f / "pipe")))
    add("two_seeds", seeds("seed_0", "seed_1"))
    add("seed_far", seeds("seed_0", "seed_999999999999"))
    add("seed_of_letters", seeds("seed_0", "seed_x"))
    add("seed_is_a_file", in_place(seeds("seed_0"), lambda f: (f / "seed_1").touch()))
    add("seed_is_a_loop", in_place(seeds("seed_0"), links(seed_1="seed_1")))
    add("seed_links_out", in_place(seeds("seed_0"), links(seed_1="../../outside")))
    add("seed_empty", in_place(seeds("seed_0"), lambda f: (f / "seed_1").mkdir()), 2, True)
    add("seeds_in_seeds", seeds("seed_0/seed_0", "seed_0/seed_1"))
    add("many_folders", lambda f: [(f / str(n) / "a").mkdir(parents=True) for n in range(2000)], 2)
    for number, name in enumerate(NAMES):
        add(f"name_{number}", honest, odd=name)
    return folders


def links_to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def emptied(folder: Path) -> None:
    for path in folder.glob("predictions_*.json"):
        path.write_bytes(b"")


def fifos(folder: Path) -> None:
    for path in list(folder.glob("predictions_*.json")):
        path.unlink()
        os.mkfifo(path)


ROWS = rows()
