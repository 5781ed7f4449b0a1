"""The rows of a test run side by side: each test waits for its own row's outcome."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from adversary.forks import Forks

AT_ONCE = 16  # rows; most of a row is waiting


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    server = Forks(tmp_path_factory.mktemp("streams"))
    yield server
    server.close()


Check = Callable[[Any, Path], None]  # of a row, in an empty folder
Outcomes = dict[str, Future[None]]


def run(check: Check, row: Any, folder: Path) -> None:
    """The check of a row. KEEP_ROWS in the environment leaves its folder for a look."""
    try:
        check(row, folder)
    finally:
        if not os.environ.get("KEEP_ROWS"):
            shutil.rmtree(folder)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, check: Check, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outcomes]:
    """What the check of a file says of each of its rows that were selected, all begun at once."""
    selected = [item for item in request.session.items if item.path == request.path]
    rows = [item.callspec.params["row"] for item in selected if hasattr(item, "callspec")]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        folder = tmp_path_factory.mktemp
        yield {row.name: pool.submit(run, check, row, folder("row")) for row in rows}
        pool.shutdown(cancel_futures=True)


SHORT_FORM = 4  # every so many rows; the others belong to the long form


def parameters(rows: list[Any]) -> pytest.MarkDecorator:
    """A table as the parameter `row` of a test, by name."""
    marked = [
        pytest.param(row, id=row.name, marks=[pytest.mark.campaign] if number % SHORT_FORM else [])
        for number, row in enumerate(rows)
    ]
    return pytest.mark.parametrize("row", marked)
