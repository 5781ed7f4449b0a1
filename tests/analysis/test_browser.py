"""The page in a real browser: the map, the rollouts and the curves."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import NARROW, Tab, narrow_only
from helpers.fakes import ScriptedEngine
from helpers.results_on_disk import ours, published, wide, write_run, write_step
from helpers.scripted import run_script
from kflow.analysis.page import report
from kflow.types import Entry

SCRIPTS = "vllm_kflow_qwen_knowledgeRegen", "vllm_kflow_qwen_positiveKnowledge"
STEPS = 14
FIRST, SECOND = Entry("Add the parts first.", 3), Entry("Never divide by zero.")
THIRD, BETTER = Entry("Try small cases."), Entry("Add all the parts first.", 3)
LISTS = [
    [],
    [FIRST],
    [FIRST, SECOND],
    [BETTER, SECOND, THIRD],
    [SECOND, THIRD],
    [SECOND, THIRD],
]
CHANGES = [[], ["added"], ["added"], ["replaced", "added"], ["dropped"], []]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of three problems; one with a synthetic list, one of several slots, one of the
    published code."""
    home = tmp_path_factory.mktemp("runs")
    for name in SCRIPTS:
        run_script(name, ["--reflex_size", str(STEPS)], home, ScriptedEngine())
    results = home / "results"
    for step, entries in enumerate(LISTS):
        record = ours(0, 1, 1, knowledge=tuple(entries))
        write_step(results / "vllm_64_lists" / "m", step, [record])
    for step, answers in enumerate([[5, 7, None, 7], [7, 5, 5]]):
        slots = [ours(0, 7, answer, question=f"Slot {n}") for n, answer in enumerate(answers)]
        record = wide(slots, answers[1])
        write_step(results / "vllm_64_wide" / "m", step, [record])
    write_run(results / "vllm_64_published" / "m", [[25], [3]], [25], record=published)
    runs = [str(results / f"vllm_{name}") for name in ("regen*", "posK*", "64*")]
    report.main("", [*runs, "-o", str(home / "report.html")])
    return home / "report.html"


def test_a_cell_opens_its_rollout_and_back_closes_it(tab: Tab) -> None:
    assert tab.page.is_hidden("#opened")
    tab.open("1 2", "second, step 2")
    assert tab.focused("id") == "rollout-title"
    assert "gold 102" in tab.page.inner_text(".outcome")
    headings = tab.page.locator("article h5").all_inner_texts()
    assert headings == ["Things to Avoid", "Summary", "Answer"]
    assert tab.page.is_hidden("details.thinking .text")
    tab.page.click("details.thinking summary")
    assert "«second|0|2|thoughts»" in tab.page.inner_text("details.thinking .text")
    tab.page.click("details.prompt summary")
    assert "How many birds" in tab.page.inner_text("details.prompt .text")
    tab.open("0 5", "first, step 5")
    tab.page.go_back()
    tab.opens("second, step 2")
    tab.page.go_back()
    tab.page.wait_for_selector("#opened", state="hidden")


@narrow_only
def test_the_map_by_keyboard(tab: Tab) -> None:
    tab.page.focus('.heat a[tabindex="0"]')
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowLeft"):
        tab.page.keyboard.press(key)
    label = tab.focused("aria-label")
    assert label is not None
    assert label.startswith("third, step 1: ")
    assert tab.page.locator('.heat a[tabindex="0"]').count() == 1
    tab.page.keyboard.press("End")
    tab.page.keyboard.press("Enter")
    tab.opens(f"third, step {STEPS - 1}")


def test_stepping_through_a_list_with_buttons_and_keys(tab: Tab) -> None:
    tab.choose_run("lists")
    tab.page.click(".heat a")
    tab.opens("aime-0, step 0")
    assert "No entries" in tab.page.inner_text(".knowledge")
    for step, (entries, changes) in enumerate(zip(LISTS, CHANGES, strict=True)):
        if step % 2:
            tab.page.click("#next")
        elif step:
            tab.page.keyboard.press("ArrowRight")
        tab.opens(f"aime-0, step {step}")
        entry_texts = tab.page.locator(".knowledge ol > li > .text").all_inner_texts()
        marks = tab.page.locator(".knowledge .mark").all_inner_texts()
        assert (entry_texts, marks) == ([entry.text for entry in entries], changes)
    assert tab.page.get_attribute("#next", "aria-disabled") == "true"
    assert tab.page.get_attribute("#next", "href") is None
    tab.page.keyboard.press("ArrowLeft")
    tab.opens(f"aime-0, step {len(LISTS) - 2}")
    assert tab.page.inner_text(".dropped .text") == "Add all the parts first."
    tab.page.click("#strip a >> nth=2")
    tab.opens("aime-0, step 2")
    tab.page.keyboard.press("ArrowRight")
    tab.opens("aime-0, step 3")


