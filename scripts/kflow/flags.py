"""A command line from the fields of dataclasses: one rule per field reads its text and checks its
value, so that `--reflex_size 0` and `Settings(reflex_size=0)` are refused in the same words.
"""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Any, NoReturn, Protocol
from urllib.parse import urlsplit

from kflow.ground.terminal import brief, shortened
from kflow.ground.version import TITLE
from kflow.types import UserError


class Rule(Protocol):
    """What a field takes. Both raise ValueError with the end of a sentence: "must be ..."."""

    def read(self, text: str) -> Any:
        """The value that a text on the command line stands for, checked."""
        ...

    def check(self, value: Any) -> Any:
        """A value as it is kept."""
        ...


@dataclass(frozen=True)
class Number:
    """A number from `low` to `high`; without `low` itself if `open_low`."""

    kind: type[int] | type[float]
    low: float
    high: float = math.inf
    open_low: bool = False

    def read(self, text: str) -> float:
        try:
            value: Any = self.kind(text)
        except ValueError:
            value = text
        return self.check(value)

    def check(self, value: Any) -> float:
        numeric = isinstance(value, (int, self.kind)) and not isinstance(value, bool)
        if numeric and self.low <= value <= self.high and not (self.open_low and value == self.low):
            return self.kind(value)
        name = "a whole number" if self.kind is int else "a number"
        bounds = f"{'above' if self.open_low else 'at least'} {number(self.low)}"
        bounds += "" if self.high == math.inf else f" and at most {number(self.high)}"
        raise ValueError(f"must be {name}, {bounds}, not {shortened(value)}")


def number(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else f"{bound:g}"


@dataclass(frozen=True)
class Text:
    """A text that `wrong` finds nothing wrong with: it gives what the text must be, or ""."""

    wrong: Callable[[str], str] = lambda text: "" if text else "must not be empty"

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be a text, not {shortened(value)}")
        if wrong := self.wrong(value):
            raise ValueError(wrong)
        return value


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if value not in self.words:
            raise ValueError(f"must be one of {', '.join(self.words)}, not {shortened(value)}")
        return str(value)


@dataclass(frozen=True)
class Switch:
    """On or off; on the command line it is there or not."""

    def read(self, text: str) -> bool:
        raise NotImplementedError

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be True or False, not {shortened(value)}")
        return value


@dataclass(frozen=True)
class JsonObject:
    """A JSON object in which every key stands once, with nothing that JSON or UTF-8 lack."""

    def read(self, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text, object_pairs_hook=unique, parse_constant=no_number)
        except json.JSONDecodeError:
            value = None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
        if not isinstance(value, dict):
            raise ValueError(f"must be a JSON object in quotes, not {shortened(text)}")
        return self.check(value)

    def check(self, value: Any) -> dict[str, Any]:
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except UnicodeEncodeError:
            raise ValueError("holds a lone surrogate, which no file can hold") from None
        except (TypeError, ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ValueError("must be plain JSON: no NaN, no infinite number")
        return value


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    counts = Counter(name for name, _ in pairs)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"has the key {shortened(name)} {count} times")
    return dict(pairs)


def no_number(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is not a JSON number")


@dataclass(frozen=True)
class Urls:
    """Addresses of servers, kept without the slash at their end. Complaints do not repeat an
    address: it may hold a password."""

    def read(self, text: str) -> str:
        try:
            parts = urlsplit(text)
            complete = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            complete = False
        if not complete or not text.isprintable() or " " in text or parts.query or parts.fragment:
            raise ValueError("must be like http://HOST:PORT/v1")
        if "@" in parts.netloc:
            raise ValueError(
                "must not contain a user name or password; put a key in OPENAI_API_KEY"
            )
        return text.rstrip("/")

    def check(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) or not all(isinstance(each, str) for each in value):
            raise ValueError("must be a tuple of texts like http://HOST:PORT/v1")
        return tuple(dict.fromkeys(map(self.read, value)))


WHOLE = Number(int, 1)
KEY_FLAGS = ("--api_key", "--api-key")


def flag(default: Any, help: str, rule: Rule, metavar: str | None = None) -> Any:
    """A field of a dataclass that is a flag. The help text is shown with its default."""
    metadata = {"help": help, "rule": rule, "metavar": metavar}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def default_of(each: Field[Any]) -> Any:
    return each.default_factory() if each.default_factory is not MISSING else each.default


def own(owner: object) -> list[Field[Any]]:
    """The fields of a method or a family that are flags of its scripts: those with a help text."""
    if not is_dataclass(owner):
        return []
    return [each for each in fields(owner) if "help" in each.metadata]


def own_values(owner: object) -> dict[str, Any]:
    return {each.name: getattr(owner, each.name) for each in own(owner)}


def rule_of(each: Field[Any]) -> Rule:
    rule: Rule = each.metadata.get("rule", WHOLE)
    return rule


def check(owner: object) -> None:
    """Raises UserError for a value of an own field that its flag would be refused for."""
    for each in own(owner):
        value = getattr(owner, each.name)
        if value == default_of(each):
            continue
        try:
            rule_of(each).check(value)
        except ValueError as error:
            raise UserError(f"{each.name} {error}.") from error


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one short sentence and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, brief(f"{self.prog}: {message}; see --help.") + "\n")


@dataclass(frozen=True)
class Group:
    """Some fields under a title in --help."""

    title: str
    fields: Sequence[Field[Any]]
    description: str | None = None


def parse(
    argv: Sequence[str],
    description: str | None,
    groups: Iterable[Group],
    defaults: Mapping[str, object],
) -> tuple[Parser, dict[str, Any]]:
    """The flags that were given, by name, and the parser for complaints about them.

    defaults: what is shown in the help of fields instead of their own defaults.
    """
    parser = Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=TITLE)
    for group in groups:
        section = parser.add_argument_group(group.title, group.description)
        for each in group.fields:
            section.add_argument(
                f"--{each.name}",
                help=described(each, defaults.get(each.name, default_of(each))),
                **argument(rule_of(each), each.metadata.get("metavar")),
            )
    if any(word.partition("=")[0] in KEY_FLAGS for word in argv):
        parser.error("a key is read from OPENAI_API_KEY in the environment, never from a flag")
    return parser, vars(parser.parse_args(argv))


def reader(rule: Rule) -> Callable[[str], Any]:
    """A rule as argparse's `type`."""

    def read(text: str) -> Any:
        try:
            return rule.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def between(
    kind: type[int] | type[float], low: float, high: float = math.inf, open_low: bool = False
) -> Callable[[str], Any]:
    """A number within bounds as argparse's `type`, for programs with flags of their own."""
    return reader(Number(kind, low, high, open_low))


def argument(rule: Rule, metavar: str | None) -> dict[str, Any]:
    if isinstance(rule, Switch):
        return {"action": "store_true"}
    if isinstance(rule, Choice):
        metavar = f"{{{','.join(rule.words)}}}"
    return {
        "type": reader(rule),
        "metavar": metavar,
        "action": "append" if isinstance(rule, Urls) else "store",
    }


def described(each: Field[Any], default: object) -> str:
    text = str(each.metadata["help"])
    if isinstance(default, float):
        default = f"{default:g}"
    named = isinstance(default, (int, str)) and not isinstance(default, bool) and default != ""
    return (f"{text} ({default})" if named else text).replace("%", "%%")
