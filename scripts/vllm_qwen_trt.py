"""Rival: test-time recursive thinking (arXiv 2602.03094) with several strategies per round, our
extension for mathematics. Qwen, AIME 2025.

    python scripts/vllm_qwen_trt.py

Steps: strategies, then solve (--strategies rollouts), reflect, solve, reflect... 17 are 8 rounds.
Results: results/vllm_trt_<max_new_tokens>_<output_postfix>/<model>/predictions_<step>.json
"""

from kflow.answers import LAST_BOXED_OR_LAST
from kflow.experiment import Experiment, main
from kflow.families import qwen
from kflow.methods.trt import Trt

EXPERIMENT = Experiment(
    description=__doc__,
    family=qwen.FAMILY,
    method=Trt(
        first="qwen_mistakes_first",
        solve="trt_solve",
        design="trt_design",
        reflect="trt_reflect",
        strategy="trt_strategy",
        rule=LAST_BOXED_OR_LAST,
    ),
    dataset="yentinglin/aime_2025",
    prefix="vllm_trt",
    reflex_size=17,
)

if __name__ == "__main__":
    main(EXPERIMENT)
