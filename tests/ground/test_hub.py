"""The hub: whose mistake it is that something is not there, and what its library reads."""

from __future__ import annotations

import os

import pytest

from kflow.ground import hub
from kflow.types import Unreachable, UserError


@pytest.mark.parametrize(("offline", "kind"), [("1", Unreachable), ("", UserError)])
def test_a_hub_that_was_asked_and_refused_is_the_users_mistake(
    offline: str, kind: type[UserError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    assert type(hub.failure("gone")) is kind


@pytest.mark.parametrize("by_program", [True, False])
def test_what_the_program_has_switched_off_is_not_said_to_be_somebodys_doing(
    by_program: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(hub, "set_here", set())
    monkeypatch.setattr(hub, "reachable", lambda endpoint: not by_program)
    hub.prepare.__wrapped__()
    words = "the hub cannot be reached from here" if by_program else "Couldn't reach it"
    assert hub.reason(OSError("Couldn't reach it\n(OfflineModeIsEnabled)")) == words
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.mark.parametrize(("version", "kept"), [("0.36.2", True), ("2.4.0", False)])
def test_a_variable_that_the_hubs_library_ignores_is_unset(
    version: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "version_of", {"huggingface-hub": version}.get)
    monkeypatch.setenv("HF_HUB_ENABLE_HF_TRANSFER", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.prepare.__wrapped__()
    assert ("HF_HUB_ENABLE_HF_TRANSFER" in os.environ) is kept


@pytest.mark.parametrize(
    ("name", "path"),
    [("org/m", False), ("m", False), ("/m", True), ("./m", True), ("~/m", True), ("a/b/c", True)],
)
def test_what_can_only_be_a_path(name: str, path: bool) -> None:
    assert hub.is_path(name) is path
