"""Baseline: as vllm_qwen_markovian_thinking.py, but with the whole tail in the prompt, as a
prefill that the chat template does not filter. Qwen, AIME 2025.

    python scripts/vllm_qwen_markovian_whole_tail.py

Results: results/vllm_markov_tail_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
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
        whole_tail=True,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_markov_tail",
)

if __name__ == "__main__":
    main(EXPERIMENT)
