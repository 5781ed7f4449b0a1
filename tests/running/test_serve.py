"""The command that serves a model with a recipe, and the GPUs that are asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.nodes import B200, H100, H200, node
from kflow.engines.vllm_engine import recipes
from kflow.families import gpt_oss, qwen
from kflow.families.family import Family
from kflow.ground import hardware
from kflow.ground.hardware import Gpu
from kflow.running import serve
from kflow.running.checks import PUBLISHED_WEIGHTS

OSS, QWEN = (PUBLISHED_WEIGHTS[family.model] for family in (gpt_oss.FAMILY, qwen.FAMILY))


@pytest.fixture(autouse=True)
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "gpu_count", lambda: 8)


@pytest.mark.parametrize(
    ("weights", "gpu", "gpus", "expected"),
    [
        (OSS, H100, 8, 2),
        (OSS, H200, 8, 1),
        (OSS, H100, 3, 3),
        (QWEN, B200, 8, 8),
        (OSS, None, 8, 8),
    ],
)
def test_copies_are_as_small_as_they_can_be(
    weights: int, gpu: Gpu | None, gpus: int, expected: int
) -> None:
    assert serve.smallest_copy(weights, (gpu,) if gpu else (), gpus) == expected


@pytest.mark.parametrize(
    ("family", "own", "sizes"),
    [
        (gpt_oss.FAMILY, {}, (2, 4)),
        (qwen.FAMILY, {}, (8, None)),
        # The copies that are asked for are the user's own.
        (gpt_oss.FAMILY, {"tensor_parallel_size": 4}, (4, None)),
    ],
)
def test_throughput_is_copies_side_by_side(
    family: Family, own: dict[str, object], sizes: tuple[int, int | None]
) -> None:
    recipe = serve.server_recipe(family, "throughput", own, node("0.32.0", H100), {})
    kinds = ("tensor_parallel_size", "data_parallel_size")
    assert tuple(recipe.arguments.get(kind) for kind in kinds) == sizes


@pytest.mark.parametrize(("version", "on"), [("0.10.2", False), ("0.11.2", True)])
def test_a_server_has_async_scheduling_where_it_loses_no_replies(version: str, on: bool) -> None:
    own: dict[str, object] = {"max_num_seqs": 60}
    recipe = serve.server_recipe(gpt_oss.FAMILY, "published", own, node(version), {})
    assert recipe.arguments["async_scheduling"] is on
    assert recipe.arguments["max_num_seqs"] == 60


def test_flags_of_vllm_serve_are_known_to_the_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By every name that they have; the rest goes to `vllm serve` as it is."""
    monkeypatch.setattr(recipes, "node", lambda: node("0.32.0", H100))
    flags = ["-tp", "2", "--max_num_seqs", "7", "--max-model-len=9", "-dpb", "ray", "--port", "1"]
    with pytest.raises(SystemExit) as ended:
        serve.main(["gpt_oss", "--dry_run", *flags])
    assert ended.value.code == 0
    (command,) = capsys.readouterr().err.splitlines()
    assert command.endswith(" -dpb ray --port 1")
    for words in ("--tensor-parallel-size 2 ", "--max-num-seqs 7 ", "--max-model-len 9 "):
        assert command.count(words) == 1
    assert '"fi_allreduce_fusion_max_size_mb": 32' in command
    with pytest.raises(SystemExit) as ended:
        serve.main(["gpt_oss", "--gpu-memory-utilization", "90"])
    assert ended.value.code == 2


def test_arguments_as_flags() -> None:
    arguments = {
        "async_scheduling": True,
        "enable_prefix_caching": False,
        "cuda_graph_sizes": [8, 16],
        "compilation_config": {"a": True},
        "max_num_seqs": 30,
    }
    assert serve.flags(arguments) == [
        "--async-scheduling", "--no-enable-prefix-caching", "--cuda-graph-sizes", "8", "16",
        "--compilation-config", '{"a": true}', "--max-num-seqs", "30",
    ]  # fmt: skip


SMI = """#!/bin/sh
echo "$@" >"$0.argv"
echo "NVIDIA H100 80GB HBM3, 81559, 9.0"
echo "NVIDIA B200, with a comma, 183359, 10.0"
exit %d
"""


@pytest.mark.parametrize(("code", "number"), [(0, 2), (9, 0)])
def test_the_driver_is_asked_for_the_gpus(
    code: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text(SMI % code)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    expected = (
        Gpu("NVIDIA H100 80GB HBM3", 81559 * 2**20, (9, 0)),
        Gpu("NVIDIA B200, with a comma", 183359 * 2**20, (10, 0)),
    )
    assert hardware.gpus() == expected[:number]
    arguments = Path(f"{command}.argv").read_text()
    assert arguments == "--query-gpu=name,memory.total,compute_cap --format=csv,noheader,nounits\n"


def test_without_a_driver_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert hardware.gpus() == ()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho unreadable\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert hardware.gpus() == ()
