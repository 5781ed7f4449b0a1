"""Rival: independent attempts and a majority vote. Qwen, AIME 2025.

    python scripts/vllm_qwen_parallel_thinking.py

--reflex_size counts the attempts, which are all in flight at once.
Results: results/vllm_parallel_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.parallel import Parallel

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Parallel(first="qwen_mistakes_first", rule=LAST_BOXED_OR_LAST),
    dataset="yentinglin/aime_2025",
    prefix="vllm_parallel",
)

if __name__ == "__main__":
    main(EXPERIMENT)
