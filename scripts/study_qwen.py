"""Knowledge Flow and its rivals against parallel thinking: Qwen thinking models on AIME 2025.

    python scripts/study_qwen.py

The arms share one engine; each has the results folder that its own script writes.
"""

import vllm_kflow_qwen
import vllm_kflow_qwen_knowledgeRegen
import vllm_kflow_qwen_positiveKnowledge
import vllm_qwen_markovian_thinking
import vllm_qwen_markovian_whole_tail
import vllm_qwen_pacore
import vllm_qwen_parallel_thinking
import vllm_qwen_refine
import vllm_qwen_rsa
import vllm_qwen_rse
import vllm_qwen_trt
from kflow.study import Study, main

STUDY = Study(
    description=__doc__,
    arms=(
        vllm_qwen_parallel_thinking.EXPERIMENT,
        vllm_kflow_qwen.EXPERIMENT,
        vllm_qwen_refine.EXPERIMENT,
        vllm_kflow_qwen_knowledgeRegen.EXPERIMENT,
        vllm_kflow_qwen_positiveKnowledge.EXPERIMENT,
        vllm_qwen_markovian_thinking.EXPERIMENT,
        vllm_qwen_markovian_whole_tail.EXPERIMENT,
        vllm_qwen_rsa.EXPERIMENT,
        vllm_qwen_trt.EXPERIMENT,
        vllm_qwen_rse.EXPERIMENT,
        vllm_qwen_pacore.EXPERIMENT,
    ),
)

if __name__ == "__main__":
    main(STUDY)
