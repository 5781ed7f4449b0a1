"""The README's picture of report.py's page: docs/report.png.

    python docs/examples/picture.py RESULTS [RESULTS ...] [--problem ID] [--step N]

Opens a rollout beside the same one of the second run, if there is one. Needs Chromium and
playwright (requirements/cpu.txt).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import FloatRect, sync_playwright

TALLEST = 1660  # pixels: a long reply need not be shown to its end
ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+")
    parser.add_argument("--problem", help="a problem's id (the first)")
    parser.add_argument("--step", type=int, help="a step (the last)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = Path(folder) / "report.html"
        script = ROOT / "scripts" / "report.py"
        subprocess.run([sys.executable, script, *options.results, "-o", page], check=True)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        tab = browser.new_page(viewport={"width": 1400, "height": 1000}, color_scheme="light")
        tab.goto(page.as_uri())
        data = tab.evaluate("JSON.parse(document.getElementById('data').textContent)")
        run, *others = sorted(data["runs"], key=lambda each: each["ahead"])
        address = {
            "run": run["name"],
            "problem": options.problem or run["problems"][0],
            "step": run["steps"][-1] if options.step is None else options.step,
        }
        if others:
            address["with"] = others[0]["name"]
        tab.goto(f"{page.as_uri()}#{urlencode(address)}")
        tab.wait_for_selector("#sides article")
        tab.evaluate("scrollTo(0, 0)")
        work = tab.locator("#work").bounding_box()
        assert work is not None
        height = min(TALLEST, work["y"] + work["height"])
        size = FloatRect(x=0, y=0, width=1400, height=height)
        tab.screenshot(path=ROOT / "docs" / "report.png", full_page=True, clip=size)
        browser.close()


if __name__ == "__main__":
    main()
