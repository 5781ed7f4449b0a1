"""What tests of several files are given."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from helpers.browser import NARROW, WIDE, Tab, launched
from helpers.engine_runs import BLOCKS, SMOLLM2, SmolLM2, start
from helpers.served import quick

# pytest-xdist and terminals set it; tables are checked at the width that they have elsewhere.
os.environ.pop("COLUMNS", None)
# Where the tests run in the background of a script, it is ignored, and so by what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The engine's tests last: other tests fork this process, which would then hold an engine."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is not None)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between two requests are next to nothing, and there is a key."""
    quick(monkeypatch)


@pytest.fixture
def running(quickly: None) -> Iterator[ExitStack]:
    """Scripted servers and engines that end with the test."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from launched()


@pytest.fixture(params=[NARROW, WIDE], ids=["375", "1600"])
def tab(request: pytest.FixtureRequest, browser: Any, html: Path) -> Iterator[Tab]:
    """html: the page, a fixture of the test's own file."""
    tab = Tab(browser, html, *request.param)
    yield tab
    tab.close()


@pytest.fixture(scope="session")
def smollm2() -> Iterator[SmolLM2]:
    """One engine for all tests that run SmolLM2 in this process."""
    import prepare_smollm2
    from kflow.families.chat import TemplateChat

    model = str(prepare_smollm2.prepare())
    chat = TemplateChat(model)
    small = f'{{"num_gpu_blocks_override": {BLOCKS}}}'
    flags = ["--model_name", model, *SMOLLM2, "--engine_args", small]
    with closing(start("vllm_kflow_qwen", flags, chat)) as engine:
        yield SmolLM2(engine, model, chat)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked; its libraries read the variable when they are imported."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
