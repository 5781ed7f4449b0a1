"""Ablation: a list of what works instead of what failed. gpt-oss on AIME 2025.

    python scripts/vllm_kflow_oss_positiveKnowledge.py

Results: results/vllm_posK_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.positive import Positive

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Positive(
        first="oss_positive_first",
        later="oss_positive_later",
        empty_list="The list is empty.",
        cut_entries=True,
        rule=LAST_BOXED_OR_LAST,
        budget=0.8,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_posK",
)

if __name__ == "__main__":
    main(EXPERIMENT)
