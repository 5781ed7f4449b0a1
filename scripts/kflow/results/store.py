"""A results folder: every file in it appears whole or not at all.

run.json says what was run. A finished rollout is one fsynced line of `rollouts_<step>.jsonl`, and
so is the outcome of a chain's step. When every chain has passed a step, `predictions_<step>.json`
takes that file's place (docs/method.md, "Output"); gzip may compress that file later. Nothing else
is saved: a chain's state is the fold of its replies.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fcntl import LOCK_EX, LOCK_NB, flock
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from kflow.ground.files import SUFFIX, sync_folder, write_whole
from kflow.results.journal import Journal
from kflow.results.reading import COMPRESSED, Damaged, read_elements, read_manifest
from kflow.results.rollout import (
    Outcome,
    Rollout,
    Summary,
    from_json,
    merge_step,
    outcome_of,
    summary,
    summary_to_json,
    to_json,
)
from kflow.types import Key, UserError

STEPS = ("predictions_*.json", f"predictions_*.json{COMPRESSED}", "rollouts_*.jsonl")
PARTS = f".*{SUFFIX}"  # what a killed process was writing
DAMAGED = "move this file and the files of all later steps away to run these steps again."


@dataclass(frozen=True)
class Stored:
    """What is on disk of one step of a chain: its rollouts by slot, and the outcome if it was
    folded; or the record that an early-stopped chain repeats."""

    id: str
    rollouts: Mapping[int, Rollout] = field(default_factory=dict)
    outcome: Outcome | None = None
    repeated: Rollout | None = None


class Store:
    """The files of one run: `problems` are the ids in data-set order, shared by all its seeds.

    With several seeds, those of chain k are in the folder `seed_<k>`; a run that had one seed keeps
    its files and becomes chain 0. summaries: by seed and step, of the files read or written so far.
    """

    def __init__(self, folder: Path, problems: Sequence[str], num_seeds: int = 1) -> None:
        self.folder = folder
        self._problems = list(problems)
        self._num_seeds = num_seeds
        self._journals: dict[tuple[int, int], Journal] = {}
        self.summaries: dict[tuple[int, int], Summary] = {}
        # By the rollouts read or written so far: what servers charged, tokens of all others.
        self.charged, self.prompt_tokens, self.reply_tokens = 0.0, 0, 0
        self._lock_descriptor: int | None = None
        self.unheld = ""  # why the folder cannot be held against other processes

    @property
    def several_seeds(self) -> bool:
        return self._num_seeds > 1 or (self.folder / "seed_0").is_dir()

    # The folder as a whole.

    @property
    def run_file(self) -> Path:
        return self.folder / "run.json"

    def run(self) -> dict[str, Any] | None:
        """run.json as it is on disk, None without one. Raises UserError for a damaged one."""
        try:
            return read_manifest(self.run_file)
        except FileNotFoundError:
            return None
        except Damaged as error:
            raise UserError(
                f"{self.run_file} is damaged ({error}): move the whole folder away, or choose "
                "a new --output_postfix."
            ) from error
        except OSError as error:
            raise UserError(f"Cannot read {self.run_file} ({error}): make it readable.") from error

    def check_begun(self) -> None:
        """Raises UserError where the folder holds results that no run.json describes."""
        if self.run_file.exists() or not self.folder.is_dir():
            return
        for pattern in STEPS:
            for path in (*self.folder.glob(pattern), *self.folder.glob(f"seed_*/{pattern}")):
                raise UserError(
                    f"{path} has no run.json beside it: move the whole folder away, or choose "
                    "a new --output_postfix."
                )

    def lock(self) -> None:
        """Hold the folder for this process; the system releases it however the process ends.

        Raises UserError where another process holds it. Nothing where there is no folder yet, or
        no locks on its file system (`unheld`).
        """
        if self._lock_descriptor is not None or not self.folder.exists():
            return
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise UserError(
                f"Another process is working on {self.folder}: wait for it, or choose "
                "a new --output_postfix."
            ) from error
        except OSError as error:
            self.unheld = error.strerror or str(error)  # journals still notice other programs
        self._lock_descriptor = descriptor
        with suppress(OSError):  # a complete run may be on a read-only mount
            for left_over in (*self.folder.glob(PARTS), *self.folder.glob(f"seed_*/{PARTS}")):
                left_over.unlink()

    def begin(self, run: Callable[[dict[str, Any] | None], dict[str, Any]]) -> None:
        """Make the folder, claim it, and write run.json. run: what is on disk -> what takes its
        place."""
        unseen = self._lock_descriptor is None
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock()
        before = self.run()
        if unseen and before is not None:
            raise UserError(
                f"Another run began in {self.folder} while this one was starting: start this one "
                "again, or choose a new --output_postfix."
            )
        self._write_run(run(before))
        if self.several_seeds:
            for seed in range(self._num_seeds):
                (self.folder / f"seed_{seed}").mkdir(exist_ok=True)
            self._move_into_seed_0()

    def amend(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Change run.json. change: what is on disk -> what takes its place."""
        before = self.run()
        assert before is not None, "the run has begun"
        self._write_run(change(before))

    def _write_run(self, record: dict[str, Any]) -> None:
        content = json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8", "replace")
        write_whole(self.run_file, [content, b"\n"], 0o600)

    def _move_into_seed_0(self) -> None:
        """Make a run of one seed chain 0 of several. One that is interrupted goes on at the next
        start; until then files are read from both places."""
        for pattern in STEPS:
            for path in self.folder.glob(pattern):
                path.rename(self.folder / "seed_0" / path.name)
        for (seed, step), journal in self._journals.items():
            journal.path = self.journal(seed, step)
        sync_folder(self.folder / "seed_0")
        sync_folder(self.folder)

    def move_aside(self) -> None:
        """Put what is in the folder under the next free name beside it."""
        if not self.folder.exists():
            return
        self.lock()
        number = 1
        while (aside := self.folder.with_name(f"{self.folder.name}.old-{number}")).exists():
            number += 1
        self.folder.rename(aside)
        self.close()

    def close(self) -> None:
        """Release the folder."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    # The files of its steps.

    def forget(self) -> None:
        """Know nothing of the files: they are read anew."""
        self._journals.clear()
        self.summaries.clear()
        self.charged, self.prompt_tokens, self.reply_tokens = 0.0, 0, 0

    @property
    def failed(self) -> int:
        """Rollouts that failed for good, in the files read or written so far."""
        journals = self._journals.values()
        records = [record for journal in journals for record in journal.numbers.values()]
        in_journals = sum(r.failure is not None for r in records if r.repeats_step is None)
        return in_journals + sum(summary.failed for summary in self.summaries.values())

    def _path(self, seed: int, name: str) -> Path:
        if not self.several_seeds:
            return self.folder / name
        moved, before = self.folder / f"seed_{seed}" / name, self.folder / name
        if seed or moved.exists():
            return moved
        # A run of one seed that grows may publish a step before `begin` has made seed_0.
        return before if before.exists() or not moved.parent.is_dir() else moved

    def predictions(self, seed: int, step: int) -> Path:
        """A published step's file: the compressed one where there is no other."""
        path = self._path(seed, f"predictions_{step}.json")
        compressed = self._path(seed, path.name + COMPRESSED)
        only = os.path.lexists(compressed) and not os.path.lexists(path)
        return compressed if only else path

    def journal(self, seed: int, step: int) -> Path:
        return self._path(seed, f"rollouts_{step}.jsonl")

    def path(self, seed: int, step: int) -> Path:
        """The file that a step's records are in."""
        published = self.predictions(seed, step)
        return published if published.exists() else self.journal(seed, step)

    def read(self, seed: int, step: int) -> list[Stored]:
        """What is on disk of a step, chain by chain, in no particular order. The last line of a
        journal, torn by a crash, is removed. Raises UserError for a damaged file."""
        path, journal = self.predictions(seed, step), self.journal(seed, step)
        try:
            if os.path.lexists(path):
                recorded, stored = self._read_predictions(path)
                self.summaries[seed, step] = recorded
                with suppress(OSError):  # none is left over, or the run is on a read-only mount
                    journal.unlink()
            else:
                path = journal
                stored = self._read_journal(seed, step) if os.path.lexists(journal) else []
        except OSError as error:
            raise UserError(f"Cannot read {path} ({error}): make it readable.") from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is damaged ({error}): {DAMAGED}") from error
        self._count_costs(rollout for chain in stored for rollout in chain.rollouts.values())
        return stored

    def _count_costs(self, rollouts: Iterable[Rollout]) -> None:
        for rollout in rollouts:
            if rollout.cost is not None:
                self.charged += rollout.cost
            else:
                self.prompt_tokens += rollout.prompt_tokens
                self.reply_tokens += rollout.completion_tokens

    def _read_predictions(self, path: Path) -> tuple[Summary, list[Stored]]:
        """The step in a predictions file. Raises ValueError where it is not exactly what this
        program writes: what follows from the records must follow from them again."""
        first, *records = islice(read_elements(path), len(self._problems) + 2)
        recorded = msgspec.json.decode(first, type=Summary)
        rollouts = [from_json(record) for record in records]
        if [rollout.id for rollout in rollouts] != self._problems:
            raise ValueError("it does not hold every problem once, in the order of the data set")
        whole = summary(rollouts)
        older = replace(whole, empty=0)  # whose files have no such count, nor the next
        if recorded not in (whole, older, replace(older, asks_no_answer=0)):
            raise ValueError("its summary does not follow from its records")
        stored = []
        for rollout in rollouts:
            slots, outcome = dict(enumerate(rollout.slots)), outcome_of(rollout)
            if outcome is None or any(slot != r.slot for slot, r in slots.items()):
                raise ValueError(f"the record of problem {rollout.id} is incomplete")
            if rollout.repeats_step is not None:
                stored.append(Stored(rollout.id, repeated=rollout))
            elif merge_step(rollout.slots, outcome) != rollout:
                raise ValueError(f"the record of problem {rollout.id} contradicts itself")
            else:
                stored.append(Stored(rollout.id, slots, outcome))
        return recorded, stored

    def _read_journal(self, seed: int, step: int) -> list[Stored]:
        journal = self._journals[seed, step] = Journal(self.journal(seed, step))
        rollouts: dict[str, dict[int, Rollout]] = defaultdict(dict)
        stored = []
        for line in journal.read():
            if line.id not in self._problems:
                raise ValueError("it holds other problems")
            if isinstance(line, Outcome):
                continue
            if line.repeats_step is not None:
                stored.append(Stored(line.id, repeated=line))
            else:
                rollouts[line.id][line.slot] = line
        if journal.outcomes.keys() - rollouts.keys():
            raise ValueError("it holds an outcome without its rollouts")
        for problem, slots in rollouts.items():
            stored.append(Stored(problem, slots, journal.outcomes.get(problem)))
        return stored

    def append(self, key: Key, *lines: Rollout | Outcome) -> Summary | None:
        """Put a finished rollout, the outcome of its step, or both on disk before this returns. The
        step's last outcome publishes its file and returns its summary.

        Raises RunEnded where another program has changed the journal.
        """
        self._journal(key.seed, key.step).append(lines)
        fresh = (line for line in lines if isinstance(line, Rollout) and line.repeats_step is None)
        self._count_costs(fresh)
        return self.publish(key.seed, key.step)

    def reread(self, key: Key) -> Rollout:
        """A rollout that is on record in the journal of its step."""
        return self._journal(key.seed, key.step).rollout(key.problem, key.slot)

    def publish(self, seed: int, step: int) -> Summary | None:
        """Put a step's records, in data-set order, into its predictions file, once every chain has
        passed it; None before."""
        journal = self._journals.get((seed, step))
        if journal is None or not journal.passed(self._problems):
            return None
        first = journal.summary(self._problems)

        def parts() -> Iterator[bytes]:
            yield b"[\n" + summary_to_json(first)
            for record in journal.records(self._problems):
                yield b",\n" + to_json(record)
            yield b"\n]\n"

        write_whole(self._path(seed, f"predictions_{step}.json"), parts())
        journal.path.unlink()
        del self._journals[seed, step]
        self.summaries[seed, step] = first
        return first

    def _journal(self, seed: int, step: int) -> Journal:
        if (seed, step) not in self._journals:
            self._journals[seed, step] = Journal(self.journal(seed, step))
        return self._journals[seed, step]
