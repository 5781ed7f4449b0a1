"""Rival: independent attempts and a majority vote. gpt-oss, AIME 2025.

    python scripts/vllm_oss_parallel_thinking.py

--reflex_size counts the attempts, which are all in flight at once.
Results: results/vllm_parallel_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.parallel import Parallel

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Parallel(first="oss_mistakes_first", rule=FIRST_BOXED),
    dataset="yentinglin/aime_2025",
    prefix="vllm_parallel",
)

if __name__ == "__main__":
    main(EXPERIMENT)
