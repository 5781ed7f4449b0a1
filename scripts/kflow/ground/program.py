"""What a program takes from its command line, and how it ends: with one sentence and a code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from kflow.ground.terminal import brief
from kflow.ground.version import TITLE
from kflow.types import RunEnded, RunFailed, UserError

INTERRUPTED, TERMINATED = 130, 143  # exit codes
RESUME = "Run the same command again to resume."
SENTENCES = {INTERRUPTED: f"Interrupted. {RESUME}", TERMINATED: f"Terminated. {RESUME}"}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with --version, whose errors are one short sentence and exit code 2."""

    def __init__(self, description: str | None, **more: Any) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **more,
        )
        self.add_argument("--version", action="version", version=TITLE)

    def error(self, message: str) -> NoReturn:
        self.exit(2, brief(f"{self.prog}: {message}; see --help.") + "\n")


class Terminated(BaseException):
    """SIGTERM arrived."""


def finish(action: Callable[[], object]) -> int:
    """Do what a program is for: its exit code, with a sentence where that is not 0."""
    try:
        action()
    except UserError as error:
        return fail(2, str(error))
    except RunFailed as error:
        return fail(1, f"{str(error).rstrip('.')}.")
    except RunEnded as error:
        return fail(1, f"{str(error).rstrip('.')}. {RESUME}")
    except OSError as error:
        return fail(1, f"Cannot use {error.filename or 'a file'} ({error.strerror or error}).")
    except KeyboardInterrupt:
        return fail(INTERRUPTED, SENTENCES[INTERRUPTED])
    except Terminated:
        return fail(TERMINATED, SENTENCES[TERMINATED])
    return 0


def fail(code: int, sentence: str) -> int:
    try:
        print(brief(sentence), file=sys.stderr)
    except OSError:  # a closed pipe, a full disk
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code
