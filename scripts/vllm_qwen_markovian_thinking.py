"""Baseline: no knowledge list, only the tail of the text so far is carried. Qwen, AIME 2025.

    python scripts/vllm_qwen_markovian_thinking.py

Results: results/vllm_markov_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.markovian import Markovian, everything

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Markovian(
        nudge="qwen_markovian_nudge",
        appended=everything,
        rule=FIRST_BOXED_OR_LAST,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_markov",
)

if __name__ == "__main__":
    main(EXPERIMENT)
