"""Knowledge Flow: reasoning at test time beyond a model's context window.

The names here are loaded when they are first used, so that reading results does not load what runs
models, nor the other way round.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

__all__ = ["Experiment", "Run", "RunEnded", "Settings", "UserError", "read", "run"]

if find_spec("msgspec") is None:  # every part of this package needs it
    print(
        f"{sys.executable} lacks packages that this program needs: activate the environment "
        "first, e.g. source .venv/bin/activate, or install a requirements file (README.md).",
        file=sys.stderr,
    )
    sys.exit(2)

PLACES = {
    "Experiment": ("experiment", "Experiment"),
    "Run": ("results.runs", "SavedRun"),
    "RunEnded": ("types", "RunEnded"),
    "Settings": ("running.settings", "Settings"),
    "UserError": ("types", "UserError"),
    "read": ("results.runs", "read_one"),
    "run": ("experiment", "run"),
}

if TYPE_CHECKING:
    from kflow.experiment import Experiment, run
    from kflow.results.runs import SavedRun as Run
    from kflow.results.runs import read_one as read
    from kflow.running.settings import Settings
    from kflow.types import RunEnded, UserError
else:  # a type checker would take any name for one of this module's

    def __getattr__(name):
        if name not in PLACES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, attribute = PLACES[name]
        value = getattr(import_module(f".{module}", __name__), attribute)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return __all__
