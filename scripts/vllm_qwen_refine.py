"""Rival: the reference solution is refined, without a mistakes list. Qwen, AIME 2025.

    python scripts/vllm_qwen_refine.py

Results: results/vllm_refine_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.refine import Refine

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Refine(
        first="qwen_mistakes_first",
        later="qwen_refine_later",
        prefill="qwen_refine_opening",
        rule=LAST_BOXED_OR_LAST,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_refine",
)

if __name__ == "__main__":
    main(EXPERIMENT)
