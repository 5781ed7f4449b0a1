"""Whether the installed vLLM takes an engine's arguments and variables. Nothing is started, and no
weights are read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from kflow.engines.vllm_engine.recipes import Installed, gpu_count, installed
from kflow.ground import hub
from kflow.ground.redaction import public
from kflow.ground.terminal import first_line
from kflow.types import Unreachable, UserError

ENTRY = re.compile(r'^    "(VLLM_\w+)":', re.MULTILINE)  # of the dictionary in vllm/envs.py


@contextmanager
def quiet() -> Iterator[None]:
    """Discards what this process and those that it starts write to standard error."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@quiet()
def build(arguments: Mapping[str, object]) -> None:
    """Have vLLM make its whole configuration of an engine's arguments: their names and values, and
    the model's window, heads and data type against them. Raises UserError for what vLLM refuses,
    Unreachable where there is no vLLM, no model or no GPU here to ask it of."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    try:
        from vllm import EngineArgs
    except Exception as error:  # a missing library, or a driver's that does not load
        raise Unreachable(
            f"the engine's arguments: vLLM does not import here ({first_line(error)})"
        ) from error
    hub.prepare()  # a draft model may be looked for
    try:
        # Whose folder is there: without a network the model's own would be looked for.
        EngineArgs(**{**arguments, "model": os.curdir})
        if folder_of(arguments) is None:
            raise Unreachable("what vLLM itself checks of the model: its config.json is not here")
        vllm = installed()
        if (vllm is None or not vllm.cpu) and not gpu_count():
            raise Unreachable("what vLLM itself checks of the model: there is no GPU here")
        EngineArgs(**arguments).create_engine_config()
    except Unreachable:
        raise
    except Exception as error:  # of vLLM's own checks, many types
        check_weights(arguments)
        # An OSError is of a file that is not here, of a draft model for example.
        failure = hub.failure if isinstance(error, OSError) else UserError
        raise failure(
            f"vLLM refuses the engine's arguments: {public(reason(error))} (change the flag or the "
            "--engine_args entry named there)."
        ) from error


def folder_of(arguments: Mapping[str, object]) -> Path | None:
    """Where a model's config.json is on this machine, None where it is not."""
    from huggingface_hub import try_to_load_from_cache

    model, revision = str(arguments.get("model", "")), arguments.get("revision")
    if os.path.isdir(model):
        path: object = os.path.join(model, "config.json")
    else:
        try:
            path = try_to_load_from_cache(model, "config.json", revision=revision and str(revision))
        except ValueError:  # no name that a hub could have
            return None
    return Path(path).parent if isinstance(path, str) and os.path.isfile(path) else None


def check_weights(arguments: Mapping[str, object]) -> None:
    """Whether it is a file of weights that vLLM has failed at: it does not say at which. Raises
    UserError for one whose header cannot be read, or that is shorter than that says."""
    from safetensors import SafetensorError, safe_open

    folder = folder_of(arguments)
    for path in sorted(folder.glob("*.safetensors")) if folder else ():
        try:
            with safe_open(path, framework="numpy"):
                pass
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({first_line(error)}): make it readable."
            ) from error
        except SafetensorError as error:
            raise UserError(
                f"{path} is damaged ({first_line(error)}): get the model's files again."
            ) from error


def reason(error: Exception) -> str:
    """An error in one line: of pydantic's the messages alone, else the first lines of its text that
    say something, else its type."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        lines = [
            ": ".join([*map(str, each["loc"][:1]), each["msg"].removeprefix("Value error, ")])
            for each in errors()
        ]
    else:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return "; ".join(lines[:3])[:500] or type(error).__name__


def check_variables(names: Iterable[str], vllm: Installed, folder: Path | None = None) -> None:
    """Raises UserError for variables of vLLM's that no module of the installed one reads. folder:
    of its sources; nothing is checked without any."""
    set_here = {name for name in names if name.startswith("VLLM_")}
    folder = folder or sources(vllm)
    if not set_here or not (folder / "envs.py").exists():
        return
    known = set(ENTRY.findall((folder / "envs.py").read_text()))
    if known and (unlisted := set_here - known):
        # Some are read without being in the list.
        quoted = {name: re.compile(f"[\"']{re.escape(name)}[\"']") for name in unlisted}
        for path in folder.rglob("*.py"):
            text = path.read_text(errors="replace")
            unlisted -= {name for name in unlisted if quoted[name].search(text)}
        if unlisted:
            raise UserError(
                f"vLLM {vllm.version} ignores {', '.join(sorted(unlisted))}: unset what was meant "
                "for another version, or correct its name."
            )


def sources(vllm: Installed) -> Path:
    """Where its modules are, unless it runs from a checkout."""
    try:
        return Path(str(distribution(vllm.package).locate_file("vllm")))
    except PackageNotFoundError:
        return Path(os.devnull)
