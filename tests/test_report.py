"""report.py without a browser: what is in the page, how large it gets, what it refuses."""

from __future__ import annotations

import hashlib
import io
import os
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fakes import obliging
from kflow.analysis import page, report
from kflow.analysis.changes import changes
from kflow.analysis.curve import curves
from kflow.analysis.excerpts import cut, shares
from kflow.analysis.runs import read
from kflow.method import Note
from kflow.prompts import load
from kflow.types import Entry, UserError
from pages import (
    ENCODABLE,
    HOSTILE,
    Page,
    read_page,
    rollout,
    wide,
    write_hostile,
    write_rollouts,
)
from results_on_disk import published, write_run
from rooms import SCRIPTS, method
from test_slots import Panel, work

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]


def made(*arguments: Path | str, at: Path) -> Page:
    report.main("", [*map(str, arguments), "-o", str(at)])
    return read_page(at)


def refuses(capsys: pytest.CaptureFixture[str], *argv: Path | str) -> str:
    with pytest.raises(SystemExit) as ended:
        report.main("", list(map(str, argv)))
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def write_ours(folder: Path, steps: list[list[Any]] = STEPS) -> Path:
    for step, answers in enumerate(steps):
        rows = [rollout(n, GOLDS[n], answer) for n, answer in enumerate(answers)]
        write_rollouts(folder, step, rows)
    return folder


def test_numbers_and_texts_of_our_own_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ours(tmp_path / "vllm_64_a" / "m")
    found = made(tmp_path, at=tmp_path / "r.html")
    said = capsys.readouterr()
    assert (said.err, said.out.split(" (")[0]) == ("", f"Page: {(tmp_path / 'r.html').as_uri()}")
    (run,) = found.data["runs"]
    assert run["name"] == "vllm_64_a"
    assert run["problems"] == ["aime-0", "aime-1"]
    assert run["golds"] == ["25", "7"]
    assert run["outcomes"] == [["rrw", "wnr"]]
    assert run["marks"] == [["   ", "   "]]
    assert run["answers"] == [[["25", "25", "3"], ["1", None, "7"]]]
    assert run["slots"] == [[[None] * 3] * 2]
    assert run["files"] == ["vllm_64_a/m"]
    line = found.chain(0, 0, 1)[2]
    (slot,) = line["slots"]
    assert line["step"] == 2
    assert slot["texts"] == ["Question 1", "", "Thinking.", "[Answer]: \\boxed{7}"]
    assert slot["sections"] == ["Answer"]
    assert line["note"]["skipped"] == "the answer did not change"
    assert "All texts are whole" in found.text
    assert not list(tmp_path.glob(".*"))


