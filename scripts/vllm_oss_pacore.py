"""Rival: PaCoRe's way of combining attempts, without its training (stepfun-ai/PaCoRe).
gpt-oss, AIME 2025.

    python scripts/vllm_oss_pacore.py

--rounds 32,4 is 32 attempts, 4 rollouts that see all of them and one that sees these 4.
Results: results/vllm_pacore_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.pacore import Pacore

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Pacore(first="oss_mistakes_first", later="pacore_later", rule=FIRST_BOXED),
    dataset="yentinglin/aime_2025",
    prefix="vllm_pacore",
)

if __name__ == "__main__":
    main(EXPERIMENT)
