"""Rival: recycling search experience (arXiv 2601.21684). Qwen, AIME 2025.

    python scripts/vllm_qwen_rse.py

Steps alternate: --attempts attempts, then as many distillations of what they established and where
they failed, then attempts that see all of that, and so on. 7 steps include 4 of attempts.
Results: results/vllm_rse_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.rse import Rse

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Rse(
        first="qwen_mistakes_first", distil="rse_distil", later="rse_later", rule=LAST_BOXED_OR_LAST
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_rse",
    reflex_size=7,
)

if __name__ == "__main__":
    main(EXPERIMENT)
