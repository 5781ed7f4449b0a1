"""Rival: test-time recursive thinking (arXiv 2602.03094) with several strategies per round, our
extension for mathematics. gpt-oss, AIME 2025.

    python scripts/vllm_oss_trt.py

Steps: strategies, then solve (--strategies rollouts), reflect, solve, reflect... 17 are 8 rounds.
Results: results/vllm_trt_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import FIRST_BOXED
from kflow.experiment import Experiment, main
from kflow.families import gpt_oss
from kflow.methods.trt import Trt

EXPERIMENT = Experiment(
    description=__doc__,
    family=gpt_oss.FAMILY,
    method=Trt(
        first="oss_mistakes_first",
        solve="trt_solve",
        design="trt_design",
        reflect="trt_reflect",
        strategy="trt_strategy",
        rule=FIRST_BOXED,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_trt",
    reflex_size=17,
)

if __name__ == "__main__":
    main(EXPERIMENT)
