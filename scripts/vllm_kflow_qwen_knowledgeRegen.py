"""Ablation: the knowledge list is rewritten at every step. Qwen on AIME 2025.

    python scripts/vllm_kflow_qwen_knowledgeRegen.py

Results: results/vllm_regen_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.regeneration import Regeneration, after_header

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Regeneration(
        first="qwen_regeneration_first",
        later="qwen_regeneration_later",
        prefill="qwen_opening",
        new_list=after_header,
        rule=LAST_BOXED_OR_LAST,
        budget=0.9,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_regen",
)

if __name__ == "__main__":
    main(EXPERIMENT)
