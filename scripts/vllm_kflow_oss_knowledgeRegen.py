"""Ablation: the knowledge list is rewritten at every step. gpt-oss on AIME 2025.

    python scripts/vllm_kflow_oss_knowledgeRegen.py

Results: results/vllm_regen_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.regeneration import Regeneration, after_header_with_colon

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Regeneration(
        first="oss_regeneration_first",
        later="oss_regeneration_later",
        new_list=after_header_with_colon,
        rule=FIRST_BOXED_OR_LAST,
        budget=0.8,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_regen",
)

if __name__ == "__main__":
    main(EXPERIMENT)
