"""Rival: the reference solution is refined, without a mistakes list. gpt-oss, AIME 2025.

    python scripts/vllm_oss_refine.py

Results: results/vllm_refine_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.refine import Refine

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Refine(
        first="oss_mistakes_first",
        later="oss_refine_later",
        rule=FIRST_BOXED,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_refine",
)

if __name__ == "__main__":
    main(EXPERIMENT)