def test_an_earlier_formats_run(tmp_path: Path) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, settings={"seed": 0})
    found = made(tmp_path, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert run["outcomes"] == [["rrw", "wnr"]]
    line = found.chain(0, 0, 1)[2]
    assert line["slots"][0]["texts"][2:] == ["Thinking.", "[Answer]: \\boxed{7}"]
    assert line["slots"][0]["completion_tokens"] == 1000
    assert line["note"]["skipped"] == "the answer did not change"


def test_a_folder_of_the_published_code(tmp_path: Path) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, record=published)
    found = made(tmp_path, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert (run["problems"], run["own_ids"]) == (["0", "1"], False)
    line = found.chain(0, 0, 0)[1]
    (slot,) = line["slots"]
    assert (slot["prompt_tokens"], slot["finish"], line["note"]) == (None, None, None)
    assert (slot["list"], slot["predicted"]) == ([], "25")
    (curve,) = found.data["curves"]
    assert curve["axes"]["rollouts"] == [1, 2, 3]
    assert curve["axes"]["total"] is curve["axes"]["sequential"] is None
    assert "No readable run.json" in found.text


def test_seeds_have_a_map_and_texts_each(tmp_path: Path) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_ours(folder / "seed_0")
    write_ours(folder / "seed_1", [[25, 7]] * 3)
    found = made(folder, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert run["outcomes"] == [["rrw", "wnr"], ["rrr", "rrr"]]
    assert run["files"] == ["vllm_64_a/m/seed_0", "vllm_64_a/m/seed_1"]
    assert found.chain(0, 1, 1)[1]["slots"][0]["predicted"] == "7"
    assert found.data["curves"][0]["own"][0]["right"] == 3
    assert found.data["curves"][0]["own"][0]["total"] == 4


def test_outcomes_and_marks(tmp_path: Path) -> None:
    steps = [
        [rollout(0, 1, 1), rollout(1, 2, None, failure="too long", note=None)],
        [rollout(0, 1, 1, repeats_step=0), rollout(1, 2, 5, finish_reason="length")],
        [rollout(0, 1, 1, counted=False), rollout(1, 2, 2, over_budget=True)],
        [rollout(0, 1, None, asks_answer=False), rollout(1, 2, None)],
    ]
    for step, records in enumerate(steps):
        write_rollouts(tmp_path, step, records)
    found = made(tmp_path, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert run["outcomes"] == [["rrra", "ftrn"]]
    assert run["marks"] == [[" ex ", "  b "]]
    assert found.chain(0, 0, 0)[1]["repeats_step"] == 0
    assert found.chain(0, 0, 0)[2]["counted"] is False
    assert found.chain(0, 0, 1)[2]["over_budget"] is True
    assert found.chain(0, 0, 1)[0]["slots"][0]["failure"] == "too long"
    assert found.chain(0, 0, 1)[0]["note"] is None


def test_the_slots_of_a_step(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 0, [wide(7, [3, 7, None, 7], 7)])
    write_rollouts(tmp_path, 1, [wide(7, [3, 3, None], 3)])
    found = made(tmp_path, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert run["outcomes"] == [["rw"]]
    assert run["answers"] == [[["7", "3"]]]
    assert run["slots"] == [
        [[["wrnr", " v v", ["3", "7", None, "7"]], ["wwn", "vv ", ["3", "3", None]]]]
    ]
    first = found.chain(0, 0, 0)[0]
    assert [slot["texts"][0] for slot in first["slots"]] == [f"Slot {n}" for n in range(4)]
    assert (first["verdict"], first["verdict_correct"]) == ("7", True)


def test_a_run_of_wide_steps_as_the_flow_writes_it(tmp_path: Path) -> None:
    work(tmp_path / "run", Panel())
    found = made(tmp_path, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    widths = [slots and len(slots[0]) for slots in run["slots"][0][0]]
    assert widths == [3, None, 3, None, 3]
    assert [outcomes[1::2] for outcomes in run["outcomes"][0]] == ["aa", "aa"]
    chain = found.chain(0, 0, 0)
    assert [len(line["slots"]) for line in chain] == [3, 1, 3, 1, 3]
    assert "Best of" in chain[1]["slots"][0]["list"][0]
    assert chain[1]["note"]["selected"] in (0, 1, 2)
    assert [axis for axis, values in found.data["curves"][0]["axes"].items() if values] == [
        "step",
        "rollouts",
        "total",
        "sequential",
    ]
    assert found.data["curves"][0]["axes"]["rollouts"] == [3, 4, 7, 8, 11]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_methods_texts_arrive_and_its_lists_add_up(script: str, tmp_path: Path) -> None:
    of = method(script)
    templates = load(Path(of.prompt_folder), of.prompts)
    work(tmp_path / "run", of, script=obliging, templates=templates)
    found = made(tmp_path, at=tmp_path / "r.html")
    ran = read(tmp_path / "run", "run")
    for problem in range(len(ran.problems)):
        before: list[str] = []
        for step, line in enumerate(found.chain(0, 0, problem)):
            record = list(page_records(ran.files[0, step]))[problem]
            for slot, told in zip(record.slots, line["slots"], strict=True):
                prompt, carried, thinking, visible = told["texts"]
                assert (prompt, carried) == (slot.question, slot.continues)
                assert slot.reply in (f"{thinking}</think>{visible}", visible)
                assert told["list"] == [entry.text for entry in slot.knowledge]
            listed = line["slots"][0]["list"]
            came, went = zip(*line["replaced"], strict=True) if line["replaced"] else ((), ())
            if listed:
                gone = {*line["dropped"], *came}
                assert {*before} - gone | {*line["added"], *went} == {*listed}
                before = listed


def page_records(path: Path) -> Any:
    from kflow.analysis.reading import records

    return records(path)


def test_untrusted_text_stays_text(tmp_path: Path) -> None:
    folders = write_hostile(tmp_path)
    found = made(*folders, at=tmp_path / "r.html")
    assert len(found.scripts) == 4
    assert {told.get("type") for told, _ in found.scripts} == {
        None,
        "application/json",
        "text/plain",
    }
    assert not [tag for tag, _ in found.tags if tag in ("b", "i", "img", "iframe", "object")]
    assert not [name for _, told in found.tags for name in told if name.startswith("on")]
    assert not re.search("[\u2028\u2029\u202e\x00\x07\ud83d]", found.text)
    assert "⟨U+202E⟩" in found.text
    (slot,) = found.chain(0, 0, 0)[0]["slots"]
    assert slot["texts"] == [HOSTILE, "", HOSTILE, HOSTILE]
    assert slot["failure"] == slot["finish"] == HOSTILE
    (slot,) = found.chain(1, 0, 0)[0]["slots"]
    assert slot["list"] == [ENCODABLE]
    assert slot["sections"] == [ENCODABLE]


def test_the_policy_allows_the_pages_own_style_and_script_alone(tmp_path: Path) -> None:
    write_ours(tmp_path)
    found = made(tmp_path, at=tmp_path / "r.html")
    (policy,) = (told["content"] for _, told in found.tags if "http-equiv" in told)
    (script,) = (text for told, text in found.scripts if "type" not in told)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"style-src '{page.digest(found.style)}'" in policy
    assert f"script-src '{page.digest(script)}'" in policy
    assert "unsafe" not in policy
    assert not [told for _, told in found.tags if "style" in told or "src" in told]
    assert "@font-face" not in found.style


def test_the_bundle_is_temmls_and_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = page.TEMPLATE / "temml"
    assert {path.name for path in bundle.iterdir()} == set(page.TEMML)
    for name, pinned in page.TEMML.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == pinned
    found = made(write_ours(tmp_path / "run"), at=tmp_path / "r.html")
    (script,) = (text for told, text in found.scripts if "type" not in told)
    assert "Copyright (c) 2020 Ron Kok" in script
    monkeypatch.setitem(page.TEMML, "temml.min.js", "0" * 64)
    with pytest.raises(UserError, match=r"temml\.min\.js was changed"):
        page.bundled("temml.min.js")


def test_answers_of_any_length_arrive_whole(tmp_path: Path) -> None:
    huge = int("9" * 4000)
    entry = Entry("x", huge)
    write_rollouts(tmp_path, 0, [rollout(0, 2**80, 2**80, note=Note(added=(entry,)))])
    found = made(tmp_path, at=tmp_path / "r.html")
    assert found.data["runs"][0]["answers"] == [[[str(2**80)[:24] + "…"]]]
    line = found.chain(0, 0, 0)[0]
    assert line["slots"][0]["predicted"] == str(2**80)
    assert line["new"] == [["x", str(huge)]]


def noise(characters: int) -> str:
    return "".join(random.Random(characters).choices("0123456789abcdef", k=characters))


def big_run(folder: Path, steps: int, characters: int) -> Path:
    for step in range(steps):
        text = f"{noise(characters + step)}</think>{noise(300)}"
        write_rollouts(folder, step, [rollout(n, n, n, pred_solution=text) for n in range(4)])
    return folder


@pytest.mark.parametrize("largest", [270_000, 290_000, 500_000])
def test_texts_are_cut_until_the_page_is_small_enough(tmp_path: Path, largest: int) -> None:
    run = read(big_run(tmp_path, 3, 40_000), "big")
    file = io.BytesIO()
    size = page.write([run], file, largest)
    assert size.page == len(file.getvalue()) <= largest
    (tmp_path / "r.html").write_bytes(file.getvalue())
    found = read_page(tmp_path / "r.html")
    assert size.allowance is not None
    assert f"cut to {size.allowance:,} characters" in found.text
    for step, line in enumerate(found.chain(0, 0, 2)):
        head, left, tail = line["slots"][0]["texts"][2]
        whole = noise(40_000 + step)
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + left + len(tail) == len(whole)
        assert len(head) + len(tail) > (3000 if largest == 500_000 else 0)


def test_a_page_of_numbers_alone_that_is_too_large_is_refused(tmp_path: Path) -> None:
    run = read(big_run(tmp_path, 2, 1000), "big")
    with pytest.raises(UserError, match="name fewer runs"):
        page.write([run], io.BytesIO(), 20_000)


def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    def peak(steps: int) -> int:
        run = read(big_run(tmp_path / str(steps), steps, 500_000), "big")
        file = open(tmp_path / "page", "w+b")  # noqa: SIM115
        page.template()
        tracemalloc.start()
        page.write([run], file, 600_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        file.close()
        return most

    # A record is half a megabyte; its bytes and its texts are held at a time.
    assert peak(12) - peak(4) < 2_000_000


def test_shares_and_cuts() -> None:
    assert shares([10, 400, 30, 0], 100) == [10, 60, 30, 0]
    assert shares([500, 400], 100) == [50, 50]
    assert shares([5, 6], 100) == [5, 6]
    assert cut("abcdefg", 7) == "abcdefg"
    assert cut("abcdefg", 3) == ["a", 4, "fg"]
    assert cut("abc", 0) == ["", 3, ""]


ONE, TWO, SIX = Entry("one", 3), Entry("two"), Entry("six", 3)


@pytest.mark.parametrize(
    ("before", "now", "rewritten", "expected"),
    [
        ((), (ONE,), False, ((ONE,), (), ())),
        ((ONE, TWO), (TWO,), False, ((), (ONE,), ())),
        ((ONE, TWO), (SIX, TWO), False, ((), (), ((ONE, SIX),))),  # filed under the same answer
        ((ONE,), (SIX, ONE), False, ((SIX,), (), ())),
        ((TWO,), (Entry("new"),), False, ((Entry("new"),), (TWO,), ())),
        ((TWO,), (Entry("new"),), True, ((), (), ((TWO, Entry("new")),))),
        ((TWO,), (Entry("a"), Entry("b")), True, ((Entry("a"), Entry("b")), (TWO,), ())),
        ((Entry("one", 4),), (ONE,), False, ((ONE,), (Entry("one", 4),), ())),
    ],
)
def test_changes_of_a_list(before: Any, now: Any, rewritten: bool, expected: Any) -> None:
    assert changes(before, now, rewritten) == expected


def test_a_step_without_a_list_does_not_empty_it(tmp_path: Path) -> None:
    """As between the solving steps of a method that has others too; a list that became empty is
    another thing."""
    lists = [(ONE, TWO), (), (TWO, ONE), ()]
    notes = [Note(), Note(), Note(dropped=(ONE, TWO)), Note()]
    for step, (shown, note) in enumerate(zip(lists, notes, strict=True)):
        write_rollouts(tmp_path, step, [rollout(0, 1, 1, knowledge=shown, note=note)])
    chain = made(tmp_path, at=tmp_path / "r.html").chain(0, 0, 0)
    assert [line["added"] for line in chain] == [["one", "two"], [], [], []]
    assert [line["dropped"] for line in chain] == [[], [], [], ["two", "one"]]


def test_notes_on_the_results_are_on_the_page_and_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, STEPS, GOLDS, settings={}, reflex_size=8)
    (tmp_path / "predictions_1.json").write_text("[{")
    found = made(tmp_path, at=tmp_path / "r.html")
    said = capsys.readouterr().err.splitlines()
    for line, words in zip(said, ("predictions_1.json", "lacks step 1"), strict=False):
        assert words in line
        assert line in found.text
    assert found.data["runs"][0]["steps"] == [0, 2]


def test_what_differs_between_runs(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_run(tmp_path / name, STEPS, GOLDS, settings={"seed": seed, "same": 5})
    found = made(tmp_path, at=tmp_path / "r.html")
    rows = re.findall(
        r"<tr><th scope=\"row\">(.+?)</th>(.+?)</tr>", (tmp_path / "r.html").read_text()
    )
    assert ("seed", '<td dir="auto">0</td><td dir="auto">1</td>') in rows
    assert "What differs" in found.text


@pytest.mark.parametrize("damage", ["", "[{", "fewer"])
def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path, damage: str) -> None:
    run = read(write_ours(tmp_path), "run")
    if damage == "fewer":
        write_rollouts(tmp_path, 1, [rollout(0, 25, 25)])
    else:
        (tmp_path / "predictions_1.json").write_text(damage)
    with pytest.raises(UserError, match=r"predictions_1\.json changed while it was read"):
        page.write([run], io.BytesIO())


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_ours(tmp_path / "run")
    results = folder / "predictions_0.json"
    before = results.read_bytes()
    assert "holds no results" in refuses(capsys, tmp_path / "none")
    assert "is left alone" in refuses(capsys, folder, "-o", results)
    assert "is a folder" in refuses(capsys, folder, "-o", tmp_path)
    assert "is no folder" in refuses(capsys, folder, "-o", tmp_path / "x" / "r.html")
    assert "RESULTS" in refuses(capsys)
    assert results.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_pipe_and_a_links_target_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, target = write_ours(tmp_path / "run"), tmp_path / "thesis.txt"
    target.write_text("precious")
    (tmp_path / "link.html").symlink_to(target)
    os.mkfifo(tmp_path / "pipe.html")
    for name in ("link.html", "pipe.html"):
        assert "is left alone" in refuses(capsys, folder, "-o", tmp_path / name)
    (tmp_path / ".r.html.part").symlink_to(target)
    made(folder, at=tmp_path / "r.html")
    assert target.read_text() == "precious"


def test_an_older_report_is_replaced_and_a_failed_one_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, at = write_ours(tmp_path / "run"), tmp_path / "r.html"
    made(folder, at=at)
    before = at.read_bytes()
    made(write_ours(tmp_path / "b"), at=at)
    assert at.read_bytes() != before
    before = at.read_bytes()

    def full(*arguments: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kflow.analysis.command.write_whole", full)
    capsys.readouterr()
    assert "No space left" in refuses(capsys, folder, "-o", at)
    assert at.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_the_points_of_a_curve(tmp_path: Path) -> None:
    for step, answers in enumerate([[1, 5], [1, 2], [4, 2]]):
        records = [rollout(n, n + 1, answer) for n, answer in enumerate(answers)]
        write_rollouts(tmp_path, step, records)
    (curve,) = curves([read(tmp_path, "run")])
    numbers = curve.numbers()
    assert numbers["axes"] == {
        "step": [0, 1, 2],
        "rollouts": [1, 2, 3],
        "total": [1100, 2200, 3300],
        "sequential": [1100, 2200, 3300],
    }
    own: Any = numbers["own"]
    majority: Any = numbers["majority"]
    assert [point["share"] for point in own] == [0.5, 1, 0.5]
    assert [point["share"] for point in majority] == [0.5, 0.75, 1]
    assert curve.first == "0: 1/2, 50 % (9–91 %)"
    assert curve.at(2).startswith("1/2, 50 % (9–91 %); majority 2/2, 100 %")
    assert curve.at(3) == "–"


def test_a_curve_begins_where_an_answer_is_asked_for(tmp_path: Path) -> None:
    write_rollouts(tmp_path, 0, [rollout(0, 1, None, asks_answer=False)])
    write_rollouts(tmp_path, 1, [wide(1, [1, 1, 2], 1)])
    (curve,) = curves([read(tmp_path, "run")])
    assert [bool(curve.numbers()[name][0]) for name in ("own", "majority")] == [False, False]  # type: ignore[index]
    assert curve.first.startswith("1: 1/1, 100 %")


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text; 1.4.11: 3 to 1 for the curves."""
    style = (page.TEMPLATE / "page.css").read_text()
    colours = dict(
        re.findall(r"--([\w-]+): (#\w{6});", style.split(":root {")[1 + scheme].split("}")[0])
    )
    texts = ["ink", "quiet", "link", "added", "dropped", "replaced"]
    grounds = ("right", "wrong", "none", "truncated", "failed", "mark")
    pairs = [(text, "paper", 4.5) for text in texts] + [("ink", "raised", 4.5)]
    pairs += [(f"on-{name}", name, 4.5) for name in grounds]
    pairs += [(f"c{number}", "paper", 3) for number in range(6)]
    for text, ground, least in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (text, ground)
