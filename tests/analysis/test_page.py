"""report.py without a browser: what is in the page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.driver import SCRIPTS, method
from helpers.fakes import obliging
from helpers.pages import ENCODABLE, HOSTILE, Page, write_hostile, write_page
from helpers.panel import work
from helpers.programs import Program
from helpers.results_on_disk import compress, ours, published, wide, write_run, write_step
from helpers.small_runs import figures, parallel
from kflow.analysis.page import page
from kflow.analysis.page.excerpts import find_changes
from kflow.loop.prompts import load
from kflow.method import StepNote
from kflow.results.records import read_records
from kflow.results.runs import read
from kflow.types import Entry, LeftOut

GOLDS = [25, 7]
TWELVE = list(range(1, 13))
STEPS = [[25, 1], [25, None], [3, 7]]
Write = Callable[..., Page]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes the page of runs, all below tmp_path where none is named."""
    return lambda *runs: write_page(*(runs or (tmp_path,)), at=tmp_path / "r.html")


def test_numbers_and_texts_of_our_own_run(
    tmp_path: Path, written: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS)
    shown = written()
    assert capsys.readouterr().out.startswith(f"Page: {(tmp_path / 'r.html').as_uri()} (")
    (run,) = shown.data["runs"]
    expected = {
        "name": "vllm_64_a",
        "problems": ["aime-0", "aime-1"],
        "golds": ["25", "7"],
        "outcomes": [["rrw", "wnr"]],
        "marks": [["   ", "   "]],
        "answers": [[["25", "25", "3"], ["1", None, "7"]]],
        "slots": [[[None] * 3] * 2],
        "files": [[f"vllm_64_a/m/predictions_{step}.json" for step in range(3)]],
    }
    assert {name: run[name] for name in expected} == expected
    line = shown.chain(0, 0, 1)[2]
    (slot,) = line["slots"]
    assert line["step"] == 2
    assert slot["texts"][0].startswith("Question 1\n")
    assert slot["texts"][1:] == ["", "Thinking.</think>", "[Answer]: \\boxed{7}"]
    assert slot["sections"] == ["Summary", "Answer"]
    assert line["note"]["skipped"] == "the answer did not change"
    assert "All texts are complete" in shown.text
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_the_published_code(tmp_path: Path, written: Write) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, record=published)
    shown = written()
    (run,) = shown.data["runs"]
    assert (run["problems"], run["own_ids"]) == (["0", "1"], False)
    line = shown.chain(0, 0, 0)[1]
    (slot,) = line["slots"]
    assert (slot["prompt_tokens"], slot["finish_reason"], line["note"]) == (None, None, None)
    assert (slot["list"], slot["predicted"]) == ([], "25")
    (curve,) = shown.data["curves"]
    assert curve["axes"]["rollouts"] == [1, 2, 3]
    assert curve["axes"]["total"] is curve["axes"]["sequential"] is None
    assert "No readable run.json" in shown.text


def test_seeds_have_a_map_and_texts_each(tmp_path: Path, written: Write) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder / "seed_0", STEPS, GOLDS)
    compress(write_run(folder / "seed_1", [[25, 7]] * 3, GOLDS))
    shown = written(folder)
    (run,) = shown.data["runs"]
    assert run["outcomes"] == [["rrw", "wnr"], ["rrr", "rrr"]]
    assert run["files"] == [
        [f"vllm_64_a/m/seed_{seed}/predictions_{step}.json{'.gz' * seed}" for step in range(3)]
        for seed in range(2)
    ]
    assert shown.chain(0, 1, 1)[1]["slots"][0]["predicted"] == "7"
    point = shown.data["curves"][0]["own"][0]
    assert (point["right"], point["total"]) == (3, 4)


