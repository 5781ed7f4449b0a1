"""The page in a real browser, opened from disk: Debian's Chromium, driven by playwright.

On a machine without one these tests are skipped; with REQUIRE_BROWSER=1 they fail instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fakes import ScriptedEngine
from kflow.analysis import report
from pages import HOSTILE, write_hostile
from results_on_disk import ours, write_step
from scripted import run_script

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = BROWSER is None or find_spec("playwright") is None
HOW = "no browser: apt-get install chromium, and pip install the playwright of requirements_cpu.txt"
if MISSING and os.environ.get("REQUIRE_BROWSER") != "1":
    pytest.skip(HOW, allow_module_level=True)

LIST = "vllm_kflow_oss_knowledgeRegen", "vllm_kflow_qwen_positiveKnowledge"
STEPS = 14
LONG = "x" * 400_000
ODD = "a" + "🎓" * 5000 + "\x00a" * 1500
# Formula -> the text of what is set for it.
SET = {
    r"$a_{n+1}^2 - x^23$": "an+12−x23",
    r"\(\frac{a+b}{2} \ge \sqrt[3]{ab}\)": "a+b2≥ab3",
    r"\[ \sum_{k=1}^{n} \binom{n}{k} \pmod{40} \]": "∑k=1n(nk)(mod40)",
    r"$$\left\lfloor \frac{n}{2} \right. \mid \text{ if } n \in \mathbb{Z}$$": "⌊n2∣ if n∈ℤ",
    r"$\boxed{\{1{,}000\}}$": "{1,000}",
    r"$\operatorname{lcm}(a,b) = 60^\circ$": "lcm(a,b)=60∘",
}
AS_WRITTEN = [
    r"$\begin{pmatrix}1&2\end{pmatrix}$",
    r"$\color{red}x$",
    r"$x^2^3$",
    r"$\frac{1}$",
    r"$\sqrt[3{2}$",
    r"$a}b{$",
    r"$\mathbb{abc}$",
    r"$\constructor \toString$",
    "$5 and $10, or 5$",
    "$" + "{" * 300 + "x" + "}" * 300 + "$",
    r"\( never closed",
]
LISTS = [
    [],
    ["Add the parts first."],
    ["Add the parts first.", "Never divide by zero."],
    ["Add all the parts first.", "Never divide by zero.", "Try small cases."],
    ["Never divide by zero.", "Try small cases."],
    ["Never divide by zero.", "Try small cases."],
]
CHANGES = [[], ["added"], ["added"], ["replaced", "added"], ["dropped"], []]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if MISSING:
        pytest.fail(HOW)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def html(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of three problems, and one of odd and long texts on others."""
    home = tmp_path_factory.mktemp("runs")
    for name in LIST:
        run_script(name, ["--reflex_size", str(STEPS)], home, ScriptedEngine())
    write_hostile(home / "results" / "vllm_64_hostile")
    maths = r"$x^{2} \le \frac{1}{2}$ for \(\undefinedthing\) and $5 or $6, \boxed{42}"
    long = ours(0, 1, 1, pred_solution=f"{LONG}</think>[Summary]: {maths}\n[Answer]: {LONG}")
    odd = ours(1, 1, 1, pred_solution=f"{ODD}</think>[Answer]: 1")
    formulas = "\n".join((*SET, *AS_WRITTEN))
    maths = ours(2, 1, 1, pred_solution=f"[Answer]: {formulas}")
    write_step(home / "results" / "vllm_64_long" / "m", 0, [long, odd, maths])
    for step, entries in enumerate(LISTS):
        listed = "\n\n".join(f"**EK {n}**: {entry}" for n, entry in enumerate(entries, 1))
        prompt = (
            f"What?\n\n## Experimental Knowledge List\n{listed}\n\n## Reference Solution\nNone."
        )
        question = prompt if step else "What?"
        write_step(
            home / "results" / "vllm_64_lists" / "m", step, [ours(0, 1, 1, question=question)]
        )
    runs = [str(home / "results" / f"vllm_{name}") for name in ("regen*", "posK*", "64*")]
    report.main("", [*runs, "-o", str(home / "report.html")])
    return home / "report.html"


class Tab:
    """The page at one width, and everything that it complained of or asked the network for."""

    def __init__(self, browser: Any, html: Path, width: int, scheme: str, address: str) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.url = html.as_uri()
        self.page.goto(self.url + address)
        self.page.wait_for_selector(".heat a")

    def title(self) -> str:
        return str(self.page.inner_text("#rollout-title"))

    def opens(self, title: str) -> None:
        """Wait until that rollout is shown."""
        self.page.wait_for_function(
            "t => document.querySelector('#rollout-title').innerText === t"
            " && document.querySelector('#sides article')",
            arg=title,
        )

    def fits(self) -> bool:
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    def focused(self, attribute: str) -> str | None:
        return self.page.evaluate(f"document.activeElement.getAttribute('{attribute}')")  # type: ignore[no-any-return]


