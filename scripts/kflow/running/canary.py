"""Ten sums before a run: whether chat template, engine and extraction work together at all.

A broken kernel, template or tensor parallel group replies fluently and wrongly; a sum shows it in
minutes, where the run would show it after a day.
"""

from __future__ import annotations

from collections.abc import Sequence

from kflow.answers import AnswerType, Integer
from kflow.families import PUBLISHED
from kflow.ground.terminal import printable
from kflow.loop.steps import Plan
from kflow.results.description import CanaryResult
from kflow.results.rollout import sampling_seed
from kflow.types import Completion, Engine, Key, Message, Prompt, Request, RunEnded, UserError

SUMS = (
    (17, 25), (48, 39), (86, 57), (123, 456), (209, 318), (374, 188), (507, 694), (815, 276),
    (931, 489), (640, 772),
)  # fmt: skip
ENOUGH = 8
LONGEST = 8192  # tokens; models that think take hundreds for a sum
SHOWN = 200  # characters of a wrong reply, at its end


def ask(plan: Plan, engine: Engine) -> list[Completion]:
    """Ask the sums, rendered and seeded as the run's own requests are, and wait for all of them."""
    answers, window = answer_type(plan.answers), plan.measure.window
    form = f"Put the answer, {answers.instruction}, into \\boxed{{{answers.box}}}."
    for number, (first, second) in enumerate(SUMS):
        message = Message("user", f"What is {first} + {second}? {form}")
        ids = tuple(plan.chat.render(Prompt((message,), fraction=0.5)))
        key = Key("canary", f"sum {number}", 0, 0)
        seed = sampling_seed(plan.settings.seed, 0, key.problem, 0)
        engine.submit(Request(key, ids, max(1, min(LONGEST, window - len(ids))), seed))
    done: list[Completion] = []
    while len(done) < len(SUMS) and (finished := engine.completions()):
        done += finished
    return done


def answer_type(answers: AnswerType) -> AnswerType:
    """The data's own, but where it takes no numbers, as letters of choices."""
    try:
        answers.gold(sum(SUMS[0]))
    except ValueError:
        return Integer()
    return answers


def grade(plan: Plan, completions: Sequence[Completion]) -> CanaryResult:
    """Replies, in any order, by the run's own rule."""
    answers, wrong = answer_type(plan.answers), []
    for completion in sorted(completions, key=lambda done: done.key):
        first, second = SUMS[int(completion.key.problem.removeprefix("sum "))]
        answer = answers.extract(completion.text, plan.method.rule)
        if answer is None or not answers.same(answers.gold(first + second), answer):
            end = completion.failure or completion.unanswered or completion.text[-SHOWN:]
            wrong.append(f"{first} + {second}: {end.strip()}")
    return CanaryResult(len(completions) - len(wrong), len(SUMS), tuple(wrong))


def check(result: CanaryResult, unanswered: Sequence[str], model: str) -> None:
    """Raises UserError where a published model gets too many sums wrong, RunEnded where it might
    not have if the engine had answered. unanswered: why the engine gave sums up for now. model: the
    last part of its name or of its folder's."""
    if result.right >= ENOUGH or model not in PUBLISHED:
        return
    if result.right + len(unanswered) >= ENOUGH:
        raise RunEnded(
            f"{len(unanswered)} of {result.asked} sums (--canary) got no reply; first: "
            f"{printable(unanswered[0])}"
        )
    raise UserError(
        f"Only {result.right} of {result.asked} sums are right (--canary), but {model} should "
        "get all of them right: look for a broken kernel, chat template or tensor parallel "
        "setting. "
        f"{printable(result.wrong[0])}"
    )
