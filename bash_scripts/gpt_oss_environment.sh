# Sourced by the gpt-oss scripts: the environment of the published runs.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export VLLM_ATTENTION_BACKEND=TRITON_ATTN_VLLM_V1
export HF_HUB_ENABLE_HF_TRANSFER=1
export VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB='{"2":32,"4":32,"8":8}'
export VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8=1
export TOKENIZERS_PARALLELISM=false