NARROW, WIDE = (375, "dark"), (1600, "light")
narrow_only = pytest.mark.parametrize("tab", [NARROW], ids=["375"], indirect=True)


@pytest.fixture(params=[NARROW, WIDE], ids=["375", "1600"])
def tab(request: pytest.FixtureRequest, browser: Any, html: Path) -> Iterator[Tab]:
    tab = Tab(browser, html, *request.param, "")
    yield tab
    assert tab.complaints == []
    assert {url.partition("#")[0] for url in tab.requests} == {tab.url}
    assert tab.fits()
    assert tab.page.evaluate("window.hacked") is None
    tab.page.context.close()


def choose_run(tab: Tab, words: str) -> None:
    labels = tab.page.locator("#run option").all_inner_texts()
    tab.page.select_option("#run", index=next(n for n, text in enumerate(labels) if words in text))


def test_a_cell_opens_its_rollout_and_back_closes_it(tab: Tab) -> None:
    assert tab.page.is_hidden("#opened")
    tab.page.click('.heat a[data-at="1 2"]')
    tab.opens("second, step 2")
    assert tab.focused("id") == "rollout-title"
    assert "gold 102" in tab.page.inner_text(".verdict")
    headings = tab.page.locator("article h5").all_inner_texts()
    assert headings == ["Things to Avoid", "Summary", "Answer"]
    assert tab.page.is_hidden("details.thinking .text")
    tab.page.click("details.thinking summary")
    assert "«second|0|2|thoughts»" in tab.page.inner_text("details.thinking .text")
    tab.page.click("details.prompt summary")
    assert "How many birds" in tab.page.inner_text("details.prompt .text")
    tab.page.click('.heat a[data-at="0 5"]')
    tab.opens("first, step 5")
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
    choose_run(tab, "lists")
    tab.page.click(".heat a")
    tab.opens("aime-0, step 0")
    assert "no knowledge list" in tab.page.inner_text(".knowledge")
    for step, (entries, changes) in enumerate(zip(LISTS, CHANGES, strict=True)):
        if step % 2:
            tab.page.click("#next")
        elif step:
            tab.page.keyboard.press("ArrowRight")
        tab.opens(f"aime-0, step {step}")
        shown = tab.page.locator(".knowledge ol > li > .text").all_inner_texts()
        marks = tab.page.locator(".knowledge .mark").all_inner_texts()
        assert (shown, marks) == (entries, changes)
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
    tab.page.click('.heat a[data-at="0 2"]')
    tab.opens("first, step 2")
    assert tab.page.locator(".knowledge .mark").all_inner_texts() == ["replaced"]
    tab.page.click("details.before summary")
    assert "«first|0|0|Things to Avoid»" in tab.page.inner_text("details.before .text")
    assert "«first|0|1|Things to Avoid»" in tab.page.inner_text(".knowledge li > .text")


def test_two_runs_side_by_side(tab: Tab) -> None:
    tab.page.click('.heat a[data-at="2 3"]')
    tab.opens("third, step 3")
    labels = tab.page.locator("#with option").all_inner_texts()
    tab.page.select_option("#with", index=next(n for n, t in enumerate(labels) if "posK" in t))
    tab.page.wait_for_selector("#sides.two article:nth-child(2) .verdict")
    assert "posK" in tab.page.inner_text("#sides article:nth-child(2) h3")
    assert "«third|0|3|Novel" in tab.page.inner_text("#sides article:nth-child(2)")
    tab.page.click("#next")
    tab.opens("third, step 4")
    tab.page.wait_for_selector("#sides.two article:nth-child(2) .verdict")
    tab.page.select_option("#with", index=next(n for n, t in enumerate(labels) if "long" in t))
    tab.page.wait_for_selector("#sides.two article:nth-child(2) > .remark")
    assert "no such problem" in tab.page.inner_text("#sides article:nth-child(2)")


