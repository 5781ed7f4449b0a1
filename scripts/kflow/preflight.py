"""What is known of a run before an engine is started; --dry_run prints it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import families, manifest, steps
from .answers import Integer
from .chain import Chain
from .families.family import Family
from .launch import Launch
from .manifest import Manifest
from .method import Method, Room, Template
from .problems import ProblemSet
from .sentences import TokenMeasure
from .settings import Settings
from .steps import Plan
from .terminal import say
from .types import Chat, Key, UserError


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start. data, chat: None only in a dry run that could not find them;
    missing says why."""

    settings: Settings
    folder: Path
    method: Method[object, object]
    family: Family
    templates: dict[str, Template]
    data: ProblemSet | None
    chat: Chat | None
    sampling: dict[str, object]
    launch: Launch
    manifest: Manifest
    missing: tuple[str, ...] = ()

    def plan(self, data: ProblemSet, chat: Chat) -> Plan:
        settings = self.settings
        measure = TokenMeasure(settings.max_new_tokens, chat.count)
        return Plan(
            name=str(self.folder),
            method=self.method,
            templates=self.templates,
            chat=chat,
            family=self.family.name,
            end_of_thinking=families.unusual_end(self.family),
            answers=data.answers,
            window=settings.max_new_tokens,
            count=chat.count,
            last_sentences=measure.last_sentences,
            steps=settings.reflex_size,
            seed=settings.seed,
            force_sections=settings.force_sections,
            stop_when_stable=settings.stop_when_stable,
            token_budget=settings.token_budget,
        )


def check_fit(chains: Sequence[Chain]) -> None:
    """Raises UserError where a run that has not begun has no question that fits the window."""
    if not chains or any(chain.state.step for chain in chains):
        return
    failure = None
    for chain in chains:
        key = chain.key(0)
        views = steps.views(chain.plan, chain.state, key)
        asked = steps.ask(chain.plan, chain.state, views[0], key)
        if asked.request is not None:
            return
        failure = asked.failure
    raise UserError(f"No question fits: {failure}; give a larger --max_new_tokens.")


def dry_run(prepared: Prepared) -> None:
    """Print what run.json would hold but for its sessions, what could not be checked, and the
    first prompt."""
    record = manifest.plain(prepared.manifest)
    del record["sessions"]
    say(manifest.shown(record))
    say(f"\n# results: {prepared.folder}")
    for sentence in prepared.missing:
        say(f"# unavailable: {sentence}")
    say(first_prompt(prepared))


def first_prompt(prepared: Prepared) -> str:
    """The first problem's prompt as it is sent, or as its messages without a tokenizer."""
    data, chat, method = prepared.data, prepared.chat, prepared.method
    question = data.problems[0].question if data else "(the data set's first question)"
    state = method.start(question)
    if data is not None and chat is not None:
        plan, key = prepared.plan(data, chat), Key("", data.problems[0].id, 0, 0)
        start = steps.start(plan, data.problems[0])
        asked = steps.ask(plan, start, steps.views(plan, start, key)[0], key)
        budget = asked.request.max_tokens if asked.request else asked.failure
        title = f"# first prompt ({len(asked.prompt_ids)} tokens, reply up to {budget})"
        pattern = asked.request.pattern if asked.request else None
        constraint = f"\n# constrained to {pattern}" if pattern else ""
        return f"{title}{constraint}\n{chat.decode(list(asked.prompt_ids), False)}"
    window, answers = prepared.settings.max_new_tokens, data.answers if data else Integer()
    count = chat.count if chat else len
    measure = TokenMeasure(window, count)
    room = Room(
        window,
        count,
        measure.last_sentences,
        answers,
        lambda first, other: first == other,
        prepared.templates,
    )
    prompt = method.render(method.ask(state, room)[0], room)
    turns = "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt.messages)
    return f"# first prompt (as messages)\n{turns}"
