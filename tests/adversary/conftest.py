"""The rows of a test run side by side: each test waits for its own row's verdict."""

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


Work = Callable[[Any, Path], None]


def run(work: Work, row: Any, folder: Path) -> None:
    """The check of a row. KEEP_ROWS in the environment leaves its folder for a look."""
    try:
        work(row, folder)
    finally:
        if not os.environ.get("KEEP_ROWS"):
            shutil.rmtree(folder)


class Verdicts:
    """`of` runs a row's check, and at its first call those of all selected rows of the test."""

    def __init__(self, request: pytest.FixtureRequest, tmp: pytest.TempPathFactory) -> None:
        self._items, self._tmp = request.session.items, tmp
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._found: dict[tuple[Work, str], Future[None]] = {}

    def of(self, request: pytest.FixtureRequest, work: Work, row: Any) -> None:
        """Raises what the check of this row raised. work: (row, an empty folder) -> None."""
        if (work, row.name) not in self._found:
            for item in self._items:
                if item.originalname == request.node.originalname:  # type: ignore[attr-defined]
                    each = item.callspec.params["row"]  # type: ignore[attr-defined]
                    folder = self._tmp.mktemp("row")
                    self._found[work, each.name] = self._pool.submit(run, work, each, folder)
        self._found[work, row.name].result()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Verdicts]:
    collected = Verdicts(request, tmp_path_factory)
    yield collected
    collected.close()


SHORT_FORM = 4  # every so many rows; the others belong to the long form


def parameters(rows: list[Any]) -> pytest.MarkDecorator:
    """A table as the parameter `row` of a test, by name."""
    marked = [
        pytest.param(row, id=row.name, marks=[pytest.mark.campaign] if number % SHORT_FORM else [])
        for number, row in enumerate(rows)
    ]
    return pytest.mark.parametrize("row", marked)
