"""The two standard streams of a program: what a run prints, and what it says beside its results."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress

from kflow.ground.terminal import printable


def prepare() -> None:
    """Make both streams take any text: one that was closed before the program began takes it
    nowhere, and one that is not of UTF-8 gets escapes for what it cannot show."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print to stdout, every line printable. A closed pipe, as with `| head`, is no error: the
    rest of the output is discarded. Raises OSError, which names stdout, where it cannot be
    written."""
    try:
        print("\n".join(map(printable, text.split("\n"))), flush=True)
    except OSError as error:
        # What is still in its buffer would end the program with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from error


def tell(line: str) -> None:
    """A line on stderr, above a progress bar where there is one. A closed pipe is no error."""
    from tqdm import tqdm

    with suppress(OSError):
        tqdm.write(printable(line), file=sys.stderr)
