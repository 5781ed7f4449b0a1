"""What vLLM's core tells of its scheduling, read where it passes; imports no vLLM.

vLLM's own loggers would do for each token in Python what is asked for here once per batch, and
0.10.2 takes none but its own. So the core is told to send its statistics (disable_log_stats is
false), and the front end not to look at them.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from kflow.engines.vllm_engine.recipes import ASYNC_KEEPS_REPLIES, Installed
from kflow.types import KvCache

RANDOM = re.compile(r"-[0-9a-f]{8}\Z")  # what vLLM since 0.14 adds to the name of a request
LOGGERS = ("stat_logger", "logger_manager")  # 0.10.2, and since


class Telemetry:
    """Counts preemptions by request, and knows the last state of each core
    (several with data parallelism)."""

    def __init__(self, engine: Any) -> None:
        for name in LOGGERS:
            if hasattr(engine, name):
                setattr(engine, name, None)
        engine.log_stats = engine.output_processor.log_stats = False
        self._get_output = engine.engine_core.get_output
        engine.engine_core.get_output = self._watched
        self._states: dict[int, tuple[int, float]] = {}
        self._of_requests: Counter[str] = Counter()
        self._preemptions = 0

    def _watched(self) -> Any:
        outputs = self._get_output()
        if (stats := outputs.scheduler_stats) is not None:
            self._states[outputs.engine_index] = (stats.num_running_reqs, stats.kv_cache_usage)
        for output in outputs.outputs:
            if output.events:
                number = sum(event.type.name == "PREEMPTED" for event in output.events)
                if number:
                    self._of_requests[RANDOM.sub("", output.request_id)] += number
                    self._preemptions += number
        return outputs

    @property
    def running(self) -> int | None:
        """Requests in the batch; None where the core sends no statistics."""
        states = list(self._states.values())
        return sum(running for running, _ in states) if states else None

    @property
    def kv_usage(self) -> float | None:
        """Of the fullest core's KV cache, 0 to 1."""
        return max((usage for _, usage in list(self._states.values())), default=None)

    @property
    def preemptions(self) -> int | None:
        return self._preemptions if self._states else None

    def take(self, request: str) -> int:
        """How often a request was preempted; it is forgotten."""
        return self._of_requests.pop(request, 0)


def kv_cache(config: Any) -> KvCache | None:
    """Of all copies of the model together, by vLLM's resolved configuration; None where that does
    not say.

    Versions that do not count tokens themselves say the number of blocks, which is exact where all
    layers attend to the whole text; of gpt-oss, whose sliding layers take a few blocks of each
    rollout too, it gives 2 percent too much for the published window.
    """
    cache, parallel = config.cache_config, config.parallel_config
    copies = getattr(parallel, "data_parallel_size", 1)
    tokens = (getattr(cache, "kv_cache_size_tokens", None) or 0) * copies
    if not tokens:
        shards = getattr(parallel, "decode_context_parallel_size", 1)
        tokens = (cache.num_gpu_blocks or 0) * cache.block_size * shards
    at_once = config.scheduler_config.max_num_seqs * copies
    return KvCache(tokens, at_once) if tokens else None


def loses_context(vllm: Installed | None, config: Any) -> bool:
    """Whether a request that is preempted goes on without its own reply so far: it is prefilled
    again with -1 in the place of each token of it."""
    on = bool(getattr(config.scheduler_config, "async_scheduling", False))
    return on and vllm is not None and () < vllm.release < ASYNC_KEEPS_REPLIES
