"""report.py without a browser: what is in the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from helpers.driver import SCRIPTS, method
from helpers.fakes import obliging
from helpers.pages import (
    ENCODABLE,
    HOSTILE,
    write_hostile,
    write_page,
)
from helpers.panel import Panel, work
from helpers.results_on_disk import ours, published, wide, write_run, write_step
from kflow.analysis.page import page
from kflow.loop.prompts import load
from kflow.method import StepNote
from kflow.results.reading import read_records
from kflow.results.runs import read
from kflow.types import Entry

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]


def test_numbers_and_texts_of_our_own_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    captured = capsys.readouterr()
    assert (captured.err, captured.out.split(" (")[0]) == (
        "",
        f"Page: {(tmp_path / 'r.html').as_uri()}",
    )
    (run,) = report_page.data["runs"]
    assert run["name"] == "vllm_64_a"
    assert run["problems"] == ["aime-0", "aime-1"]
    assert run["golds"] == ["25", "7"]
    assert run["outcomes"] == [["rrw", "wnr"]]
    assert run["marks"] == [["   ", "   "]]
    assert run["answers"] == [[["25", "25", "3"], ["1", None, "7"]]]
    assert run["slots"] == [[[None] * 3] * 2]
    assert run["files"] == ["vllm_64_a/m"]
    line = report_page.chain(0, 0, 1)[2]
    (slot,) = line["slots"]
    assert line["step"] == 2
    assert slot["texts"][0].startswith("Question 1\n")
    assert slot["texts"][1:] == ["", "Thinking.</think>", "[Answer]: \\boxed{7}"]
    assert slot["sections"] == ["Summary", "Answer"]
    assert line["note"]["skipped"] == "the answer did not change"
    assert "All texts are complete" in report_page.text
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_the_published_code(tmp_path: Path) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, record=published)
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    (run,) = report_page.data["runs"]
    assert (run["problems"], run["own_ids"]) == (["0", "1"], False)
    line = report_page.chain(0, 0, 0)[1]
    (slot,) = line["slots"]
    assert (slot["prompt_tokens"], slot["finish_reason"], line["note"]) == (None, None, None)
    assert (slot["list"], slot["predicted"]) == ([], "25")
    (curve,) = report_page.data["curves"]
    assert curve["axes"]["rollouts"] == [1, 2, 3]
    assert curve["axes"]["total"] is curve["axes"]["sequential"] is None
    assert "No readable run.json" in report_page.text


def test_seeds_have_a_map_and_texts_each(tmp_path: Path) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder / "seed_0", STEPS, GOLDS)
    write_run(folder / "seed_1", [[25, 7]] * 3, GOLDS)
    report_page = write_page(folder, at=tmp_path / "r.html")
    (run,) = report_page.data["runs"]
    assert run["outcomes"] == [["rrw", "wnr"], ["rrr", "rrr"]]
    assert run["files"] == ["vllm_64_a/m/seed_0", "vllm_64_a/m/seed_1"]
    assert report_page.chain(0, 1, 1)[1]["slots"][0]["predicted"] == "7"
    assert report_page.data["curves"][0]["own"][0]["right"] == 3
    assert report_page.data["curves"][0]["own"][0]["total"] == 4


def test_outcomes_and_marks(tmp_path: Path) -> None:
    steps = [
        [ours(0, 1, 1), ours(1, 2, None, failure="too long", note=None)],
        [ours(0, 1, 1, repeats_step=0), ours(1, 2, 5, finish_reason="length")],
        [ours(0, 1, 1, counted=False), ours(1, 2, 2, over_budget=True)],
        [ours(0, 1, None, asks_answer=False), ours(1, 2, None)],
    ]
    for step, rows in enumerate(steps):
        write_step(tmp_path, step, rows)
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    (run,) = report_page.data["runs"]
    assert run["outcomes"] == [["rrra", "ftrn"]]
    assert run["marks"] == [[" ex ", "  b "]]
    assert report_page.chain(0, 0, 0)[1]["repeats_step"] == 0
    assert report_page.chain(0, 0, 0)[2]["counted"] is False
    assert report_page.chain(0, 0, 1)[2]["over_budget"] is True
    assert report_page.chain(0, 0, 1)[0]["slots"][0]["failure"] == "too long"
    assert report_page.chain(0, 0, 1)[0]["note"] is None


def test_the_slots_of_a_step(tmp_path: Path) -> None:
    for step, (answers, verdict) in enumerate([([3, 7, None, 7], 7), ([3, 3, None], 3)]):
        slots = [ours(0, 7, answer, question=f"Slot {n}") for n, answer in enumerate(answers)]
        write_step(tmp_path, step, [wide(slots, verdict)])
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    (run,) = report_page.data["runs"]
    assert run["outcomes"] == [["rw"]]
    assert run["answers"] == [[["7", "3"]]]
    assert run["slots"] == [
        [[["wrnr", " v v", ["3", "7", None, "7"]], ["wwn", "vv ", ["3", "3", None]]]]
    ]
    first = report_page.chain(0, 0, 0)[0]
    assert [slot["texts"][0] for slot in first["slots"]] == [f"Slot {n}" for n in range(4)]
    assert (first["verdict"], first["verdict_correct"]) == ("7", True)


def test_a_run_of_wide_steps_as_the_flow_writes_it(tmp_path: Path) -> None:
    work(tmp_path / "run", Panel())
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    (run,) = report_page.data["runs"]
    widths = [slots and len(slots[0]) for slots in run["slots"][0][0]]
    assert widths == [3, None, 3, None, 3]
    assert [outcomes[1::2] for outcomes in run["outcomes"][0]] == ["aa", "aa"]
    chain = report_page.chain(0, 0, 0)
    assert [len(line["slots"]) for line in chain] == [3, 1, 3, 1, 3]
    assert "Best of" in chain[1]["slots"][0]["list"][0]
    assert chain[1]["note"]["selected"] in (0, 1, 2)
    assert [axis for axis, values in report_page.data["curves"][0]["axes"].items() if values] == [
        "step",
        "rollouts",
        "total",
        "sequential",
    ]
    assert report_page.data["curves"][0]["axes"]["rollouts"] == [3, 4, 7, 8, 11]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_methods_texts_arrive_and_its_lists_add_up(script: str, tmp_path: Path) -> None:
    of = method(script)
    templates = load(Path(of.prompt_folder), of.prompts)
    work(tmp_path / "run", of, script=obliging, templates=templates)
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    ran = read(tmp_path / "run", "run")
    for problem in range(len(ran.problems)):
        before: list[str] = []
        for step, line in enumerate(report_page.chain(0, 0, problem)):
            record = list(read_records(ran.files[0, step]))[problem]
            for slot, slot_line in zip(record.slots, line["slots"], strict=True):
                prompt, carried, thinking, visible = slot_line["texts"]
                assert (prompt, carried) == (slot.question, slot.continues)
                assert thinking + visible == slot.reply
                assert slot_line["list"] == [entry.text for entry in slot.knowledge]
            listed = line["slots"][0]["list"]
            came, went = zip(*line["replaced"], strict=True) if line["replaced"] else ((), ())
            if listed:
                gone = {*line["dropped"], *came}
                assert {*before} - gone | {*line["added"], *went} == {*listed}
                before = listed


def test_untrusted_text_stays_text(tmp_path: Path) -> None:
    folders = write_hostile(tmp_path)
    report_page = write_page(*folders, at=tmp_path / "r.html")
    assert len(report_page.scripts) == 4
    assert {attrs.get("type") for attrs, _ in report_page.scripts} == {
        None,
        "application/json",
        "text/plain",
    }
    assert not [tag for tag, _ in report_page.tags if tag in ("b", "i", "img", "iframe", "object")]
    assert not [name for _, attrs in report_page.tags for name in attrs if name.startswith("on")]
    assert not re.search("[\u2028\u2029\u202e\x00\x07\ud83d]", report_page.text)
    assert "⟨U+202E⟩" in report_page.text
    (slot,) = report_page.chain(0, 0, 0)[0]["slots"]
    assert slot["texts"] == [HOSTILE, "", f"{HOSTILE}</think>", HOSTILE]
    (slot,) = report_page.chain(1, 0, 0)[0]["slots"]
    assert slot["failure"] == slot["finish_reason"] == ENCODABLE
    assert slot["list"] == [ENCODABLE]
    assert slot["sections"] == [ENCODABLE]


def test_the_policy_allows_the_pages_own_style_and_script_alone(tmp_path: Path) -> None:
    write_run(tmp_path, STEPS, GOLDS)
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    (policy,) = (attrs["content"] for _, attrs in report_page.tags if "http-equiv" in attrs)
    (script,) = (text for attrs, text in report_page.scripts if "type" not in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"style-src '{page.digest(report_page.style)}'" in policy
    assert f"script-src '{page.digest(script)}'" in policy
    assert "unsafe" not in policy
    assert not [attrs for _, attrs in report_page.tags if "style" in attrs or "src" in attrs]
    assert "@font-face" not in report_page.style


def test_answers_of_any_length_arrive_whole(tmp_path: Path) -> None:
    huge = int("9" * 4000)
    entry = Entry("x", huge)
    write_step(tmp_path, 0, [ours(0, 2**80, 2**80, note=StepNote(added=(entry,)))])
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    assert report_page.data["runs"][0]["answers"] == [[[str(2**80)[:24] + "…"]]]
    line = report_page.chain(0, 0, 0)[0]
    assert line["slots"][0]["predicted"] == str(2**80)
    assert line["new"] == [["x", str(huge)]]


def test_notes_on_the_results_are_on_the_page_and_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, STEPS, GOLDS, settings={"reflex_size": 8})
    (tmp_path / "predictions_1.json").write_text("[{")
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    stderr = capsys.readouterr().err.splitlines()
    for line, words in zip(stderr, ("predictions_1.json", "lacks step 1"), strict=False):
        assert words in line
        assert line in report_page.text
    assert report_page.data["runs"][0]["steps"] == [0, 2]


def test_what_differs_between_runs(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_run(tmp_path / name, STEPS, GOLDS, settings={"seed": seed, "same": 5})
    report_page = write_page(tmp_path, at=tmp_path / "r.html")
    rows = re.findall(
        r"<tr><th scope=\"row\">(.+?)</th>(.+?)</tr>", (tmp_path / "r.html").read_text()
    )
    assert ("seed", '<td dir="auto">0</td><td dir="auto">1</td>') in rows
    assert "What differs" in report_page.text


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
    grounds = ("right", "wrong", "none", "truncated", "failed", "mark", "q1", "q2", "q3", "q4")
    pairs = [(text, ground, 4.5) for text in texts for ground in ("paper", "raised")]
    pairs += [(f"on-{name}", name, 4.5) for name in grounds]
    pairs += [(f"c{number}", "paper", 3) for number in range(6)]
    for text, ground, least in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (text, ground)
