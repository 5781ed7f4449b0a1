"""The prompt texts in the authors' published scripts, read from their source and never executed.

Their scripts put a prompt together from a few literals and the code around them. Reading one is
evaluating, over its syntax tree, the expression that becomes the user's message, with the names
that stand for the question, the list and the reference solution evaluating to this project's slots
(prompts.py). Whatever the evaluation does not know is refused: the text might not be what is sent.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeGuard, TypeVar

from kflow.ground.files import read_regular
from kflow.loop.prompts import LIKE_A_SLOT
from kflow.types import UserError

T = TypeVar("T")

LARGEST = 1_000_000  # bytes of a script
QUESTION, KNOWLEDGE, REFERENCE = "[[QUESTION]]", "[[KNOWLEDGE]]", "[[REFERENCE]]"
ENTRY, TAIL, NUMBER = "[[ENTRY]]", "[[TAIL]]", "[[N]]"
# What only a run knows, as their code writes it: the last of the problem's summaries or lists, an
# entry of its list, and the entry's number.
RUN_VALUES = {
    r"summaries\[\w+\]\[-1\]": REFERENCE,
    r"knowledges\[\w+\]\[-1\]": ENTRY,
    r"(knowledges\[\w+\]|unique_knowledges)\[[a-z]\w*\]": ENTRY,
    r"[a-z]\w* \+ 1": NUMBER,
}
JOINED = "\0"  # around what a join repeats
RENDER = "apply_chat_template"  # after whose text a prefill goes
NO_SYSTEM = "PLACEHOLDER"  # the content of a system message that harmony's own replaces


class Unknown(Exception):
    """line: of the script, 0 for the whole of it. expected: what was not found there."""

    def __init__(self, at: ast.AST | None, expected: str) -> None:
        super().__init__(expected)
        self.line, self.expected = getattr(at, "lineno", 0), expected


def read(path: Path) -> dict[str, str]:
    """The texts of a script: `first`, `later` and, where it has one, `prefill`; how the later
    prompt's list is written, `later_list` and `later_empty`; or a `nudge` alone.

    Raises UserError for a script that is not as it is known.
    """
    try:
        tree = ast.parse(read_regular(path, LARGEST))
        return texts(function(tree, "main"))
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror or error}).") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path} is not a Python script that can be read ({error}).") from error
    except Unknown as error:
        where = f"{path}, line {error.line}" if error.line else str(path)
        raise UserError(
            f"{where} is not the authors' code as it is known: expected {error.expected}."
        ) from error


def texts(main: ast.FunctionDef) -> dict[str, str]:
    branches = [node for node in ast.walk(main) if isinstance(node, ast.If)]
    for branch in sorted(branches, key=lambda node: node.lineno):
        if any(appends(branch.orelse)):
            return markovian(main, branch)
        if makes_conversation(branch.body) and makes_conversation(branch.orelse):
            return with_knowledge(main, branch)
    raise Unknown(None, "an if that makes tmp_conv for the first step, and else for the later ones")


def with_knowledge(main: ast.FunctionDef, branch: ast.If) -> dict[str, str]:
    names = question(main) | literals(main, ("init_prompt", "cmd_prompt", "eps_text"))
    if any(isinstance(node, ast.AugAssign) for node in ast.walk(branch)):
        raise Unknown(branch, "no += where the conversation is made")
    if prefill(branch.body, names):
        raise Unknown(branch, "no text after the first step's prompt")
    lists = alternatives("knowledge_text", branch.orelse, names)
    shown = alternatives("summary_text", branch.orelse, names)
    entries = one([text for text in lists if ENTRY in text], branch, "list with entries")
    empty = [text for text in lists if ENTRY not in text]
    if not empty and JOINED not in entries:
        empty = [entries.replace(ENTRY, "")]  # the list is one text, which may be empty
    reference = one([text for text in shown if REFERENCE in text], branch, "reference solution")
    later = names | {"knowledge_text": KNOWLEDGE, "summary_text": reference}
    found = {
        "first": user_message(branch.body, branch, names),
        "later": user_message(branch.orelse, branch, later),
        "later_list": line_by_line(entries, branch),
        "later_empty": one(empty, branch, "empty list") if empty else None,
        "prefill": prefill(branch.orelse, names),
    }
    return {role: text for role, text in found.items() if text is not None}


def markovian(main: ast.FunctionDef, branch: ast.If) -> dict[str, str]:
    names = question(main) | literals(main, ("wait_text",))
    if user_message(branch.body, branch, names) != QUESTION:
        raise Unknown(branch, "the question alone in the first step")
    if prefill([main], names):
        raise Unknown(branch, "no text after the prompt")
    nudges = [evaluate(node.value, names) for node in appends(branch.orelse)]
    return {"nudge": TAIL + one(nudges, branch, "nudge")}


# Where the texts are.


def function(tree: ast.Module, name: str) -> ast.FunctionDef:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return node
    raise Unknown(None, f"a function {name}")


def walk(statements: Iterable[ast.AST]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def makes_conversation(statements: Iterable[ast.AST]) -> bool:
    """Whether one of the statements themselves, not of those within them, assigns `tmp_conv`."""
    own = [each for each in statements if isinstance(each, ast.Assign)]
    return any(is_name(each.targets[0], "tmp_conv") for each in own)


def appends(statements: Iterable[ast.AST]) -> Iterator[ast.AugAssign]:
    """What lengthens a text by the nudge."""
    for node in walk(statements):
        if isinstance(node, ast.AugAssign) and any(
            is_name(each, "wait_text") for each in ast.walk(node.value)
        ):
            yield node


def assignments(name: str, statements: Iterable[ast.AST]) -> list[ast.expr]:
    """All that a name is given. Raises Unknown where it gets a value otherwise than by `=`."""
    values, stores = [], []
    for node in walk(statements):
        if isinstance(node, ast.Assign) and is_name(node.targets[0], name):
            values.append(node.value)
        if is_name(node, name) and isinstance(node.ctx, ast.Store):
            stores.append(node)
    if len(stores) != len(values):
        raise Unknown(stores[-1], f"{name} to be assigned by = alone")
    return values


def literals(main: ast.FunctionDef, names: Sequence[str]) -> dict[str, str]:
    """The names that are there, each a literal assigned once."""
    values = {name: assignments(name, main.body) for name in names}
    return {
        name: evaluate(one(found, main, f"assignment to {name}"), {})
        for name, found in values.items()
        if found
    }


def question(main: ast.FunctionDef) -> dict[str, str]:
    value = one(assignments("question", main.body), main, "assignment to question")
    if not re.fullmatch(r"\w+\['problem'\]", ast.unparse(value)):
        raise Unknown(value, "the question to be the data's problem as it is")
    return {"question": QUESTION}


def alternatives(name: str, statements: Sequence[ast.AST], names: Mapping[str, str]) -> list[str]:
    return [evaluate(value, names) for value in assignments(name, statements)]


def user_message(statements: Sequence[ast.AST], at: ast.AST, names: Mapping[str, str]) -> str:
    """The one text that is the user's, of all messages made in these statements."""
    users = set()
    for node in walk(statements):
        if not isinstance(node, ast.Dict):
            continue
        message = {text_of(key): value for key, value in zip(node.keys, node.values, strict=True)}
        role, content = message.get("role"), message.get("content")
        if content is None:
            continue
        text = evaluate(content, names)
        if text_of(role) == "user":
            users.add(text)
        elif text != NO_SYSTEM:
            raise Unknown(node, "messages of the user alone")
    return one(sorted(users), at, "user's message")


