# Sourced by the Qwen scripts: the environment of the published runs.
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export VLLM_ATTENTION_BACKEND=FLASH_ATTN
export HF_HUB_ENABLE_HF_TRANSFER=1
export TOKENIZERS_PARALLELISM=false
