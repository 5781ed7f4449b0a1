"""Knowledge Flow with a mistakes list: Qwen thinking models on AIME 2025.

    python scripts/vllm_kflow_qwen.py

Results: results/vllm_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.mistakes import Mistakes, up_to_summary

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Mistakes(
        first="qwen_mistakes_first",
        later="qwen_mistakes_later",
        prefill="qwen_opening",
        error_header="Error Report",
        error_entry=up_to_summary,
        entries_per_answer=2,
        rule=LAST_BOXED_OR_LAST,
        keep_unanswered=True,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm",
)

if __name__ == "__main__":
    main(EXPERIMENT)
