"""What tests of several files are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from served import quick


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[ExitStack]:
    """Scripted servers and engines that end with the test; pauses are next to nothing."""
    quick(monkeypatch)
    with ExitStack() as stack:
        yield stack
