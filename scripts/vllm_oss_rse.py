"""Rival: recycling search experience (arXiv 2601.21684). gpt-oss, AIME 2025.

    python scripts/vllm_oss_rse.py

Steps: --attempts attempts, as many distillations of what they established and where they failed,
attempts with all of that, distillations... 7 are 4 steps of attempts.
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
