"""A vLLM offline engine behind submit/completions: the only module that imports vLLM.

Speaks to vLLM 0.10.2 (the GPU requirements) and to 0.32 (the CPU requirements).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from kflow.engines.vllm_engine.arguments import check_weights, reason
from kflow.engines.vllm_engine.recipes import installed
from kflow.engines.vllm_engine.telemetry import Telemetry, kv_cache, loses_context
from kflow.ground.finish import broken_off, on_record
from kflow.ground.redaction import public
from kflow.ground.terminal import counted
from kflow.types import Completion, EngineDied, EngineState, Key, Request, UserError

LOOK_EVERY = 1.0  # seconds
REGEX_TIMEOUT = "VLLM_REGEX_COMPILATION_TIMEOUT_S"


class VllmEngine:
    """Requests in, completions out as they finish; nothing here waits for a batch.

    decode: token ids -> text with special tokens skipped (the engine does not detokenize).
    sampling: what every request shares (temperature, top_p, top_k, stop_token_ids).
    kv_cache: as vLLM has sized it. loses_context: whether a preempted rollout goes on without its
    own reply. Raises UserError when vLLM refuses the model or its arguments.
    """

    def __init__(
        self,
        args: Mapping[str, object],
        sampling: Mapping[str, object],
        decode: Callable[[list[int]], str],
    ) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        here = installed()
        if here and here.cpu:
            # One process is the faster choice where engine and loop share a few cores.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        try:
            from vllm import EngineArgs, LLMEngine, envs
        except ImportError as error:
            raise UserError(
                "vLLM is not installed or does not import here: install requirements.txt (GPU) or "
                f"requirements/cpu.txt, or inspect with --dry_run. ({error})"
            ) from error
        if REGEX_TIMEOUT in envs.environment_variables:  # a run refuses those that vLLM ignores
            # The expressions are ours, and a busy CPU takes longer over one than vLLM allows.
            os.environ.setdefault(REGEX_TIMEOUT, "0")
        try:
            own = {"disable_log_stats": False, "use_tqdm_on_load": sys.stderr.isatty()}
            engine_args = EngineArgs(**(own | dict(args)))
            self._engine = LLMEngine.from_engine_args(engine_args)
        except Exception as error:  # whatever vLLM and torch raise for what they cannot serve
            check_weights(args)
            raise UserError(
                f"vLLM could not start with {public(dict(args))} ({public(reason(error))}): change "
                "the flag or the --engine_args entry named there."
            ) from error
        config = self._engine.vllm_config
        self.kv_cache = kv_cache(config)
        self.loses_context = loses_context(here, config)
        self._telemetry = Telemetry(self._engine)
        self._sampling, self._decode = sampling, decode
        self._keys: dict[str, Key] = {}
        self._refused: list[tuple[Key, str]] = []
        self._accepted = False
        self._lost = ""
        watch(self._engine.engine_core)

    def submit(self, request: Request) -> None:
        name = "/".join(map(str, request.key))
        prompt = {"prompt_token_ids": list(request.prompt_ids)}
        try:
            self._engine.add_request(name, prompt, self._params(request))
        except Exception as error:
            if not dead(self._engine.engine_core):  # refused by vLLM's own checks
                self._refused.append((request.key, reason(error)))
                return
            self._lost = f" ({reason(error)})"  # `completions` will find out
        else:
            self._accepted = True
        self._keys[name] = request.key

    def _params(self, request: Request):  # type: ignore[no-untyped-def]
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            **self._sampling,
            seed=request.seed,
            max_tokens=request.max_tokens,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            **(constraint(request.pattern) if request.pattern else {}),
        )

    def completions(self) -> list[Completion]:
        """Wait until at least one rollout has finished; empty only when none is in flight."""
        done = [self._refusal(key, why) for key, why in self._refused]
        self._refused = []
        while not done and self._keys:
            if not self._engine.has_unfinished_requests():
                lost = counted(len(self._keys), "rollout")
                raise EngineDied(f"vLLM has lost {lost}{self._lost}")
            try:
                outputs = self._engine.step()
            except Exception as error:  # the engine's own process or device is gone
                raise EngineDied(f"The vLLM engine stopped: {reason(error)}") from error
            done = [self._completion(output) for output in outputs if output.finished]
        return done

    def _refusal(self, key: Key, why: str) -> Completion:
        """Of a rollout that vLLM refused: final where it took another one, since then it is not
        what all of them share."""
        if self._accepted:
            return Completion(key, failure=why)
        return Completion(key, unanswered=why)

    def progress(self) -> EngineState:
        """Safe to call from another thread, and costs the engine nothing: vLLM keeps the tokens of
        every request in hand."""
        states, telemetry = self._engine.output_processor.request_states, self._telemetry
        counts = [len(state.detokenizer.token_ids) for state in list(states.values())]
        running = telemetry.running
        if running is None:
            running = sum(count > 0 for count in counts)
        running = min(running, len(counts))  # what was scheduled last may have ended since
        return EngineState(
            running,
            len(counts) - running,
            sum(counts),
            telemetry.kv_usage,
            telemetry.preemptions,
        )

    def _completion(self, output) -> Completion:  # type: ignore[no-untyped-def]
        key, reply = self._keys.pop(output.request_id), output.outputs[0]
        preemptions = self._telemetry.take(output.request_id)
        if broken_off(reply.finish_reason):
            why = f"the engine ended with finish_reason {reply.finish_reason}"
            return Completion(key, unanswered=why)
        ids = list(reply.token_ids)
        return Completion(
            key,
            self._decode(ids),
            len(ids),
            on_record(reply.finish_reason),
            preemptions=preemptions,
            lost_context=preemptions > 0 and self.loses_context,
        )

    def close(self) -> None:
        """Let go of the engine and whatever processes it started."""
        try:
            self._engine.engine_core.shutdown()
        except Exception as error:  # one that died may; it must not hide why the run ended
            print(f"The vLLM engine did not close cleanly: {reason(error)}", file=sys.stderr)
        del self._engine, self._telemetry  # which holds the core
        if os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") == "0":
            # An engine in this process leaves its parallel groups behind, in the next one's way.
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()


def dead(core: Any) -> bool:
    """Whether vLLM has noted the death of the engine's own process; there is none with an engine
    in this one."""
    return bool(getattr(getattr(core, "resources", None), "engine_dead", False))


def watch(core: Any) -> None:
    """Wake up who waits for output when the engine's own process is killed: vLLM 0.32 notes its
    death, and lets everybody wait. Ends with the engine."""
    if not hasattr(core, "outputs_queue"):
        return  # an engine in this process

    def look() -> None:
        while not dead(core):
            time.sleep(LOOK_EVERY)
        core.outputs_queue.put(RuntimeError("its process has ended"))

    threading.Thread(target=look, daemon=True).start()


def constraint(pattern: str) -> dict[str, object]:
    """The sampling argument for a regular expression, by the name this vLLM has for it."""
    import vllm.sampling_params as params

    if hasattr(params, "StructuredOutputsParams"):
        return {"structured_outputs": params.StructuredOutputsParams(regex=pattern)}
    return {"guided_decoding": params.GuidedDecodingParams(regex=pattern)}
