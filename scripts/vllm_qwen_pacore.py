"""Rival: PaCoRe's way of combining attempts, without its training (stepfun-ai/PaCoRe).
Qwen, AIME 2025.

    python scripts/vllm_qwen_pacore.py

--rounds 32,4 is 32 attempts, 4 rollouts that see all of them and one that sees these 4.
Results: results/vllm_pacore_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.pacore import Pacore

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Pacore(first="qwen_mistakes_first", later="pacore_later", rule=LAST_BOXED_OR_LAST),
    dataset="yentinglin/aime_2025",
    prefix="vllm_pacore",
)

if __name__ == "__main__":
    main(EXPERIMENT)