def prefill(statements: Sequence[ast.AST], names: Mapping[str, str]) -> str | None:
    """What is added to a rendered prompt."""
    added = [
        evaluate(node.value, names)
        for node in walk(statements)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.BinOp)
        and any(is_call(each, RENDER) for each in ast.walk(node.value))
    ]
    return one(added, statements[0], "prefill") if added else None


# What they say.


def evaluate(node: ast.expr, names: Mapping[str, str]) -> str:
    """An expression's text, with slots for what only a run knows. Raises Unknown for an expression
    of another kind than those that the published scripts have."""
    if (text := text_of(node)) is not None:
        if LIKE_A_SLOT.search(text) or "\r" in text or JOINED in text:
            raise Unknown(
                node, "a text without [[WORD]], \\r and \\0, which no prompt file can hold"
            )
        return text
    source = ast.unparse(node)
    for pattern, slot in RUN_VALUES.items():
        if re.fullmatch(pattern, source):
            return slot
    if isinstance(node, ast.Name) and node.id in names:
        return names[node.id]
    if isinstance(node, ast.JoinedStr):
        return "".join(evaluate(part, names) for part in node.values)
    if isinstance(node, ast.FormattedValue) and node.conversion == -1 and not node.format_spec:
        return evaluate(node.value, names)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return evaluate(node.left, names) + evaluate(node.right, names)
    if isinstance(node, ast.IfExp):  # whose other branch is for what the program never is in
        return evaluate(node.body, names)
    if is_call(node, RENDER):
        return ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
        return called(node, node.func, names)
    raise Unknown(
        node, "a text made of literals, the question, the list and the reference solution"
    )


def called(node: ast.Call, method: ast.Attribute, names: Mapping[str, str]) -> str:
    """`text.replace(literal, text)`, `literal.format(text)`, `literal.join([text for ...])`"""
    whole = evaluate(method.value, names)
    if method.attr == "replace" and len(node.args) == 2:
        old, new = (evaluate(each, names) for each in node.args)
        if old in whole:
            return whole.replace(old, new)
        raise Unknown(node, f"{old} in the text in which it is replaced")
    one_place = whole.count("{") == whole.count("}") == whole.count("{}") == 1
    if method.attr == "format" and len(node.args) == 1 and one_place:
        return whole.replace("{}", evaluate(node.args[0], names))
    if method.attr == "join" and whole == "\n" and isinstance(node.args[0], ast.ListComp):
        each, *more = node.args[0].generators
        if is_call(each.iter, "range") and not each.ifs and not more:
            return JOINED + evaluate(node.args[0].elt, names) + JOINED
    raise Unknown(node, "replace, format with one {}, or entries joined by line feeds")


def line_by_line(entries: str, at: ast.AST) -> str:
    """A list whose entries each have a line of their own."""
    if JOINED in entries:
        before, entry, after = entries.split(JOINED)
        whole_line = before.endswith("\n") and "\n" not in entry and after[:1] in ("", "\n")
        if not whole_line or ENTRY in before + after:
            raise Unknown(at, "each entry of the list on a line of its own")
    return entries.replace(JOINED, "")


def one(found: Sequence[T], at: ast.AST, what: str) -> T:
    if len(found) != 1:
        raise Unknown(at, f"one {what}, not {len(found)}")
    return found[0]


def text_of(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def is_name(node: ast.AST, name: str) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and node.id == name


def is_call(node: ast.AST, name: str) -> bool:
    called = node.func if isinstance(node, ast.Call) else None
    return getattr(called, "attr", getattr(called, "id", None)) == name
