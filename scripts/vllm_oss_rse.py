"""Rival: recycling search experience (arXiv 2601.21684). gpt-oss, AIME 2025.

    python scripts/vllm_oss_rse.py

Steps alternate: --attempts attempts, then as many distillations of what they established and where
they failed, then attempts that see all of that, and so on. 7 steps include 4 of attempts.
Results: results/vllm_rse_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.rse import Rse

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Rse(
        first="oss_mistakes_first", distil="rse_distil", later="rse_later", rule=FIRST_BOXED
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_rse",
    reflex_size=7,
)

if __name__ == "__main__":
    main(EXPERIMENT)
