"""How the commands that read results end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ..terminal import printable
from ..types import UserError


def run(work: Callable[[], None]) -> None:
    """Do the work. A mistake the user can mend is one sentence and exit code 2, a disk that fails
    is one and exit code 1; a reader that stops early, `head` say, is neither."""
    try:
        work()
        sys.stdout.flush()
    except UserError as error:
        fail(2, str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        fail(1, f"Cannot read or write ({error}).")
    except KeyboardInterrupt:
        sys.exit(130)


def fail(code: int, sentence: str) -> None:
    print(printable(sentence), file=sys.stderr)
    sys.exit(code)
