"""Write the harmony vocabulary to a file, for a machine without network access.

    python scripts/harmony_vocabulary.py FOLDER
    export TIKTOKEN_ENCODINGS_BASE=FOLDER    # on the other machine

Otherwise openai-harmony downloads it. Runs with either harmony package; with that of the CPU
requirements, oss-harmony, even offline.
"""

import argparse
import base64
import hashlib
import os
from pathlib import Path

from kflow.families.gpt_oss import VOCABULARY, encoding
from kflow.ground.files import write_whole
from kflow.ground.signals import end
from kflow.types import UserError

NAME = "o200k_base.tiktoken"
SHA256 = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"


def vocabulary() -> bytes:
    """A line for each token that is not special: its bytes as base64, and its number."""
    harmony = encoding()
    lines: list[bytes] = []
    while not harmony.is_special_token(len(lines)):
        token = bytes(harmony._inner.decode_bytes([len(lines)]))
        lines.append(base64.b64encode(token) + b" %d\n" % len(lines))
    content = b"".join(lines)
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(
            f"This harmony package's vocabulary is not {NAME}: install the package version that "
            "requirements/cpu.txt pins."
        )
    return content


def write(folder: Path) -> None:
    # Set already, for the folder that is to be made: harmony would look nowhere else.
    if not (Path(os.environ.get(VOCABULARY, "")) / NAME).is_file():
        os.environ.pop(VOCABULARY, None)
    content = vocabulary()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / NAME, [content])
    except OSError as error:
        raise UserError(f"Cannot write to {folder} ({error.strerror}): give another.") from error
    print(folder / NAME)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    end(lambda: write(folder))