def test_outcomes_and_marks(tmp_path: Path, written: Write) -> None:
    steps = [
        [ours(0, 1, 1), ours(1, 2, None, failure="too long", note=None)],
        [ours(0, 1, 1, repeats_step=0), ours(1, 2, 5, finish_reason="length")],
        [ours(0, 1, 1, counted=False), ours(1, 2, 2, over_budget=True)],
        [ours(0, 1, None, asks_answer=False), ours(1, 2, None)],
    ]
    for step, rows in enumerate(steps):
        write_step(tmp_path, step, rows)
    shown = written()
    (run,) = shown.data["runs"]
    assert run["outcomes"] == [["rrra", "ftrn"]]
    assert run["marks"] == [[" ex ", "  b "]]
    assert shown.chain(0, 0, 0)[1]["repeats_step"] == 0
    assert shown.chain(0, 0, 0)[2]["counted"] is False
    assert shown.chain(0, 0, 1)[2]["over_budget"] is True
    assert shown.chain(0, 0, 1)[0]["slots"][0]["failure"] == "too long"
    assert shown.chain(0, 0, 1)[0]["note"] is None


def test_the_slots_of_a_step(tmp_path: Path, written: Write) -> None:
    for step, (answers, verdict) in enumerate([([3, 7, None, 7], 7), ([3, 3, None], 3)]):
        slots = [ours(0, 7, answer, question=f"Slot {n}") for n, answer in enumerate(answers)]
        write_step(tmp_path, step, [wide(slots, verdict)])
    shown = written()
    (run,) = shown.data["runs"]
    assert run["outcomes"] == [["rw"]]
    assert run["answers"] == [[["7", "3"]]]
    assert run["slots"] == [
        [[["wrnr", " v v", ["3", "7", None, "7"]], ["wwn", "vv ", ["3", "3", None]]]]
    ]
    first = shown.chain(0, 0, 0)[0]
    assert [slot["texts"][0] for slot in first["slots"]] == [f"Slot {n}" for n in range(4)]
    assert (first["verdict"], first["verdict_correct"]) == ("7", True)


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_methods_texts_arrive_and_its_lists_add_up(
    script: str, tmp_path: Path, written: Write
) -> None:
    of = method(script)
    templates = load(Path(of.prompt_folder), of.prompts)
    work(tmp_path / "run", of, script=obliging, templates=templates)
    shown = written()
    ran = read(tmp_path / "run", "run")
    for problem in range(len(ran.problems)):
        before: list[str] = []
        for step, line in enumerate(shown.chain(0, 0, problem)):
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


def test_untrusted_text_stays_text(tmp_path: Path, written: Write) -> None:
    folders = write_hostile(tmp_path)
    shown = written(*folders)
    assert len(shown.scripts) == 4
    kinds = {attrs.get("type") for attrs, _ in shown.scripts}
    assert kinds == {None, "application/json", "text/plain"}
    assert not [tag for tag, _ in shown.tags if tag in ("b", "i", "img", "iframe", "object")]
    assert not [name for _, attrs in shown.tags for name in attrs if name.startswith("on")]
    assert not re.search("[\u2028\u2029\u202e\x00\x07\ud83d]", shown.text)
    assert "⟨U+202E⟩" in shown.text
    (slot,) = shown.chain(0, 0, 0)[0]["slots"]
    assert slot["texts"] == [HOSTILE, "", f"{HOSTILE}</think>", HOSTILE]
    (slot,) = shown.chain(1, 0, 0)[0]["slots"]
    assert slot["failure"] == slot["finish_reason"] == ENCODABLE
    assert slot["list"] == [ENCODABLE]
    assert slot["sections"] == [ENCODABLE]


