"""How much time drafts save on a real engine.

    python benchmarks/speculate.py --model_name FOLDER [--speculate ngram] [--run RUN]

Runs the mistakes list through the real loop with every reply forced to a recorded text, so that no
figure depends on the replies: with drafts, without, without, with, each in a separate process.
The texts are those of RUN, a results folder of vllm_kflow_qwen.py on the same problems, with at
least as many steps and seeds, of any model. Without RUN an untimed first pass makes them. The last
line is JSON. Reaches into vLLM 0.32 running in this process (the CPU engine).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import vllm_kflow_qwen
from kflow import experiment
from kflow.engines.vllm_engine.vllm import VllmEngine
from kflow.flags import Whole, reader
from kflow.ground.program import Parser
from kflow.results.rollout import Rollout
from kflow.results.runs import read_one
from kflow.running.settings import Settings
from kflow.types import Chat, Completion, Key, Request

KFLOW = vllm_kflow_qwen.EXPERIMENT
WHOLE = reader(Whole)

T = TypeVar("T")
Place = tuple[str, int, int, int]  # problem, seed, step, slot
Texts = Mapping[Place, Sequence[int]]  # token ids of replies


@dataclass
class Counts:
    """Of all requests: engine steps that gave tokens, tokens proposed, accepted and emitted.
    seconds: from the first request to the last reply."""

    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    emitted: int = 0
    seconds: float = 0.0

    @property
    def tokens_per_step(self) -> float:
        return round(self.emitted / self.steps, 3)


class Drafted(VllmEngine):
    """The engine with its drafts counted. texts: what the replies are forced to, whatever the model
    would say; None: nothing. replies: the token ids of all replies so far."""

    def __init__(
        self,
        arguments: Mapping[str, object],
        sampling: Mapping[str, object],
        chat: Chat,
        texts: Texts | None = None,
    ) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        super().__init__(arguments, sampling, partial(chat.decode, skip_special_tokens=True))
        self.texts, self.replies, self.counts = texts, dict[Place, list[int]](), Counts()
        self._begun: float | None = None
        core = self._engine.engine_core.engine_core
        self._runner = core.model_executor.driver_worker.worker.model_runner
        self._sampled, self._runner._sample = self._runner._sample, self._sample

    def _sample(self, logits: Any, metadata: Any) -> Any:
        """What vLLM samples, which has cost what it costs, or the text's tokens in its place: the
        drafts that are right, and one token more."""
        output = self._sampled(logits, metadata)
        batch = self._runner.input_batch
        for row, name in enumerate(batch.req_ids):
            tokens, drafts = output.sampled_token_ids[row], drafts_of(metadata, row)
            if self.texts is not None:
                at = int(batch.num_tokens_no_spec[row] - batch.num_prompt_tokens[row])
                left = self.texts[place(self._key(name))][at:]
                forced = left[: agreeing(drafts, left) + 1]
                tokens[:] = -1
                tokens[: len(forced)] = tokens.new_tensor(forced)
            self.counts.steps += 1
            self.counts.proposed += len(drafts)
            self.counts.accepted += agreeing(drafts, tokens.tolist())
            self.counts.emitted += int((tokens >= 0).sum())
        return output

    def _key(self, name: str) -> Key:
        # Inside, vLLM adds something of its own to a request's name.
        return self._keys[name] if name in self._keys else self._keys[name.rpartition("-")[0]]

    def _params(self, request: Request):  # type: ignore[no-untyped-def]
        params = super()._params(request)
        if self.texts is not None:
            params.ignore_eos = True
            params.max_tokens = len(self.texts[place(request.key)])
        return params

    def submit(self, request: Request) -> None:
        self._begun = self._begun or time.perf_counter()
        super().submit(request)

    def _completion(self, output) -> Completion:  # type: ignore[no-untyped-def]
        assert self._begun is not None
        self.counts.seconds = time.perf_counter() - self._begun
        self.replies[place(self._keys[output.request_id])] = list(output.outputs[0].token_ids)
        return super()._completion(output)


def place(key: Key) -> Place:
    return key.problem, key.seed, key.step, key.slot


def drafts_of(metadata: Any, row: int) -> list[int]:
    """The tokens that were proposed to one request of the batch."""
    if metadata is None:
        return []
    ends = [0, *metadata.cu_num_draft_tokens.tolist()]
    return list(metadata.draft_token_ids[ends[row] : ends[row + 1]].tolist())


def agreeing(drafts: Sequence[int], tokens: Sequence[int]) -> int:
    """How many of the drafts are right, up to the first that is not."""
    pairs = zip(drafts, tokens, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def apart(function: Callable[..., T], *arguments: object) -> T:
    """What a function gives in a separate process: vLLM 0.32 starts no further engine in one that
    has had drafts."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        return other.submit(function, *arguments).result()


