"""The page in a real browser: what became of the chains, one chain's story, the map of all seeds,
addresses, and all of it by keyboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import NARROW, Tab
from helpers.results_on_disk import ours, wide, write_manifest, write_run, write_step
from kflow.analysis.page import report
from kflow.method import StepNote
from kflow.types import Entry

FIRST, SECOND = Entry("Add the parts first.", 3), Entry("Never divide by zero.")
# Of one chain with the right answer 7: answers, lists in the prompt, and what each step added.
ANSWERS = [3, 3, 7, 7, None, 7]
LISTS = [(), (), (FIRST,), (FIRST,), (FIRST, SECOND), (FIRST, SECOND)]
ADDED: list[tuple[Entry, ...]] = [(), (FIRST,), (), (SECOND,), (), ()]
SEEDS = [[[1, 7], [1, 5], [1, 5]], [[2, 7], [1, 7], [1, 7]], [[2, 7], [2, 7], [1, 7]]]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain that turns, a run of three seeds, one of four rollouts a step, and one of a step."""
    home = tmp_path_factory.mktemp("runs")
    for step, answer in enumerate(ANSWERS):
        note = StepNote(added=ADDED[step])
        turning = ours(0, 7, answer, knowledge=LISTS[step], note=note)
        write_step(home / "vllm_64_story" / "m", step, [turning, ours(1, 5, 5), ours(2, 4, 3)])
    for seed, steps in enumerate(SEEDS):
        write_run(home / "vllm_64_seeds" / "m" / f"seed_{seed}", steps, [1, 7])
    for step, verdict in enumerate([5, 7, 7]):
        slots = [ours(0, 7, n) for n in (5, verdict, verdict, None)]
        write_step(home / "vllm_64_wide" / "m", step, [wide(slots, verdict), *unturned()])
    for step in range(7):  # every second step asks for no answer, as reflections do not
        answer, asks = (None, False) if step % 2 else (5 if step == 4 else 7, True)
        reflecting = ours(0, 7, answer, asks_answer=asks)
        write_step(home / "vllm_64_rounds" / "m", step, [reflecting])
    for name in ("parallel", "budget"):  # right at first, then wrong, and right after its budget
        folder = home / f"vllm_64_{name}" / "m"
        write_step(folder, 0, [ours(0, 7, 7), ours(1, 5, 3)])
        write_step(folder, 1, [ours(0, 7, 3, over_budget=True), ours(1, 5, 3, over_budget=True)])
        write_step(folder, 2, [ours(0, 7, 7, counted=False), ours(1, 5, 5, counted=False)])
    write_manifest(home / "vllm_64_parallel" / "m", {}, experiment={"ahead": True})
    names = ("story", "seeds", "wide", "rounds", "parallel", "budget")
    report.main("", [*(str(home / f"vllm_64_{n}") for n in names), "-o", str(home / "r.html")])
    return home / "r.html"


def unturned() -> list[Any]:
    """Two more problems in steps of four rollouts."""
    return [wide([ours(n, gold, gold) for _ in range(4)], gold) for n, gold in ((1, 5), (2, 4))]


def test_a_chain_at_a_glance(tab: Tab) -> None:
    tab.open("0 0", "aime-0, step 0")
    gist = tab.page.inner_text(".gist")
    assert gist.startswith("Right at 3 of 6 steps, and at the end. ")
    assert gist.endswith("grew at steps 2, 4; the last one shown holds 2 entries.")
    assert tab.texts(".episode") == [
        "× 3 steps 0–1",
        "✓ 7 steps 2–3",
        "– no answer step 4",
        "✓ 7 step 5",
    ]
    assert tab.texts(".turns li") == [
        "Step 2 became right. New in its prompt since step 1: "
        "Add the parts first. abandoned answer 3, written at step 1",
        "Step 4 gave no answer. New in its prompt since step 3: "
        "Never divide by zero. written at step 3",
        "Step 5 became right. Its list was the same as at step 4; "
        "its newest entry, first shown at step 4: "
        "Never divide by zero. written at step 3",
    ]
    assert tab.texts("#strip .grew") == ["", "", "+1", "", "+1", ""]


def test_the_story_stays_while_one_steps_through_the_chain(tab: Tab) -> None:
    tab.open("0 0", "aime-0, step 0")
    tab.page.click(".turns a >> nth=1")
    tab.opens("aime-0, step 4")
    assert tab.page.evaluate("document.activeElement.innerText") == "Step 4"
    tab.page.keyboard.press("ArrowLeft")
    tab.opens("aime-0, step 3")
    assert tab.page.evaluate("document.activeElement.innerText") == "Step 4"
    tab.page.select_option("#problem", "1")
    tab.opens("aime-1, step 3")
    assert tab.page.inner_text(".gist") == "Right at every step."
    assert tab.page.locator(".episode, .turns").count() == 0


def test_the_story_of_verdicts(tab: Tab) -> None:
    tab.choose_run("wide")
    tab.open("0 1", "aime-0, step 1, rollout 1")
    assert tab.page.inner_text(".gist") == "Right from step 1 to the end."
    assert tab.texts(".turns li") == ["Step 1 became right."]


def test_steps_that_ask_for_no_answer_are_passed_over(tab: Tab) -> None:
    tab.choose_run("rounds")
    tab.open("0 0", "aime-0, step 0")
    assert tab.page.inner_text(".gist") == "Right at 3 of 4 steps, and at the end."
    assert tab.texts(".episode") == ["✓ 7 steps 0–2", "× 5 step 4", "✓ 7 step 6"]
    tab.choose_run("story")
    tab.page.select_option("#problem", "2")
    tab.opens("aime-2, step 0")
    assert tab.page.inner_text(".gist").startswith("Never right in 6 steps.")


