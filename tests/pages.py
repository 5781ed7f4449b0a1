"""A report read back: its elements, its numbers and its unpacked texts."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from results_on_disk import ours, write_step

HOSTILE = (
    "<script>window.hacked = 1</script></script><!--<img src=x onerror='window.hacked = 2'>"
    "]]> {{ 7 * 7 }} \u2028\u2029 \x00\x07\x1b[31m \u202eright to left\u2066 \ud83d lone 🎓 "
    '&lt;b&gt; "quoted" \\boxed{<b>7</b>} $\\text{<i>x</i>}$'
)


def write_hostile(parent: Path) -> Path:
    """A run of two steps in which every name and text is HOSTILE."""
    folder = parent / "vllm_64_<b onclick='x'>&amp;" / "m<script>1<"
    record = ours(0, HOSTILE, 1, question=HOSTILE, pred_solution=f"{HOSTILE}</think>{HOSTILE}")
    record |= {"id": HOSTILE, "update": {HOSTILE: HOSTILE}, "failure": HOSTILE}
    record |= {"finish_reason": HOSTILE, "left_out": {HOSTILE: [HOSTILE]}}
    for step in (0, 1):
        write_step(folder, step, [record])
    run = {"settings": {HOSTILE: HOSTILE}, "sessions": [{"argv": [HOSTILE]}]}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


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
        (found,) = (text for told, text in self.scripts if told.get("id") == "data")
        return dict(json.loads(found))

    def chain(self, run: int, seed: int, problem: int) -> list[dict[str, Any]]:
        """The lines of one chain, their entries by text instead of by number."""
        (found,) = (t for told, t in self.scripts if told.get("id") == f"t{run}-{seed}-{problem}")
        lines = zlib.decompress(base64.b64decode(found)).decode().splitlines()
        entries: list[Any] = []
        chain = []
        for line in map(json.loads, lines):
            entries += line["new"]
            for name in ("list", "added", "dropped"):
                if line.get(name) is not None:
                    line[name] = [entries[n] for n in line[name]]
            if "replaced" in line:
                line["replaced"] = [[entries[n] for n in pair] for pair in line["replaced"]]
            line["update"] = [
                [what, entries[value] if isinstance(value, int) else value]
                for what, value in line["update"]
            ]
            chain.append(line)
        return chain


def read_page(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    page.close()
    return page