def work(settings: Settings, texts: Texts | None = None) -> tuple[Texts, Counts]:
    """The mistakes list through the product's own loop, from settings to files: the replies, and
    what that took."""
    requests: list[Drafted] = []

    def make(
        arguments: Mapping[str, object], sampling: Mapping[str, object], chat: Chat
    ) -> Drafted:
        requests.append(Drafted(arguments, sampling, chat, texts))
        return requests[0]

    with tempfile.TemporaryDirectory() as folder:
        experiment.run(KFLOW, replace(settings, results_dir=folder), make)
    return requests[0].replies, requests[0].counts


def rollouts(folder: Path) -> Iterator[tuple[int, int, Rollout]]:
    """(seed, step, rollout) of all in a results folder that have a reply."""
    for seed, step, _, record in read_one(folder).records():
        for rollout in record.slots:
            if rollout.failure is None and rollout.repeats_step is None:
                yield seed, step, rollout


def texts_in(folder: Path, model: str) -> Texts:
    from transformers import AutoTokenizer

    encode = partial(AutoTokenizer.from_pretrained(model).encode, add_special_tokens=False)
    return {
        (rollout.id, seed, step, rollout.slot): encode(rollout.reply)
        for seed, step, rollout in rollouts(folder)
    }


def benchmark(settings: Settings, choice: str, run: Path | None) -> dict[str, object]:
    texts = apart(work, settings)[0] if run is None else texts_in(run, settings.model_name)
    runs = [
        apart(work, replace(settings, speculate=each, temperature=0.0), texts)
        for each in (choice, None, None, choice)
    ]
    if any(texts[place] != list(replies[place]) for replies, _ in runs for place in replies):
        raise RuntimeError("A reply was not forced to its text: the times would lie.")
    first, plain, again, last = (counts for _, counts in runs)
    return {
        "benchmark": "speculate",
        "speculate": choice,
        "rollouts": len(runs[0][0]),
        "tokens": plain.emitted,
        "drafts_seconds": [round(first.seconds, 2), round(last.seconds, 2)],
        "plain_seconds": [round(plain.seconds, 2), round(again.seconds, 2)],
        "plain_to_drafts": round(
            (plain.seconds + again.seconds) / (first.seconds + last.seconds), 3
        ),
        "tokens_per_step": first.tokens_per_step,
        "accepted": round(first.accepted / max(1, first.proposed), 3),
        "max_num_seqs": settings.max_num_seqs,
        "cpus": os.cpu_count(),
    }


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--model_name", required=True)
    add("--speculate", default="ngram", help="as for the scripts (%(default)s)")
    add("--run", type=Path, metavar="RUN", help="where the texts are (made by a first pass)")
    add("--dataset", default="quickstart", help="(%(default)s)")
    add("--problems", type=WHOLE, default=8, help="the first of them (%(default)s)")
    add("--steps", type=WHOLE, default=3, help="(%(default)s)")
    add("--num_seeds", type=WHOLE, default=1, help="(%(default)s)")
    add("--max_num_seqs", type=WHOLE, default=1, help="batch size (%(default)s)")
    add("--max_new_tokens", type=WHOLE, default=1024, help="the window (%(default)s)")
    add("--dtype", help="of the weights (bfloat16; float32 on a CPU without its instructions)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    flags = parse()
    chosen = Settings(
        model_name=flags.model_name,
        dataset=flags.dataset,
        limit=flags.problems,
        reflex_size=flags.steps,
        num_seeds=flags.num_seeds,
        max_num_seqs=flags.max_num_seqs,
        max_new_tokens=flags.max_new_tokens,
        dtype=flags.dtype,
        enforce_eager=True,
    )
    print(json.dumps(benchmark(chosen, flags.speculate, flags.run)))