def test_a_chain_without_its_texts_still_has_its_answers(browser: Any, html: Path) -> None:
    without = html.with_name("without.html")
    without.write_text(re.sub(r'(?s)<script type="text/plain".*?</script>', "", html.read_text()))
    tab = Tab(browser, without, *NARROW, "#problem=aime-0&step=2")
    tab.page.wait_for_selector(".gist")
    assert tab.page.inner_text(".gist") == "Right at 3 of 6 steps, and at the end."
    assert tab.page.locator(".episode").count() == 4
    assert tab.texts(".turns li")[0] == "Step 2 became right."
    assert "cannot be shown" in tab.page.inner_text("#status")
    tab.close()


def test_what_comes_after_a_chains_budget_changes_nothing_in_what_became_of_it(tab: Tab) -> None:
    """As in a folder of independent attempts that has lost its run.json."""
    tab.choose_run("budget")
    assert tab.texts(".worth div") == [
        "1 right at some step, not at the end aime-0",
        "1 never right aime-1",
    ]
    tab.page.click(".worth a >> nth=0")
    tab.opens("aime-0, step 1")
    assert tab.page.inner_text(".gist") == "Right until step 0, then lost."


def test_independent_attempts_have_no_history(tab: Tab) -> None:
    tab.choose_run("parallel")
    assert tab.texts(".worth div") == []
    tab.open("0 0", "aime-0, step 0")
    assert tab.page.inner_text(".gist") == "Right in 1 of 2 independent attempts."
    assert tab.page.locator(".episode, .turns").count() == 0


def test_what_became_of_the_chains(tab: Tab) -> None:
    assert tab.texts(".worth div") == [
        "1 became right aime-0",
        "1 never right aime-2",
        "1 right at every step aime-1",
    ]
    tab.page.click(".worth a >> nth=0")
    tab.opens("aime-0, step 5")  # where it last became right
    assert tab.focused("id") == "rollout-title"
    assert tab.page.is_hidden("#worth")


def test_the_map_of_all_seeds_and_of_one(tab: Tab) -> None:
    tab.choose_run("seeds")
    counts = tab.page.locator(".heat tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('a')].map(a => a.innerText))"
    )
    assert counts == [["1", "2", "3"], ["3", "2", "2"]]
    label = tab.page.get_attribute('.heat a[data-at="1 1"]', "aria-label")
    assert label == "aime-1, step 1: 2 of 3 seeds right"
    tab.open("1 1", "aime-1, step 1")
    assert "wrong" in tab.page.inner_text("#sides .outcome")
    assert tab.page.locator("#seeds a").evaluate_all("all => all.map(a => a.classList[1])") == [
        "w",
        "r",
        "r",
    ]
    tab.page.click("#seeds a >> nth=1")
    tab.page.locator("#sides article h3", has_text="seed 1,").first.wait_for()
    assert tab.page.input_value("#seed") == "-1"
    tab.page.select_option("#seed", "2")
    tab.page.wait_for_selector(".heat.few")
    assert "seed=2" in tab.page.evaluate("location.hash")
    assert tab.page.locator('.heat .cell[class~="w"]').count() == 2
    tab.page.go_back()
    tab.page.wait_for_selector(".heat:not(.few)")


def test_an_address_holds_all_and_back_restores_it(browser: Any, html: Path) -> None:
    address = "#run=vllm_64_wide&problem=aime-0&step=1&slot=3"
    tab = Tab(browser, html, *NARROW, address)
    tab.opens("aime-0, step 1, rollout 3")
    assert tab.page.evaluate("document.querySelector('#rollout').getBoundingClientRect().top") < 50
    tab.page.click("#slots a >> nth=2")
    tab.opens("aime-0, step 1, rollout 2")
    tab.page.click("#next")
    tab.opens("aime-0, step 2, rollout 1")
    for title in ("aime-0, step 1, rollout 2", "aime-0, step 1, rollout 3"):
        tab.page.go_back()
        tab.opens(title)
    assert tab.page.evaluate("location.hash") == address
    tab.close()


def test_a_run_beside_one_of_wider_steps_is_shown_at_as_many_rollouts(tab: Tab) -> None:
    tab.open("0 4", "aime-0, step 4")
    tab.compare_with("wide")
    tab.page.wait_for_selector("#sides.two article:nth-child(2) .outcome")
    other = tab.page.inner_text("#sides article:nth-child(2)")
    assert "vllm_64_wide" in other
    assert "step 0" in tab.page.inner_text("#sides article:nth-child(2) h3")


def test_every_tab_stop_shows_its_focus_and_a_rollout_opens_without_a_mouse(tab: Tab) -> None:
    stops = []
    for _ in range(60):
        tab.page.keyboard.press("Tab")
        at = tab.page.evaluate(
            "(({activeElement: e}) => e === document.body ? null : [e.id, e.className.baseVal"
            " ?? e.className, getComputedStyle(e).outlineStyle, getComputedStyle(e).strokeWidth])"
            "(document)"
        )
        if at is None:
            break
        stops.append(at)
        _, kind, outline, stroke = at
        assert outline != "none" or ("point" in kind and stroke == "2px"), at
        if "cell" in kind:
            break
    assert "skip" in stops[0][1]
    assert "cell" in stops[-1][1]
    tab.page.keyboard.press("Enter")
    tab.opens("aime-0, step 0")
    assert tab.focused("id") == "rollout-title"
    tab.page.keyboard.press("ArrowRight")
    tab.opens("aime-0, step 1")
    tab.page.keyboard.press("Escape")
    assert tab.focused("data-at") == "0 1"
    tab.page.keyboard.press("ArrowDown")
    tab.page.keyboard.press("Enter")
    tab.opens("aime-1, step 1")
