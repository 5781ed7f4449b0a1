"""Knowledge Flow with a mistakes list: gpt-oss on AIME 2024, criticising the reference first.

    python scripts/vllm_kflow_oss24.py

Results: results/vllm24_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
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
        later="oss24_mistakes_later",
        error_header="Why the reference solution is wrong?",
        error_entry=to_the_end,
        entries_per_answer=1,
        rule=FIRST_BOXED,
        keep_unanswered=False,
    ),
    dataset="HuggingFaceH4/aime_2024",
    prefix="vllm24",
)

if __name__ == "__main__":
    main(EXPERIMENT)
