"""The table of damaged files: what is done to the folder of a run before it is started again.

Each row starts from one of three runs of three problems and three steps. EARLY ended in its
first step, two rollouts done, HALF in its second, step 0 published and two rollouts of step 1
done, WHOLE is complete. Code 2: refused, and no byte is changed. Code 0: the run completes to the
files of an undisturbed one, and asks only for what was lost.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adversary.records import (
    BUDGET,
    CORRECT,
    DIGEST,
    FAILURE,
    FAMILY,
    FIELDS,
    FINISH,
    FOLDER,
    GOLD,
    ID,
    LIST,
    NOTE,
    OUTCOME,
    PREDICTED,
    PROMPT_TOKENS,
    QUESTION,
    ROLLOUT,
    RUN,
    SEED,
    SESSIONS,
    SETTINGS,
    SLOT,
    SOLUTION,
    START,
    TOKENS,
    VERDICT,
    VERDICT_RIGHT,
    Record,
    journal,
    predictions,
)

Edit = Callable[[Path], None]  # of the folder that the run is started in
EARLY, HALF, WHOLE = 2, 5, 9  # rollouts done
VICTIM = "victim"  # a file beside the results that nothing may touch
DEEP = b"[" * 100_000


@dataclass(frozen=True)
class Damage:
    """base: how many rollouts are done. more: other flags than the run was begun with."""

    name: str
    base: int
    edit: Edit
    code: int
    more: tuple[str, ...] = ()


# Edits.


def content(path: Path, change: Callable[[bytes], bytes]) -> Edit:
    def edit(folder: Path) -> None:
        (folder / path).write_bytes(change((folder / path).read_bytes()))

    return edit


def cut(path: Path, at: float) -> Edit:
    """Keep `at` of the bytes: a share, or a number of them from either end."""
    return content(path, lambda b: b[: int(at * len(b)) if isinstance(at, float) else at])


def becomes(path: Path, value: bytes) -> Edit:
    def edit(folder: Path) -> None:
        (folder / path).write_bytes(value)

    return edit


def parsed(path: Path, change: Callable[[Any], Any]) -> Edit:
    return content(path, lambda b: json.dumps(change(json.loads(b))).encode())


def record(step: int, number: int, change: Callable[[Record], object]) -> Edit:
    """One record of a predictions file."""

    def edit(rows: list[Any]) -> list[Any]:
        rows[1 + number] = change(rows[1 + number])
        return rows

    return parsed(predictions(step), edit)


def line(kind: str, number: int, change: Callable[[Record], object]) -> Edit:
    """One rollout or outcome of step 1's journal."""

    def edit(whole: list[bytes]) -> list[bytes]:
        at = [n for n, text in enumerate(whole) if kind in json.loads(text)][number]
        whole[at] = json.dumps({kind: change(json.loads(whole[at])[kind])}).encode() + b"\n"
        return whole

    return lines(1, edit)


def torn(at: int, share: float, end: bytes = b"") -> Edit:
    """The journal up to a part of its at-th line; with `end`, and the lines after that."""

    def edit(whole: list[bytes]) -> list[bytes]:
        part = whole[at][: int(share * len(whole[at]))] + end
        return [*whole[:at], part, *(whole[at:][1:] if end else [])]

    return lines(1, edit)


def lines(step: int, change: Callable[[list[bytes]], list[bytes]]) -> Edit:
    return content(journal(step), lambda b: b"".join(change(b.splitlines(keepends=True))))


def place(path: Path, make: Callable[[Path], object]) -> Edit:
    """Something else where a file is."""

    def edit(folder: Path) -> None:
        (folder / path).unlink(missing_ok=True)
        make(folder / path)

    return edit


def copy(source: Path, target: Path) -> Edit:
    return lambda folder: shutil.copy(folder / source, folder / target) and None


def copied_line(edited: Callable[[Record], Record] | None = None) -> Edit:
    """The first record of step 0, as one more line of step 1's journal."""

    def edit(folder: Path) -> None:
        first = json.loads((folder / predictions(0)).read_bytes())[1]
        with open(folder / journal(1), "ab") as file:
            rollout = edited(first) if edited else first
            file.write(json.dumps({ROLLOUT: rollout}).encode() + b"\n")

    return edit