def test_the_policy_allows_the_pages_own_style_and_script_alone(
    tmp_path: Path, written: Write
) -> None:
    write_run(tmp_path, STEPS, GOLDS)
    shown = written()
    (policy,) = (attrs["content"] for _, attrs in shown.tags if "http-equiv" in attrs)
    (script,) = (text for attrs, text in shown.scripts if "type" not in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"style-src '{page.digest(shown.style)}'" in policy
    assert f"script-src '{page.digest(script)}'" in policy
    assert "unsafe" not in policy
    assert not [attrs for _, attrs in shown.tags if "style" in attrs or "src" in attrs]
    assert "@font-face" not in shown.style


def test_answers_of_any_length_arrive_whole(tmp_path: Path, written: Write) -> None:
    huge = int("9" * 4000)
    entry = Entry("x", huge)
    write_step(tmp_path, 0, [ours(0, 2**80, 2**80, note=StepNote(added=(entry,)))])
    shown = written()
    assert shown.data["runs"][0]["answers"] == [[[str(2**80)[:24] + "…"]]]
    line = shown.chain(0, 0, 0)[0]
    assert line["slots"][0]["predicted"] == str(2**80)
    assert line["new"] == [["x", str(huge)]]


def test_notes_on_the_results_are_on_the_page_and_on_stderr(
    tmp_path: Path, written: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, STEPS, GOLDS, settings={"reflex_size": 8})
    (tmp_path / "predictions_1.json").write_text("[{")
    shown = written()
    stderr = capsys.readouterr().err.splitlines()
    for line, words in zip(stderr, ("predictions_1.json", "lacks step 1"), strict=False):
        assert words in line
        assert line in shown.text
    assert shown.data["runs"][0]["steps"] == [0, 2]


def test_what_differs_between_runs(tmp_path: Path, written: Write) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_run(tmp_path / name, STEPS, GOLDS, settings={"seed": seed, "same": 5})
    differing = "".join(written().text.partition("What differs")[2].split())
    assert differing.startswith("settingmistakesamistakesbseed01")


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


def headline(shown: Page) -> str:
    text = shown.text.partition("Accuracy\n")[2].partition("Hover over")[0]
    return re.sub(r"\s+", " ", text.replace("\N{NO-BREAK SPACE}", " "))


def run_of(folder: Path, rights: Sequence[int], **more: Any) -> Path:
    """A run of twelve problems, of which so many are right at each step."""
    answers = [[*TWELVE[:right], *[0] * (12 - right)] for right in rights]
    return write_run(folder, answers, TWELVE, **more)


def test_a_single_run_of_one_step(tmp_path: Path, written: Write) -> None:
    run_of(tmp_path / "one", [3])
    text = headline(written(tmp_path / "one"))
    assert "At step 0, 25.0 % of the answers are right, 95 % interval 8.9 % to 53.2 %." in text
    run_of(tmp_path / "none", [0, 0])
    text = headline(written(tmp_path / "none"))
    assert "none got none of 12 problems right" in text
    assert "goes from" not in text


def test_it_says_what_the_terminal_says(
    tmp_path: Path, written: Write, compare: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    for name, right in (("a", 1), ("b", 12), ("c", 2)):
        run_of(tmp_path / name, [right])
    _, *sentences = compare(tmp_path).partition("\n\n")[0].splitlines()
    shown = written().text
    assert len(sentences) == 2
    assert all(sentence.strip().replace(" -", " −") in shown for sentence in sentences)


def links(shown: Page) -> list[str]:
    """Those that open two runs side by side."""
    every = [attributes.get("href") or "" for tag, attributes in shown.tags if tag == "a"]
    return [link for link in every if "with=" in link]


def test_links_to_what_differs(tmp_path: Path, written: Write) -> None:
    for name, right in (("a", 1), ("b", 3)):
        run_of(tmp_path / name, [right])
    shown = written(tmp_path / "a", tmp_path / "b")
    assert links(shown) == [f"#run=b&problem=aime-{n}&step=0&with=a" for n in (1, 2)]
    assert shown.text.count("At 1 rollout a problem") == 2  # the conclusion and a table
    assert shown.text.count("At 1,100 tokens a problem") == 1


def test_parallel_thinking_is_the_baseline_and_stands_first(tmp_path: Path, written: Write) -> None:
    run_of(tmp_path / "vllm_64_a" / "m", [3])
    ahead = {"prefix": "vllm_parallel", "ahead": True}
    run_of(tmp_path / "vllm_parallel_64_b" / "m", [1], experiment=ahead)
    shown = written()
    assert [run["name"] for run in shown.data["runs"]] == ["vllm_parallel_64_b", "vllm_64_a"]
    assert {link.rpartition("with=")[2] for link in links(shown)} == {"vllm_parallel_64_b"}
    assert "mistakes vllm_64_a" in re.sub(r"\s+", " ", shown.text)


def test_a_published_folder_is_linked_by_its_own_names(tmp_path: Path, written: Write) -> None:
    run_of(tmp_path / "a", [1])
    run_of(tmp_path / "b", [2], record=published)
    for first, second, problem in (("a", "b", "1"), ("b", "a", "aime-1")):
        shown = written(tmp_path / first, tmp_path / second)
        assert links(shown) == [f"#run={second}&problem={problem}&step=0&with={first}"]


def test_runs_of_other_problems_are_not_compared(tmp_path: Path, written: Write) -> None:
    run_of(tmp_path / "a", [1])
    write_run(tmp_path / "b", [[5]], [5])
    shown = written(tmp_path / "a", tmp_path / "b")
    assert "These runs are not compared" in headline(shown)
    assert "a problem" not in shown.text


def test_what_is_carried_and_what_was_left_out(tmp_path: Path, written: Write) -> None:
    """Of twelve chains that go from right to wrong, each later prompt lacks an entry."""
    folder = run_of(tmp_path / "vllm_64_a" / "m", [12, 0])
    cut = {"left_out": LeftOut(entries=1), "knowledge": (Entry("x"),)}
    write_step(folder, 1, [ours(n, gold, 0, **cut) for n, gold in enumerate(TWELVE)])
    half = [*TWELVE[:6], *[0] * 6]
    parallel(tmp_path / "vllm_parallel_64_b" / "m", [half, half[::-1]], TWELVE)
    text = re.sub(r"\s+", " ", written().text)
    assert "12 of 12 prompts of mistakes (12 of 24 list entries were shown)" in text
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
    assert find_changes(before, now, rewritten) == expected


def test_a_step_without_a_list_does_not_empty_it(tmp_path: Path, written: Write) -> None:
    """As between the solving steps of a method that has others too; a list that became empty is
    another thing."""
    lists = [(ONE, TWO), (), (TWO, ONE), ()]
    notes = [StepNote(), StepNote(), StepNote(dropped=(ONE, TWO)), StepNote()]
    for step, (shown, note) in enumerate(zip(lists, notes, strict=True)):
        write_step(tmp_path, step, [ours(0, 1, 1, knowledge=shown, note=note)])
    chain = written().chain(0, 0, 0)
    assert [line["added"] for line in chain] == [["one", "two"], [], [], []]
    assert [line["dropped"] for line in chain] == [[], [], [], ["two", "one"]]


def test_the_points_of_a_curve(tmp_path: Path) -> None:
    """They begin where an answer is asked for."""
    strategies = [ours(n, n + 1, None, asks_answer=False) for n in range(2)]
    write_step(tmp_path, 0, strategies)
    for step, answers in enumerate([[1, 5], [1, 2]], 1):
        write_step(tmp_path, step, [ours(n, n + 1, answer) for n, answer in enumerate(answers)])
    run = figures(read(tmp_path, "run"))
    numbers: Any = page.draw_curve(run)
    tokens = [1100, 2200, 3300]
    axes = {"step": [0, 1, 2], "rollouts": [1, 2, 3], "total": tokens, "sequential": tokens}
    assert numbers["axes"] == axes
    for measure, shares in (("own", [0.5, 1]), ("majority", [0.5, 0.75])):
        first, *points = numbers[measure]
        assert first is None
        assert [point["accuracy"] for point in points] == shares
    assert [page.spell_step(run, step) for step in (0, 2, 3)] == [
        "no answer asked for",
        "2/2, 100 % (34–100 %); majority 1.5/2, 75 % (20–97 %)",
        "–",
    ]
