"""A report read back: its elements, its numbers and its unpacked texts; and a hostile run."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from helpers.results_on_disk import ours, published, write_step
from kflow.analysis.page import report
from kflow.method import StepNote
from kflow.types import Entry

HOSTILE = (
    "<script>window.hacked = 1</script></script><!--<img src=x onerror='window.hacked = 2'>"
    "]]> {{ 7 * 7 }} \u2028\u2029 \x00\x07\x1b[31m \u202eright to left\u2066 \ud83d lone 🎓 "
    '&lt;b&gt; "quoted" \\boxed{<b>7</b>} $\\text{<i>x</i>}$'
)
ENCODABLE = HOSTILE.replace("\ud83d", "")  # our format holds no lone surrogate


def write_hostile(parent: Path) -> list[Path]:
    """Runs of two steps in which every name and text is HOSTILE: the published code's, and ours."""
    odd = "<b onclick='x'>&amp;"
    before, today = (parent / f"vllm_64_{name}{odd}" / "m<script>1<" for name in ("old", "new"))
    record = published(0, 1, 1, id=HOSTILE, question=HOSTILE)
    record |= {"pred_solution": f"{HOSTILE}</think>{HOSTILE}", "failure": HOSTILE, HOSTILE: HOSTILE}
    entry = Entry(ENCODABLE, ENCODABLE)
    later = ours(
        0,
        1,
        2,
        id=ENCODABLE,
        question=ENCODABLE,
        pred_solution=f"{ENCODABLE}</think>{ENCODABLE}[{ENCODABLE}]: x",
        finish_reason=ENCODABLE,
        failure=ENCODABLE,
        sections=(ENCODABLE,),
        missing_sections=(ENCODABLE,),
        knowledge=(entry,),
        verdict=ENCODABLE,
        note=StepNote(added=(entry,), dropped=(entry,), skipped=ENCODABLE, truncated=(ENCODABLE,)),
    )
    for step in (0, 1):
        write_step(before, step, [record])
        write_step(today, step, [later])
    run = {"settings": {HOSTILE: HOSTILE}, "sessions": [{"argv": [HOSTILE]}]}
    for folder in (before, today):
        (folder / "run.json").write_text(json.dumps(run))
    return [before, today]


@dataclass
class Page(HTMLParser):
    """tags: (name, attributes) in order. scripts: (attributes, content). text: all that is shown
    without the page's script."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    scripts: list[tuple[dict[str, str | None], str]] = field(default_factory=list)
    text: str = ""
    style: str = ""
    _within: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            attributes, content = self.scripts.pop()
            self.scripts.append((attributes, content + data))
        elif self._within == "style":
            self.style += data
        else:
            self.text += data

    @property
    def data(self) -> dict[str, Any]:
        (content,) = (text for attrs, text in self.scripts if attrs.get("id") == "data")
        return dict(json.loads(content))

    def chain(self, run: int, seed: int, problem: int) -> list[dict[str, Any]]:
        """The lines of one chain, their entries by text instead of by number."""
        (block,) = (
            t
            for attributes, t in self.scripts
            if attributes.get("id") == f"t{run}-{seed}-{problem}"
        )
        lines = zlib.decompress(base64.b64decode(block)).decode().splitlines()
        entries: list[Any] = []
        chain = []
        for line in map(json.loads, lines):
            entries += [text for text, _ in line["new"]]
            parts = [line, *line["slots"], *([line["note"]] if line["note"] else [])]
            for part in parts:
                for name in {"list", "added", "dropped"} & part.keys():
                    part[name] = [entries[n] for n in part[name]]
            line["replaced"] = [[entries[n] for n in pair] for pair in line["replaced"]]
            chain.append(line)
        return chain


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    return page


def write_page(*arguments: Path | str, at: Path) -> Page:
    """The page of report.py, read back."""
    report.main("", [*map(str, arguments), "-o", str(at)])
    return read_page(at)
