"""Baseline: no knowledge list, only the tail of the text so far is carried. gpt-oss, AIME 2025.

    python scripts/vllm_oss_markovian_thinking.py

Results: results/vllm_markov_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.markovian import Markovian, before_final

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Markovian(
        nudge="oss_markovian_nudge",
        appended=before_final,
        rule=FIRST_BOXED_OR_LAST,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_markov",
)

if __name__ == "__main__":
    main(EXPERIMENT)
