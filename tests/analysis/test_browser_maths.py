"""The page in a real browser: texts of any kind, and formulas."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import NARROW, Tab, narrow_only
from helpers.pages import HOSTILE, write_hostile
from helpers.results_on_disk import ours, write_step
from kflow.analysis.page import page, report
from kflow.answers import Expression
from kflow.results.runs import read

LONG = "x" * 400_000
ODD = "a" + "🎓" * 5000 + "\x00a" * 1500
# Formula -> the text of what is set for it.
SET = {
    r"$a_{n+1}^2 - x^23$": "an+12−x23",
    r"\(\frac{a+b}{2} \ge \sqrt[3]{ab}\)": "a+b2≥ab3",
    r"\[ \sum_{k=1}^{n} \binom{n}{k} \pmod{40} \]": "∑k=1n(nk)(mod40)",
    r"$$\left\lfloor \frac{n}{2} \right. \mid \text{ if } n \in \mathbb{Z}$$": "⌊n2|\xa0if\xa0n∈ℤ",
    r"$\boxed{\{1{,}000\}}$": "{1,000}",
    r"$\operatorname{lcm}(a,b) = 60^\circ$": "lcm\u2061(a,b)=60∘",
    r"$\begin{pmatrix}1&2\end{pmatrix}$": "(12)",
    r"$$\begin{gather}x\tag{1}\end{gather}$$": "x(1)",
    r"\begin{align*} x &= 1 \end{align*}": "x=1",
    r"\boxed{\frac{1}{2}}": "12",
    r"\[ \begin{aligned} a &= 1 \\ b &= 2 \end{aligned} \]": "a=1b=2",
}
AS_WRITTEN = [
    r"$x^2^3$",
    r"$\frac{1}$",
    r"$\sqrt[3{2}$",
    r"$a}b{$",
    r"$\undefinedthing$",
    r"$\constructor \toString$",
    "$5 and $10, or 5$",
    "$50% of x$",
    r"$x + 1 % y$",
    r"$x \\% hidden$",
    r"$\,$",
    "$" + "x^{" * 60 + "x" + "}" * 60 + "$",
    r"\[" + "x" * 1200 + r"\]",
    r"\( never closed",
]
HOSTILE_FORMULAS = [
    r"\href{javascript:window.hacked=3}{x}",
    r"\url{javascript:window.hacked=3}",
    r"\includegraphics{https://example.org/x.png}",
    r"\htmlData{a=b}{x}",
    r"\htmlId{data}{x}",
    r"\id{data}{x}",
    r"\class{cell}{x}",
    r"\style{color:red}{x}",
    r"\data{a=b}{x}",
    r"\begin{align}x\label{data}\end{align}",
    r"\begin{aligned}x\tag{1}\label{t0-0-0}\end{aligned}",
    r"x\ref{data}",
    r"\cancelto{0}{x}",
    r"\textcolor{url(https://example.org/x)}{x}",
    r"\colorbox{#fff;background:url(https://example.org/x)}{x}",
    r"\def\a{\a\a}\a",
    r"\gdef\frac#1{x}\frac1",
    r"\newcommand\a{xxxxxxxxxx}\a",
    r"\let\a\b\let\b\a\a",
    r"\edef\a{xxxx}\edef\a{\a\a\a\a}\edef\a{\a\a\a\a}\edef\a{\a\a\a\a}\a",
    r"\char\"202E",
    r"\begin{__proto__}x\end{__proto__}",
    r"\dots " * 150,
    r"\left( " * 100,
    "{" * 300 + "x" + "}" * 299,
]


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("runs")
    maths = r"$x^{2} \le \frac{1}{2}$ for \(\undefinedthing\) and $5 or $6, \boxed{42}"
    hostile = "\n".join(f"\\[{formula}\\]" for formula in HOSTILE_FORMULAS)
    many = "$\\frac{a}{b}$\n" * 3000
    replies = [
        f"{LONG}</think>[Summary]: {maths}\n[Answer]: {LONG}",
        f"{ODD}</think>[Answer]: 1",
        "[Answer]: " + "\n".join((*SET, *AS_WRITTEN)),
        f"</think>{hostile}",
        f"</think>{many}",
    ]
    records = [ours(n, 1, 1, pred_solution=reply) for n, reply in enumerate(replies)]
    write_step(home / "vllm_64_long" / "m", 0, records)
    runs = [home / "vllm_64_long", *write_hostile(home)]
    report.main("", [*map(str, runs), "-o", str(home / "report.html")])
    return home / "report.html"


@narrow_only
@pytest.mark.parametrize("run", ["old", "new"])
def test_hostile_text_is_shown_as_text(tab: Tab, run: str) -> None:
    tab.choose_run(run)
    tab.page.click(".heat a >> nth=1")
    tab.page.wait_for_selector("#sides article")
    for kind in ("prompt", "thinking"):
        tab.page.click(f"details.{kind} summary")
    for place in (".outcome", ".facts", ".reply", ".prompt", ".thinking", ".update"):
        text = tab.page.inner_text(f"#sides {place}")
        unsaid = place == ".outcome" or (run == "old" and place in (".facts", ".update"))
        assert "<script>window.hacked = 1</script>" in text or unsaid
        assert "⟨U+202E⟩" in text or unsaid
        assert not {"\u202e", "\u2028", "\x00", "\x1b"} & set(text)
    assert "onerror='window.hacked = 2'" in tab.page.inner_text(".thinking")
    assert "{{ 7 * 7 }}" in tab.page.inner_text(".thinking")
    assert tab.page.locator(".thinking .control").count() == (5 if run == "old" else 4)
    assert tab.page.locator("#sides :is(script, img, b, i, iframe)").count() == 0
    assert HOSTILE.count("<b>") == 1
    assert "<b>7</b>" in tab.page.inner_text(".thinking .boxed")


@narrow_only
def test_long_text_and_maths(tab: Tab) -> None:
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
        f"{LONG}</think>"
    )


@narrow_only
def test_formulas_are_set_whole_or_stay_as_written(tab: Tab) -> None:
    tab.open("2 0", "aime-2, step 0")
    formulas = tab.page.locator(".reply math").evaluate_all("all => all.map(m => m.textContent)")
    assert formulas == list(SET.values())
    # A formula in a box outside mathematics has no title.
    titles = tab.page.locator(".reply math").evaluate_all(
        "all => all.map(m => m.getAttribute('title'))"
    )
    assert titles == [None if source.startswith(r"\boxed") else source for source in SET]
    text = tab.page.evaluate("document.querySelector('.reply .text').textContent")
    assert text.endswith("\n".join(AS_WRITTEN))


@narrow_only
def test_a_long_line_of_odd_characters_arrives_whole(tab: Tab) -> None:
    tab.open("1 0", "aime-1, step 0")
    tab.page.click("details.thinking summary")
    tab.page.wait_for_selector("details.thinking .text")
    text = tab.page.evaluate("document.querySelector('.thinking .text').textContent")
    assert text == ODD.replace("\x00", "⟨U+0000⟩") + "</think>"
    assert tab.page.locator(".thinking .control").count() == 1000


@narrow_only
def test_hostile_formulas_stay_as_written(tab: Tab) -> None:
    tab.open("3 0", "aime-3, step 0")
    assert tab.page.locator(".reply math").count() == 0
    text = tab.page.evaluate("document.querySelector('.reply .text').textContent")
    assert text == "\n".join(f"\\[{formula}\\]" for formula in HOSTILE_FORMULAS)
    assert tab.page.locator("#sides :is(a, img, svg, script, [href], [src])").count() == 0
    assert (
        tab.page.evaluate("JSON.parse(document.getElementById('data').textContent).runs.length")
        == 3
    )


@narrow_only
def test_a_text_of_thousands_of_formulas_sets_some(tab: Tab) -> None:
    tab.open("4 0", "aime-4, step 0")
    assert tab.page.locator(".reply math").count() == 1000
    text = tab.page.evaluate("document.querySelector('.reply .text').textContent")
    assert text.endswith(("$\\frac{a}{b}$\n" * 2000).rstrip())


def test_answers_that_are_expressions_are_set(browser: Any, tmp_path: Path) -> None:
    record = ours(0, 1, r"\frac{1}{2}", verdict=r"\frac{1}{2}")
    write_step(tmp_path / "run", 0, [record])
    run = replace(read(tmp_path / "run", "run"), answers=Expression())
    with open(tmp_path / "r.html", "w+b") as file:
        page.write([run], file)
    tab = Tab(browser, tmp_path / "r.html", *NARROW)
    tab.page.click(".heat a")
    tab.opens("aime-0, step 0")
    assert tab.page.locator(".outcome mfrac").count() == 1
    tab.page.check("#source")
    tab.page.wait_for_selector(".outcome mfrac", state="detached")
    assert r"predicted \frac{1}{2}, gold 1" in tab.page.inner_text(".outcome")
    tab.close()
