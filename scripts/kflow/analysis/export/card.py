"""The README.md of an exported data set, which the hub and `datasets` read as its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from kflow.analysis.export.source import Source
from kflow.analysis.page.page import safely
from kflow.ground.terminal import printable
from kflow.ground.version import TITLE
from kflow.results.recorded import part

FACTS = (
    ("model", ("model", "name")),
    ("method", ("experiment", "method")),
    ("window", ("settings", "max_new_tokens")),
    ("temperature", ("settings", "temperature")),
    ("seeds", ("settings", "num_seeds")),
    ("problems", ("problems", "source")),
)


def card(
    folder: Path, sources: Sequence[Source], metadata: Mapping[str, object], about: str
) -> None:
    """metadata: for the card's head, which is YAML; JSON is YAML too."""
    head = {"pretty_name": "Knowledge Flow rollouts", "tags": ["knowledge-flow"], **metadata}
    lines = [f"{name}: {json.dumps(value)}" for name, value in head.items()]
    text = [
        "---",
        *lines,
        "---",
        "",
        "# Knowledge Flow rollouts",
        "",
        f"{about} Written by {TITLE}.",
        "",
        "The texts hold the data set's questions and gold answers: check its licence, and whether "
        "it may be published, before you share this.",
        "",
        *(line for source in sources for line in described(source)),
    ]
    (folder / "README.md").write_text("\n".join(text) + "\n", "utf-8")


def described(source: Source) -> list[str]:
    stated = {name: part(source.manifest, *names) for name, names in FACTS}
    facts = [f"{name} {code(value)}" for name, value in stated.items() if value is not None]
    return [f"- {code(source.name)}" + (f": {', '.join(facts)}" if facts else "")]


def code(value: object) -> str:
    """A value as code, in which Markdown marks nothing up."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"`{safely(printable(text)).replace('`', chr(39))}`"
