"""A command line from the fields of dataclasses. A field's type says what it takes, with its bounds
in msgspec's `Meta`, so that `--reflex_size 0` and `Settings(reflex_size=0)` are refused in the same
words.
"""

from __future__ import annotations

import argparse
import json
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from kflow.ground.program import Parser
from kflow.ground.terminal import shortened
from kflow.types import UserError

KEY_FLAGS = ("--api_key", "--api-key")
FROM_FILE = "@"  # before the name of a file of addresses


@dataclass(frozen=True)
class Must:
    """In a type's annotation, what `Meta` cannot say."""

    check: Callable[[Any], Any]  # a value -> as it is kept; ValueError: "must be ..."
    read: Callable[[str], Any] = str  # a text on the command line -> its value; likewise
    alone: Any = None  # the value of a flag that is given without one, None where it needs one


def read_json(text: str) -> dict[str, Any]:
    """A JSON object in which every key stands once."""
    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_number)
    except json.JSONDecodeError:
        value = None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object in quotes, not {shortened(text)}")
    return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise ValueError(f"has the key {shortened(name)} {count} times")
    return dict(pairs)


def no_number(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not a JSON number")


def check_json(value: object) -> dict[str, Any]:
    """A dict with nothing in it that JSON or UTF-8 lack."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which no file can hold") from None
    except (TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError("must be plain JSON: a dict without NaN or infinite numbers")
    return value


def read_address(text: str) -> str:
    """A server's address, without the slash at its end. Complaints do not repeat it: it may hold a
    password."""
    try:
        parts = urlsplit(text)
        complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        complete = False
    if not complete or not text.isprintable() or " " in text or parts.query or parts.fragment:
        raise ValueError("must be like http://HOST:PORT/v1")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password; put a key in OPENAI_API_KEY")
    return text.rstrip("/")


def read_place(text: str) -> str:
    """A server's address, or @FILE for those that a file lists."""
    if not text.startswith(FROM_FILE):
        return read_address(text)
    if text == FROM_FILE or "\0" in text:
        raise ValueError(f"must have the name of a file after {FROM_FILE}")
    return text


def check_addresses(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not all(isinstance(each, str) for each in value):
        raise ValueError("must be a tuple of texts like http://HOST:PORT/v1")
    return tuple(dict.fromkeys(map(read_place, value)))


Whole = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, le=1)]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4096,
        pattern=r"\A[^\0]*\Z",
        description="a name of 1 to 4,096 characters without NUL",
    ),
]
JsonObject = Annotated[Mapping[str, Any], Must(check_json, read_json)]
Addresses = Annotated[tuple[str, ...], Must(check_addresses, read_place)]


@dataclass(frozen=True)
class Flag:
    """A field that is a flag."""

    name: str
    kind: Any  # its type, without None
    default: Any
    help: str
    metavar: str | None = None
    results: bool = False  # whether results depend on it by itself


def flag(default: Any, help: str, metavar: str | None = None, *, results: bool = False) -> Any:
    """A field of a dataclass that is a flag. The help text is shown with its default."""
    metadata = {"help": help, "metavar": metavar, "results": results}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def flags_of(owner: object) -> list[Flag]:
    """The fields of a dataclass or an instance that are flags: those with a help text."""
    if not is_dataclass(owner):
        return []
    kinds = get_type_hints(owner if isinstance(owner, type) else type(owner), include_extras=True)
    return [
        Flag(
            each.name,
            without_none(kinds[each.name]),
            each.default if each.default_factory is MISSING else each.default_factory(),
            str(each.metadata["help"]),
            each.metadata.get("metavar"),
            bool(each.metadata.get("results")),
        )
        for each in fields(owner)
        if "help" in each.metadata
    ]


def values_of(owner: object) -> dict[str, Any]:
    """What an instance's flags are set to."""
    return {each.name: getattr(owner, each.name) for each in flags_of(owner)}


def without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    return kind