def test_hostile_text_is_shown_as_text(tab: Tab) -> None:
    choose_run(tab, "hostile")
    tab.page.click(".heat a >> nth=1")
    tab.page.wait_for_selector("#sides article")
    for kind in ("prompt", "thinking"):
        tab.page.click(f"details.{kind} summary")
    for place in (".verdict", ".facts", ".reply", ".prompt", ".thinking", ".update"):
        shown = tab.page.inner_text(f"#sides {place}")
        assert "<script>window.hacked = 1</script>" in shown or place == ".verdict"
        assert "⟨U+202E⟩" in shown
        assert not {"\u202e", "\u2028", "\x00", "\x1b"} & set(shown)
    assert "onerror='window.hacked = 2'" in tab.page.inner_text(".thinking")
    assert "{{ 7 * 7 }}" in tab.page.inner_text(".thinking")
    assert tab.page.locator(".thinking .control").count() == 5
    assert tab.page.locator("#sides :is(script, img, b, i, iframe)").count() == 0
    assert HOSTILE.count("<b>") == 1
    assert "<b>7</b>" in tab.page.inner_text(".thinking .boxed")


@narrow_only
def test_long_text_and_maths(tab: Tab) -> None:
    choose_run(tab, "long")
    tab.page.click(".heat a")
    tab.opens("aime-0, step 0")
    reply = tab.page.locator(".reply")
    assert reply.locator("math").count() == 1
    assert reply.locator("math mfrac").count() == 1
    first = reply.locator(".text").nth(0).inner_text()
    assert r"\(\undefinedthing\) and $5 or $6, \boxed{42}" in first
    assert tab.page.inner_text(".reply .boxed") == r"\boxed{42}"
    tab.page.check("#source")
    tab.page.wait_for_selector(".reply math", state="detached")
    assert r"$x^{2} \le \frac{1}{2}$" in reply.locator(".text").nth(0).inner_text()
    tab.page.click("details.thinking summary")
    tab.page.wait_for_selector("details.thinking .text")
    assert tab.page.evaluate("document.querySelector('.thinking .text').textContent.length") == len(
        LONG
    )


@narrow_only
def test_formulas_are_set_whole_or_stay_as_written(tab: Tab) -> None:
    choose_run(tab, "long")
    tab.page.click('.heat a[data-at="2 0"]')
    tab.opens("aime-2, step 0")
    found = tab.page.locator(".reply math").evaluate_all("all => all.map(m => m.textContent)")
    assert found == list(SET.values())
    titles = tab.page.locator(".reply math").evaluate_all(
        "all => all.map(m => m.title ?? m.getAttribute('title'))"
    )
    assert titles == list(SET)
    shown = tab.page.evaluate("document.querySelector('.reply .text').textContent")
    assert shown.endswith("\n".join(AS_WRITTEN))


@narrow_only
def test_a_long_line_of_odd_characters_arrives_whole(tab: Tab) -> None:
    choose_run(tab, "long")
    tab.page.click('.heat a[data-at="1 0"]')
    tab.opens("aime-1, step 0")
    tab.page.click("details.thinking summary")
    tab.page.wait_for_selector("details.thinking .text")
    shown = tab.page.evaluate("document.querySelector('.thinking .text').textContent")
    assert shown == ODD.replace("\x00", "⟨U+0000⟩")
    assert tab.page.locator(".thinking .control").count() == 1000


def test_points_of_the_curve_by_keyboard_and_pointer(tab: Tab) -> None:
    tab.page.locator('.curve .point[tabindex="0"]:visible').focus()
    tab.page.keyboard.press("ArrowRight")
    told = tab.focused("aria-label")
    assert told is not None
    assert ", step 1: " in told
    assert tab.page.inner_text("#reading") == told
    tab.page.keyboard.press("ArrowDown")
    assert tab.focused("aria-label") not in (told, None)
    point = tab.page.locator(".curve:visible .run").nth(1).locator(".point").nth(5)
    point.scroll_into_view_if_needed()
    point.hover(force=True)
    assert ", step 5: " in tab.page.inner_text("#reading")


def test_an_address_opens_its_rollout(browser: Any, html: Path) -> None:
    tab = Tab(browser, html, 1600, "light", "")
    choose_run(tab, "posK")
    tab.page.click('.heat a[data-at="1 3"]')
    tab.opens("second, step 3")
    address = str(tab.page.evaluate("location.hash"))
    again = Tab(browser, html, 375, "dark", address)
    again.opens("second, step 3")
    assert "posK" in again.page.inner_text("article h3")
    unknown = Tab(browser, html, 375, "dark", "#problem=gone&step=99")
    assert "no problem gone" in unknown.page.inner_text("#hint")
    for each in (tab, again, unknown):
        assert each.complaints == []
        each.page.context.close()


def test_structure_for_a_screen_reader(tab: Tab) -> None:
    tab.page.click('.heat a[data-at="1 2"]')
    tab.opens("second, step 2")
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