def journal_left(folder: Path) -> None:
    """A crash between a step's publication and the end of its journal."""
    rows = json.loads((folder / predictions(0)).read_bytes())[1:]
    (folder / journal(0)).write_text("".join(json.dumps({ROLLOUT: row}) + "\n" for row in rows))


def nothing(folder: Path) -> None:
    pass


def link(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


ODD: dict[str, Callable[[Path], object]] = {
    "a_folder": Path.mkdir,
    "a_fifo": os.mkfifo,
    "a_loop": lambda path: path.symlink_to(path.name),
    "a_device": link("/dev/zero"),
    "a_link_out": link("../../../" + VICTIM),
}
WRONG: dict[str, tuple[str, object]] = {
    "solution_number": (SOLUTION, 5),
    "solution_list": (SOLUTION, ["a"]),
    "solution_edited": (SOLUTION, "It is \\boxed{777}."),
    "solution_empty": (SOLUTION, ""),
    "question_number": (QUESTION, 5),
    "question_list": (QUESTION, []),
    "gold_other": (GOLD, 555),
    "predicted_other": (PREDICTED, 777),
    "predicted_text": (PREDICTED, "many"),
    "predicted_true": (PREDICTED, True),
    "predicted_float": (PREDICTED, 1.5),
    "correct_text": (CORRECT, "yes"),
    "correct_number": (CORRECT, 1),
    "id_number": (ID, 5),
    "id_unknown": (ID, "p9"),
    "id_of_another": (ID, "p2"),
    "id_list": (ID, ["p0"]),
    "failure_true": (FAILURE, True),
    "failure_number": (FAILURE, 5),
    "failure_made_up": (FAILURE, "it rained"),
    "slot_other": (SLOT, 1),
    "slot_true": (SLOT, True),
    "list_other": (LIST, [{"text": "Beware of owls.", "answer": 7}]),
    "list_text": (LIST, "Beware of owls."),
    "list_null": (LIST, [None]),
    "digest_other": (DIGEST, "0123456789abcdef"),
    "family_number": (FAMILY, 5),
    "seed_other": (SEED, 5),
    "seed_true": (SEED, True),
    "seed_text": (SEED, "5"),
    "start_true": (START, True),
    "start_negative": (START, -1),
    "start_beyond": (START, 10**9),
    "start_text": (START, "0"),
    "start_float": (START, 0.0),
    "finish_number": (FINISH, 5),
    "finish_list": (FINISH, ["stop"]),
    "prompt_tokens_text": (PROMPT_TOKENS, "many"),
    "prompt_tokens_true": (PROMPT_TOKENS, True),
    "prompt_tokens_negative": (PROMPT_TOKENS, -1),
    "tokens_true": (TOKENS, True),
    "tokens_float": (TOKENS, 1.5),
    "tokens_huge": (TOKENS, 1 << 70),
    "budget_true": (BUDGET, True),
    "budget_text": (BUDGET, "8"),
}


OUTCOMES: dict[str, tuple[str, object]] = {
    "note_number": (NOTE, 5),
    "note_text": (NOTE, "added"),
    "note_list": (NOTE, []),
    "note_null": (NOTE, None),
    "verdict_other": (VERDICT, 777),
    "verdict_true": (VERDICT, True),
    "verdict_null": (VERDICT, None),
    "verdict_list": (VERDICT, [102]),
    "verdict_right": (VERDICT_RIGHT, 1),
}


def changed(name: str, value: object) -> Callable[[Record], Record]:
    def change(each: Record) -> Record:
        assert name in each, f"records have no {name}: correct records.py"
        return {**each, name: value}

    return change


def without(name: str) -> Callable[[Record], Record]:
    def change(each: Record) -> Record:
        assert name in each, f"records have no {name}: correct records.py"
        return {key: value for key, value in each.items() if key != name}

    return change


def swapped_ids(rows: list[Any]) -> list[Any]:
    rows[1][ID], rows[2][ID] = rows[2][ID], rows[1][ID]
    return rows


REWRITTEN: dict[str, Callable[[list[Any]], Any]] = {
    "no_records": lambda rows: [],
    "no_summary": lambda rows: rows[1:],
    "summary_null": lambda rows: [None, *rows[1:]],
    "summary_text": lambda rows: ["fine", *rows[1:]],
    "an_object": lambda rows: {"rows": rows},
    "nested": lambda rows: [rows],
    "reordered": lambda rows: [rows[0], rows[2], rows[1], rows[3]],
    "swapped_ids": swapped_ids,
    "one_missing": lambda rows: rows[:-1],
    "one_twice": lambda rows: [*rows, rows[1]],
    "one_for_another": lambda rows: [*rows[:-1], rows[1]],
    "one_more": lambda rows: [*rows, {**rows[1], ID: "p9"}],
    "records_null": lambda rows: [rows[0], None, None, None],
    "records_numbers": lambda rows: [rows[0], 1, 2, 3],
    "records_empty": lambda rows: [rows[0], {}, {}, {}],
}
OVERWRITTEN = {
    "empty": b"",
    "null": b"null",
    "number": b"5",
    "object": b"{}",
    "text": b"hello\n",
    "zeros": b"\0" * 4096,
    "not_utf_8": b'[{"a": "\xff\xfe"}]',
    "deep": DEEP,
    "deep_closed": DEEP + b"]" * len(DEEP),
}
SHARES = (0.0, 0.1, 0.3, 0.5, 0.8, 0.99)


def rows() -> list[Damage]:
    table = [Damage(f"nothing_{base}", base, nothing, 0) for base in (EARLY, HALF, WHOLE)]

    def add(name: str, edit: Edit, code: int = 2, base: int = HALF, **more: Any) -> None:
        table.append(Damage(name, base, edit, code, **more))

    for name, (field, value) in WRONG.items():
        add(f"step_{name}", record(0, 1, changed(field, value)))
        add(f"line_{name}", line(ROLLOUT, 1, changed(field, value)))
    for field in FIELDS:
        add(f"step_without_{field}", record(0, 1, without(field)))
        add(f"line_without_{field}", line(ROLLOUT, 1, without(field)))
        if field != FAILURE:
            add(f"step_null_{field}", record(0, 1, changed(field, None)))
            add(f"line_null_{field}", line(ROLLOUT, 1, changed(field, None)))
    for name, (field, value) in OUTCOMES.items():
        add(f"step_{name}", record(0, 1, changed(field, value)))
        add(f"outcome_{name}", line(OUTCOME, 1, changed(field, value)))
    for name, field in {"id": ID, "note": NOTE, "verdict": VERDICT}.items():
        add(f"outcome_without_{name}", line(OUTCOME, 1, without(field)))
    add("outcome_of_another", line(OUTCOME, 1, changed(ID, "p2")))
    of_none = {PREDICTED: [], CORRECT: []}
    add("outcome_of_no_rollouts", line(OUTCOME, 1, lambda each: {**each, **of_none}))
    add("outcome_without_marks", line(OUTCOME, 1, changed(CORRECT, [])))
    for name, change in REWRITTEN.items():
        add(f"step_{name}", parsed(predictions(0), change))
    add("step_laid_out_in_a_line", parsed(predictions(0), lambda rows: rows), 0)
    spread = content(predictions(0), lambda b: json.dumps(json.loads(b), indent=1).encode())
    add("step_laid_out_in_many_lines", spread, 0)
    for path, kind in ((predictions(0), "step"), (RUN, "run")):
        for name, value in OVERWRITTEN.items():
            add(f"{kind}_overwritten_{name}", becomes(path, value))
        for share in SHARES:
            add(f"{kind}_cut_at_{share}", cut(path, share))
        add(f"{kind}_more_behind", content(path, lambda b: b + b"]"))
    for path, kind in ((predictions(0), "step"), (RUN, "run"), (journal(1), "line")):
        for name, make in ODD.items():
            add(f"{kind}_is_{name}", place(path, make))
    # The files of other steps.
    add("step_missing", lambda folder: (folder / predictions(0)).unlink())
    add("step_of_another", copy(predictions(0), predictions(1)), base=WHOLE)
    add("steps_exchanged", copy(predictions(2), predictions(1)), base=WHOLE)
    add("step_in_the_middle_missing", lambda f: (f / predictions(1)).unlink(), base=WHOLE)
    add("last_step_missing", lambda f: (f / predictions(2)).unlink(), 0, WHOLE)
    add("journal_of_a_published_step", journal_left, 0)
    add("journal_of_a_later_step", copy(journal(1), journal(2)))
    add("journal_beyond_the_steps", becomes(journal(7), b""), 0)
    # A journal's lines.
    for share in SHARES[1:]:
        add(f"line_torn_at_{share}", torn(-2, share), 0)
        add(f"outcome_torn_at_{share}", torn(-1, share), 0)
        add(f"line_cut_at_{share}", torn(0, share, b"\n"))
    for number in range(1, 100):
        add(f"line_torn_after_{number}_percent", torn(-2, number / 100), 0)
    add("line_without_its_end", content(journal(1), lambda b: b[:-1]), 0)
    add("lines_exchanged", lines(1, lambda ls: [*ls[2:], *ls[:2]]), 0)
    add("lines_all_gone", becomes(journal(1), b""), 0)
    add("journal_gone", lambda folder: (folder / journal(1)).unlink(), 0)
    add("line_gone", lines(1, lambda ls: ls[2:]), 0)
    add("outcome_gone", lines(1, lambda ls: [ls[0], *ls[2:]]), 0)
    add("outcome_gone_at_the_end", lines(1, lambda ls: ls[:-1]), 0)
    add("outcome_alone", lines(1, lambda ls: ls[1:]))
    add("outcome_twice", lines(1, lambda ls: [*ls, ls[1]]))
    add("zeros_at_the_end", content(journal(1), lambda b: b + b"\0" * 512), 0)
    add("zeros_inside", lines(1, lambda ls: [ls[0], b"\0" * 512 + b"\n", *ls[1:]]))
    for name, value in OVERWRITTEN.items():
        if name != "empty":
            more = content(journal(1), lambda b, v=value: b + v.rstrip() + b"\n")  # type: ignore[misc]
            add(f"line_of_{name}", more)
    add("line_twice", lines(1, lambda ls: [*ls, ls[0]]))
    add(
        "line_twice_and_other",
        lines(1, lambda ls: [*ls, ls[0].replace(b"boxed{10", b"boxed{20")]),
    )
    add("line_of_another_step", copied_line(changed(ID, "p2")))
    add("line_of_another_step_same_id", copied_line())
    add("two_lines_in_one", lines(1, lambda ls: [ls[0].rstrip() + ls[1]]))
    # run.json.
    for base in (EARLY, HALF, WHOLE):
        add(f"run_missing_{base}", lambda folder: (folder / RUN).unlink(), base=base)
    for key in (SETTINGS, SESSIONS):
        for value in (None, 5, "text", True):
            add(f"run_{key}_{value}", parsed(RUN, changed(key, value)))
    add("run_without_settings", parsed(RUN, without(SETTINGS)))
    for flag, value in (
        *(("--temperature", "1.5"), ("--top_p", "0.5"), ("--top_k", "5"), ("--seed", "7")),
        *(("--stop_when_stable", "2"), ("--served_model_name", "n"), ("--limit", "2")),
    ):
        add(f"other{flag[1:]}", nothing, more=(flag, value))
    add(
        "other_problems", content(Path("problems.jsonl"), lambda b: b.replace(b"house 1", b"hut 1"))
    )
    # What a crash or a stranger leaves beside them.
    for name in (".run.json.part", ".predictions_1.json.part", ".predictions_2.json.part"):
        add(f"left{name}", becomes(FOLDER / name, b"junk"), 0)
        add(f"planted{name}", place(FOLDER / name, link("../../../" + VICTIM)), 0)
    add("part_is_a_folder", lambda folder: (folder / FOLDER / ".run.json.part").mkdir(), 0)
    add("planted_journal", place(journal(2), link("../../../" + VICTIM)))
    add("planted_journal_dangling", place(journal(2), link("../../../new")))
    add("notes_beside", becomes(FOLDER / "notes.txt", b"mine"), 0)
    return table


ROWS = rows()
