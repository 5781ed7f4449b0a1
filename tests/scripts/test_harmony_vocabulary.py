"""The harmony vocabulary as a file for a machine without network."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.scripted import ROOT

SCRIPT = ROOT / "scripts" / "harmony_vocabulary.py"


@pytest.mark.parametrize("named", [False, True], ids=["", "the folder is named already"])
def test_the_file_is_the_one_that_harmony_looks_for(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "folder"
    if named:
        monkeypatch.setenv("TIKTOKEN_ENCODINGS_BASE", str(folder))
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, check=True
    )
    file = folder / "o200k_base.tiktoken"
    assert done.stdout == f"{file}\n"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest == "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
    assert [path.name for path in folder.iterdir()] == [file.name]


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"Cannot write to {tmp_path}/file (File exists): give another.\n"