def must_of(kind: Any) -> Must | None:
    return next(
        (each for each in getattr(kind, "__metadata__", ()) if isinstance(each, Must)), None
    )


def check(kind: Any, value: Any) -> Any:
    """A value as it is kept. Raises ValueError with the end of a sentence: "must be ..."."""
    if must := must_of(kind):
        return must.check(value)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError:
        raise ValueError(f"must be {spelled(kind)}, not {shortened(value)}") from None


def read(kind: Any, text: str) -> Any:
    """The value that a text on the command line stands for, checked likewise."""
    if must := must_of(kind):
        value = must.read(text)
        return value if get_origin(bare(kind)) is tuple else must.check(value)
    if bare(kind) not in (int, float):
        return check(kind, text)
    try:
        return check(kind, bare(kind)(text))
    except ValueError:
        return check(kind, text)  # which names the text itself in its refusal


def bare(kind: Any) -> Any:
    """A type without its annotations."""
    return kind.__origin__ if get_origin(kind) is Annotated else kind


def spelled(kind: Any) -> str:
    """What a type takes, in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return "True or False"
    metas = getattr(kind, "__metadata__", ())
    if bare(kind) is str:
        return next((meta.description for meta in metas if meta.description), "a text")
    words = ["a whole number" if bare(kind) is int else "a number"]
    for meta in metas:
        bounds = (("above", meta.gt), ("at least", meta.ge), ("at most", meta.le))
        words += [f"{word} {number(bound)}" for word, bound in bounds if bound is not None]
    return ", ".join(words[:2]) + "".join(f" and {word}" for word in words[2:])


def number(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


def check_flags(owner: object) -> dict[str, Any]:
    """What an instance's flags are set to, as it is kept. Raises UserError for a value that the
    flag would be refused for."""
    values = values_of(owner)
    for each in flags_of(owner):
        if values[each.name] != each.default:
            try:
                values[each.name] = check(each.kind, values[each.name])
            except ValueError as error:
                raise UserError(f"{each.name} {error}.") from error
    return values


@dataclass(frozen=True)
class Group:
    """Some flags under a title in --help."""

    title: str
    flags: Sequence[Flag]
    description: str | None = None


def parse(
    argv: Sequence[str],
    description: str | None,
    groups: Iterable[Group],
    defaults: Mapping[str, object],
) -> tuple[Parser, dict[str, Any]]:
    """The flags that were given, by name, and the parser for complaints about them.

    defaults: what is shown in the help of flags instead of their own defaults.
    """
    parser = Parser(description, argument_default=argparse.SUPPRESS)
    for group in groups:
        section = parser.add_argument_group(group.title, group.description)
        for each in group.flags:
            shown = help_of(each, defaults.get(each.name, each.default))
            section.add_argument(f"--{each.name}", help=shown, **argument(each.kind, each.metavar))
    if any(word.partition("=")[0] in KEY_FLAGS for word in argv):
        parser.error("a key is read from OPENAI_API_KEY in the environment, never from a flag")
    return parser, vars(parser.parse_args(argv))


def reader(kind: Any) -> Callable[[str], Any]:
    """A type as argparse's `type`."""

    def read_text(text: str) -> Any:
        try:
            return read(kind, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_text


def argument(kind: Any, metavar: str | None) -> dict[str, Any]:
    if kind is bool:
        return {"action": "store_true"}
    if get_origin(kind) is Literal:
        metavar = f"{{{','.join(get_args(kind))}}}"
    several = get_origin(bare(kind)) is tuple
    if (must := must_of(kind)) and must.alone is not None:
        return {"type": reader(kind), "metavar": metavar, "nargs": "?", "const": must.alone}
    return {
        "type": reader(kind),
        "metavar": metavar,
        "action": "append" if several else "store",
    }


def help_of(each: Flag, default: object) -> str:
    if isinstance(default, float):
        default = f"{default:g}"
    named = isinstance(default, (int, str)) and not isinstance(default, bool) and default != ""
    return (f"{each.help} ({default})" if named else each.help).replace("%", "%%")
