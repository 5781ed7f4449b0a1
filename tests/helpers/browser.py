"""Debian's Chromium, driven by playwright, on a page that is opened from disk.

On a machine without one the tests are skipped; with REQUIRE_BROWSER=1 they fail instead.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
MISSING = BROWSER is None or find_spec("playwright") is None
HOW = "no browser: apt-get install chromium, and pip install the playwright of requirements/cpu.txt"

NARROW, WIDE = (375, "dark"), (1600, "light")
narrow_only = pytest.mark.parametrize("tab", [NARROW], ids=["375"], indirect=True)


def launched() -> Iterator[Any]:
    if MISSING and os.environ.get("REQUIRE_BROWSER") != "1":
        pytest.skip(HOW)
    if MISSING:
        pytest.fail(HOW)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER)
        yield chromium
        chromium.close()


class Tab:
    """The page at one width, and everything that it complained of or asked the network for."""

    def __init__(
        self, browser: Any, html: Path, width: int, scheme: str, address: str = ""
    ) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = context.new_page()
        self.page.set_default_timeout(20_000)
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
        # Not wait_for_function, which evaluates texts in the page, and the page forbids that.
        exactly = re.compile(f"^{re.escape(title)}$")
        self.page.locator("#rollout-title", has_text=exactly).wait_for()
        self.page.locator("#sides article").first.wait_for()

    def open(self, at: str, title: str) -> None:
        """Open the rollout of a cell of the map, `problem step`."""
        self.page.click(f'.heat a[data-at="{at}"]')
        self.opens(title)

    def texts(self, selector: str) -> list[str]:
        """What elements show, without line breaks."""
        return [" ".join(each.split()) for each in self.page.locator(selector).all_inner_texts()]

    def compare_with(self, words: str) -> None:
        """Show the run of that name beside the one that is open."""
        labels = self.page.locator("#with option").all_inner_texts()
        self.page.select_option(
            "#with", index=next(n for n, text in enumerate(labels) if words in text)
        )

    def choose_run(self, words: str) -> None:
        labels = self.page.locator("#run option").all_inner_texts()
        self.page.select_option(
            "#run", index=next(n for n, text in enumerate(labels) if words in text)
        )

    def focused(self, attribute: str) -> str | None:
        return self.page.evaluate(f"document.activeElement.getAttribute('{attribute}')")  # type: ignore[no-any-return]

    def close(self) -> None:
        """Raises AssertionError where anything was wrong with the page."""
        assert self.complaints == []
        assert {url.partition("#")[0] for url in self.requests} == {self.url}
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert self.page.evaluate("window.hacked") is None
        self.page.context.close()