@narrow_only
def test_a_rewritten_list_shows_what_it_was(tab: Tab) -> None:
    tab.open("0 2", "first, step 2")
    assert tab.page.locator(".knowledge .mark").all_inner_texts() == ["replaced"]
    tab.page.click("details.before summary")
    assert "«first|0|0|Things to Avoid»" in tab.page.inner_text("details.before .text")
    assert "«first|0|1|Things to Avoid»" in tab.page.inner_text(".knowledge li > .text")


def test_two_runs_side_by_side(tab: Tab) -> None:
    tab.open("2 3", "third, step 3")
    tab.compare_with("posK")
    tab.page.wait_for_selector("#sides.two article:nth-child(2) .outcome")
    assert "posK" in tab.page.inner_text("#sides article:nth-child(2) h3")
    assert "«third|0|3|Novel" in tab.page.inner_text("#sides article:nth-child(2)")
    tab.page.click("#next")
    tab.opens("third, step 4")
    tab.page.wait_for_selector("#sides.two article:nth-child(2) .outcome")
    tab.compare_with("lists")
    tab.page.wait_for_selector("#sides.two article:nth-child(2) > .remark")
    assert "no such problem" in tab.page.inner_text("#sides article:nth-child(2)")


def test_points_of_the_curve_by_keyboard_and_pointer(tab: Tab) -> None:
    tab.page.locator('#curves-rollouts [data-measure=own] .point[tabindex="0"]').focus()
    tab.page.keyboard.press("ArrowRight")
    label = tab.focused("aria-label")
    assert label is not None
    assert ", step 1, 2 rollouts per problem: " in label
    assert tab.page.inner_text("#reading") == label
    tab.page.keyboard.press("ArrowDown")
    assert tab.focused("aria-label") not in (label, None)
    point = (
        tab.page.locator("#curves-rollouts [data-measure=majority] .run")
        .nth(1)
        .locator(".point")
        .nth(5)
    )
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    assert ", step 5, 6 rollouts per problem: " in tab.page.inner_text("#reading")


def test_the_curves_over_every_axis(tab: Tab) -> None:
    assert tab.page.is_checked('#axis input[value="total"]')
    for axis, words, drawn in (
        ("total", "total tokens per problem (log scale)", 4),
        ("sequential", "sequential tokens per problem (log scale)", 4),
        ("step", "steps", 5),
    ):
        tab.page.check(f'#axis input[value="{axis}"]')
        assert tab.page.inner_text("#axis-name") in words
        for box, label, number in (("axis", words, drawn), ("rollouts", "rollouts per problem", 5)):
            for measure in ("own", "majority"):
                panel = f"#curves-{box} [data-measure={measure}]"
                assert label in tab.page.text_content(f"{panel} svg")
                assert tab.page.locator(f"{panel} .run").count() == number
        lacking = tab.page.inner_text("#lacking")
        assert ("vllm_64_published" in lacking) == (drawn == 4)
    tab.page.check('#axis input[value="total"]')
    label = tab.page.locator("#curves-axis .point").first.get_attribute("aria-label")
    assert label is not None
    assert " total tokens per problem: " in label


def test_the_rollouts_of_a_step(tab: Tab) -> None:
    tab.choose_run("wide")
    tab.open("0 0", "aime-0, step 0, rollout 1")  # the first that gave the verdict
    assert "(gave the step's verdict)" in tab.page.inner_text(".outcome")
    assert "7 (right)" in tab.page.inner_text(".facts")
    assert tab.page.locator("#slots a").count() == 4
    assert tab.page.locator("#slots a.mark-v").count() == 2
    assert tab.page.locator("#legend .mark-v").count() == 1
    tab.page.click("#slots a >> nth=2")
    tab.opens("aime-0, step 0, rollout 2")
    assert tab.page.inner_text(".outcome").endswith("no answer, gold 7")
    tab.page.click("details.prompt summary")
    assert tab.page.inner_text("details.prompt .text") == "Slot 2"
    address = str(tab.page.evaluate("location.hash"))
    assert "slot=2" in address
    tab.page.focus("#strip a")
    tab.page.keyboard.press("ArrowRight")
    tab.opens("aime-0, step 1, rollout 1")
    assert tab.page.locator("#slots a").count() == 3


def test_an_address_of_no_problem_says_so(browser: Any, html: Path) -> None:
    tab = Tab(browser, html, *NARROW, "#problem=gone&step=99")
    assert "no problem gone" in tab.page.inner_text("#hint")
    tab.close()


def test_structure_for_a_screen_reader(tab: Tab) -> None:
    tab.open("1 2", "second, step 2")
    levels = tab.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5')].map(h => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert tab.page.evaluate(
        "[...document.querySelectorAll('select, input')].every(e => e.labels.length === 1)"
    )
    ids = tab.page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    heat = tab.page.locator(".heat")
    assert heat.locator("tbody th[scope=row]").count() == 3
    assert heat.locator("thead th[scope=col]").count() == STEPS + 1
    assert all(heat.locator("a").evaluate_all("all => all.map(a => a.ariaLabel.length > 10)"))
    tab.page.keyboard.press("Control+Home")
    tab.page.focus(".skip")
    tab.page.keyboard.press("Enter")
    assert tab.focused("id") == "map"
    assert tab.title() == "second, step 2"
