"""Knowledge Flow and its rivals against parallel thinking, at equal rollouts: gpt-oss on AIME 2025.

    python scripts/study_oss.py

The arms share one engine; each has the results folder that its own script writes.
"""

import vllm_kflow_oss
import vllm_kflow_oss_knowledgeRegen
import vllm_kflow_oss_positiveKnowledge
import vllm_oss_markovian_thinking
import vllm_oss_pacore
import vllm_oss_parallel_thinking
import vllm_oss_refine
import vllm_oss_rsa
import vllm_oss_rse
import vllm_oss_trt
from kflow.study import Study, main

STUDY = Study(
    description=__doc__,
    arms=(
        vllm_oss_parallel_thinking.EXPERIMENT,
        vllm_kflow_oss.EXPERIMENT,
        vllm_oss_refine.EXPERIMENT,
        vllm_kflow_oss_knowledgeRegen.EXPERIMENT,
        vllm_kflow_oss_positiveKnowledge.EXPERIMENT,
        vllm_oss_markovian_thinking.EXPERIMENT,
        vllm_oss_rsa.EXPERIMENT,
        vllm_oss_trt.EXPERIMENT,
        vllm_oss_rse.EXPERIMENT,
        vllm_oss_pacore.EXPERIMENT,
    ),
)

if __name__ == "__main__":
    main(STUDY)
