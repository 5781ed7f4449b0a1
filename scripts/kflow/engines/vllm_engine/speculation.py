"""--speculate: drafts of several tokens that the engine checks at once, as vLLM's
speculative_config. What is sampled keeps its distribution, but no longer follows from a seed alone.
What the installed vLLM lacks of it, it refuses itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from kflow.engines.vllm_engine.recipes import Installed
from kflow.ground.hub import ModelName
from kflow.types import UserError

EAGLE3 = "eagle3:"
# Tokens of a draft, and of the text that it must follow.
NGRAM = {"num_speculative_tokens": 4, "prompt_lookup_min": 3, "prompt_lookup_max": 8}
EAGLE_TOKENS = 3
# A chain's last reply drafts its next one; the chains that are ahead of it push replies in between.
KEPT = 2
ASSUMED = 30  # rollouts in flight


def wrong(choice: str) -> str:
    """What a value of --speculate must be, "" if it is that."""
    if choice in ("ngram", "suffix") or (choice.startswith(EAGLE3) and choice != EAGLE3):
        return ""
    return "must be ngram, suffix or eagle3:MODEL"


def with_drafts(
    arguments: Mapping[str, object],
    given: Mapping[str, object],
    choice: str,
    in_flight: int | None,
) -> dict[str, object]:
    """Engine arguments with speculation. given: those that the user chose. in_flight: rollouts at
    most, None where it is not known. Raises UserError where drafts are asked for twice."""
    if "speculative_config" in given:
        raise UserError("--engine_args has a speculative_config: leave out that or --speculate.")
    if choice == "ngram":
        config: dict[str, object] = {"method": "ngram", **NGRAM}
    elif choice == "suffix":
        kept = KEPT * (in_flight or ASSUMED)
        config = {"method": "suffix", "suffix_decoding_max_cached_requests": kept}
    else:
        model, revision = ModelName.parse(choice.removeprefix(EAGLE3))
        config = {"method": "eagle3", "model": model, "num_speculative_tokens": EAGLE_TOKENS}
        config |= {"revision": revision} if revision else {}
    # Published for the other engine: with drafts, vLLM schedules ahead where it knows how.
    kept_arguments = {k: v for k, v in arguments.items() if k != "async_scheduling" or k in given}
    return {**kept_arguments, "speculative_config": config}


def check_sampling(
    arguments: Mapping[str, object], temperature: float, vllm: Installed | None
) -> None:
    """Raises UserError where drafts would change what is sampled. The CPU kernel that spreads the
    requests' temperatures over their draft tokens writes to a copy (vLLM 0.32), so that logits are
    divided by whatever the memory held before."""
    if vllm is not None and vllm.cpu and temperature and arguments.get("speculative_config"):
        raise UserError(
            "Drafts on vLLM's CPU build ignore the temperature and change the replies (a bug seen "
            "in 0.32): leave --speculate out, or give --temperature 0."
        )
