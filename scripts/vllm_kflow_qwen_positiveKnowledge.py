"""Ablation: a list of what works instead of what failed. Qwen on AIME 2025.

    python scripts/vllm_kflow_qwen_positiveKnowledge.py

Results: results/vllm_posK_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.positive import Positive

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Positive(
        first="qwen_positive_first",
        later="qwen_positive_later",
        empty_list=None,
        cut_entries=False,
        rule=LAST_BOXED_OR_LAST,
        budget=0.9,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_posK",
)

if __name__ == "__main__":
    main(EXPERIMENT)
