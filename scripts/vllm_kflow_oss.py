"""Knowledge Flow with a mistakes list: gpt-oss on AIME 2025.

    python scripts/vllm_kflow_oss.py

Results: results/vllm_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.mistakes import Mistakes, to_the_end

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Mistakes(
        first="oss_mistakes_first",
        later="oss_mistakes_later",
        error_header="Why the reference solution is wrong?",
        error_entry=to_the_end,
        entries_per_answer=1,
        rule=FIRST_BOXED,
        keep_unanswered=False,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm",
)

if __name__ == "__main__":
    main(EXPERIMENT)
