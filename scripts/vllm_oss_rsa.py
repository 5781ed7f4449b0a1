"""Rival: recursive self-aggregation (arXiv 2509.26626). gpt-oss, AIME 2025.

    python scripts/vllm_oss_rsa.py

A step is --rollouts_per_step rollouts, each of which combines --aggregate earlier solutions.
Results: results/vllm_rsa_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.rsa import Rsa

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Rsa(first="oss_mistakes_first", later="rsa_later", rule=FIRST_BOXED),
    dataset="yentinglin/aime_2025",
    prefix="vllm_rsa",
    reflex_size=10,
)

if __name__ == "__main__":
    main(EXPERIMENT)
