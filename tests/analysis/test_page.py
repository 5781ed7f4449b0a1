"""report.py without a browser: what is in the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.driver import SCRIPTS, method
from helpers.fakes import obliging
from helpers.pages import (
    ENCODABLE,
    HOSTILE,
    Page,
    write_hostile,
    write_page,
)
from helpers.panel import Panel, work
from helpers.results_on_disk import ours, published, wide, write_run, write_step
from kflow.analysis import compare
from kflow.analysis.page import page
from kflow.loop.prompts import load
from kflow.method import StepNote
from kflow.results.records import read_records
from kflow.results.runs import read
from kflow.types import Entry, LeftOut

GOLDS = [25, 7]
TWELVE = list(range(1, 13))
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
    cells = "".join(
        f'<td data-label="{name}"><span dir="auto">{seed}</span></td>'
        for name, seed in (("mistakes a", 0), ("mistakes b", 1))
    )
    assert ("seed", cells) in rows
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


def headline(report_page: Page) -> str:
    text = report_page.text.partition("Accuracy\n")[2].partition("Hover over")[0]
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " "))


def run_of(folder: Path, rights: Sequence[int], **more: Any) -> Path:
    """A run of twelve problems, of which so many are right at each step."""
    answers = [[*TWELVE[:right], *[0] * (12 - right)] for right in rights]
    return write_run(folder, answers, TWELVE, **more)


def test_it_opens_on_the_verdict(tmp_path: Path) -> None:
    run_of(tmp_path / "run", [3, 1, 9])
    text = headline(write_page(tmp_path / "run", at=tmp_path / "r.html"))
    assert "from 25.0 % at step 0 to 75.0 % at step 2: +50.0 points [+" in text
    assert "would be shown four times in five" in text
    run_of(tmp_path / "one", [3])
    text = headline(write_page(tmp_path / "one", at=tmp_path / "r.html"))
    assert "At step 0, 25.0 % of the answers are right, 95 % interval 8.9 % to 53.2 %." in text
    run_of(tmp_path / "none", [0, 0])
    text = headline(write_page(tmp_path / "none", at=tmp_path / "r.html"))
    assert "none got none of 12 problems right" in text
    assert "goes from" not in text


def test_it_says_what_the_terminal_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    for name, right in (("a", 1), ("b", 12), ("c", 2)):
        run_of(tmp_path / name, [right])
    shown = write_page(tmp_path, at=tmp_path / "r.html").text
    capsys.readouterr()
    compare.main("", [str(tmp_path)])
    _, *sentences = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    assert len(sentences) == 2
    assert all(sentence.strip().replace(" -", " −") in shown for sentence in sentences)


def links(report_page: Page) -> list[str]:
    """Those that open two runs side by side."""
    every = [attributes.get("href") or "" for tag, attributes in report_page.tags if tag == "a"]
    return [link for link in every if "with=" in link]


def test_links_to_what_differs(tmp_path: Path) -> None:
    for name, right in (("a", 1), ("b", 3)):
        run_of(tmp_path / name, [right])
    shown = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    assert links(shown) == [f"#run=b&problem=aime-{n}&step=0&with=a" for n in (1, 2)]
    assert shown.text.count("At 1 rollout a problem") == 2  # the verdict and a table
    assert shown.text.count("At 1,100 tokens a problem") == 1


def test_parallel_thinking_is_the_baseline_and_stands_first(tmp_path: Path) -> None:
    run_of(tmp_path / "vllm_64_a" / "m", [3])
    ahead = {"prefix": "vllm_parallel", "ahead": True}
    run_of(tmp_path / "vllm_parallel_64_b" / "m", [1], experiment=ahead)
    shown = write_page(tmp_path, at=tmp_path / "r.html")
    assert [run["name"] for run in shown.data["runs"]] == ["vllm_parallel_64_b", "vllm_64_a"]
    assert {link.rpartition("with=")[2] for link in links(shown)} == {"vllm_parallel_64_b"}
    assert "mistakes vllm_64_a" in re.sub(r"\s+", " ", shown.text)


def test_a_published_folder_is_linked_by_its_own_names(tmp_path: Path) -> None:
    run_of(tmp_path / "a", [1])
    run_of(tmp_path / "b", [2], record=published)
    for first, second, problem in (("a", "b", "1"), ("b", "a", "aime-1")):
        shown = write_page(tmp_path / first, tmp_path / second, at=tmp_path / "r.html")
        assert links(shown) == [f"#run={second}&problem={problem}&step=0&with={first}"]


def test_runs_of_other_problems_are_not_compared(tmp_path: Path) -> None:
    run_of(tmp_path / "a", [1])
    write_run(tmp_path / "b", [[5]], [5])
    shown = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    assert "These runs are not compared" in headline(shown)
    assert "a problem" not in shown.text


def test_problems_in_another_order_are_paired_by_their_ids(tmp_path: Path) -> None:
    run_of(tmp_path / "a", [3])
    rows = [ours(p, gold, gold if p == 11 else 0) for p, gold in enumerate(TWELVE)]
    write_step(tmp_path / "b", 0, rows[::-1])
    shown = write_page(tmp_path / "a", tmp_path / "b", at=tmp_path / "r.html")
    assert [link.split("&")[1] for link in links(shown)] == [
        f"problem=aime-{n}" for n in (11, 0, 1, 2)
    ]


def test_what_is_carried_and_what_was_left_out(tmp_path: Path) -> None:
    """Of twelve chains that go from right to wrong, each later prompt lacks an entry."""
    folder = run_of(tmp_path / "vllm_64_a" / "m", [12, 0])
    cut = {"left_out": LeftOut(entries=1), "knowledge": (Entry("x"),)}
    write_step(folder, 1, [ours(n, gold, 0, **cut) for n, gold in enumerate(TWELVE)])
    half = [*TWELVE[:6], *[0] * 6]
    ahead = {"prefix": "vllm_parallel", "ahead": True}
    write_run(
        tmp_path / "vllm_parallel_64_b" / "m",
        [half, half[::-1]],
        TWELVE,
        lambda n, gold, answer: ours(n, gold, answer, sampling_seed=7),
        experiment=ahead,
    )
    text = re.sub(r"\s+", " ", write_page(tmp_path, at=tmp_path / "r.html").text)
    assert (
        "did not fit into 12 of 12 prompts of mistakes (12 of 24 list entries were shown)" in text
    )
    table = text.partition("Does what is carried help?")[2].partition("Repaired:")[0]
    assert "mistakes drags –" in table  # nothing to repair
    assert re.search(r"100\.0 % alone \d\d\.0 % −", table.replace("\N{NO-BREAK SPACE}", " "))
    assert "12 of 24 entries shown" in table


def test_how_far_a_run_is(tmp_path: Path) -> None:
    run_of(tmp_path / "run", [1, 2], settings={"reflex_size": 16})
    assert page.describe_size(read(tmp_path / "run", "run")) == "2 of 16 steps"
    folder = tmp_path / "seeds"
    for seed in range(2):
        run_of(folder / f"seed_{seed}", [1])
    assert page.describe_size(read(folder, "seeds")) == "1 step, 2 seeds"


def test_points() -> None:
    assert [page.points(n) for n in (0.0333, -0.1, 0, -0.0001)] == ["+3.3", "−10.0", "0.0", "0.0"]
