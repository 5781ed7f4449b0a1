"""The commands that read results, as their users call them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest


class Program:
    """A command by its `main`. notes: what its last call printed on stderr."""

    def __init__(self, main: Callable[[str | None, Any], None], capsys: Any) -> None:
        self._main, self._capsys = main, capsys
        self.notes = ""

    def __call__(self, *arguments: object) -> str:
        """What it prints."""
        self._main("", list(map(str, arguments)))
        out, self.notes = self._capsys.readouterr()
        return str(out)

    def json(self, *arguments: object) -> Any:
        return json.loads(self(*arguments, "--json"))

    def refuse(self, *arguments: object) -> str:
        """The one sentence of a refusal, with code 2."""
        with pytest.raises(SystemExit) as ended:
            self._main("", list(map(str, arguments)))
        out, sentence = self._capsys.readouterr()
        assert ended.value.code == 2
        assert (out, sentence.count("\n")) == ("", 1)
        assert sentence.rstrip("\n").isprintable()
        return str(sentence)
