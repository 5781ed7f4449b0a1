"""README and docs: commands run or parse, scripts, flags, links, fields and tables are real."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import json
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest

import kflow
from fakes import ScriptedChat, ScriptedEngine
from kflow import experiment, study
from kflow.analysis import compare
from kflow.analysis.export import export
from kflow.analysis.page import report
from kflow.analysis.statistics import holm, mcnemar
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.ground.version import VERSION
from kflow.problems import known_datasets
from kflow.results.rollout import Rollout, Summary
from scripted import ALL, ROOT, takes_all

# The specification is not among them: the code is held to it, not it to the code.
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "method.md"),
)
README = PAGES[0].read_text()
DATA_SETS = (ROOT / "docs" / "problems.md").read_text()
ARMS = ("vllm_parallel", "vllm", "vllm_refine")
EXAMPLES = [f"{arm}_{name}" for arm in ARMS for name in ("512_example", "1024_coder")]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
PROMPT = re.compile(r"^node\d\$ ")
# Of programs that are not this project's: not looked into.
OTHERS = {
    "ray",
    "until",
    "urls=();",
    "apt-get",
    "git",
    "source",
    "python3.12",
    "ssh",
    "sbatch",
    "watch",
    "export",
    "MODEL=$(.venv/bin/python scripts/prepare_smollm2.py)",
}
# Words of a usage line.
OPTIONAL = {"[RUN", "...]", "[--baseline", "RUN]"}
# Flags that the texts name of other programs.
FOREIGN = {
    "--no-deps",
    "--host",
    "--strict",
    "--signal",
    "--requeue",
    "--no-enable-chunked-prefill",
}
FOLDERS = ("", "scripts", "scripts/kflow", "bash_scripts", "docs", "docs/examples")
FLAGGED = (*ALL, "study_oss", "vllm_agreement")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text()) if kind == language]


def words(command: str) -> tuple[str, ...]:
    command = PROMPT.sub("", command).replace(".venv/bin/python tests", "python tests")
    command = command.replace('"${urls[@]}"', "--base_url http://node1:8000/v1")
    return tuple(shlex.split(command, comments=True))


COMMANDS = [
    pytest.param(command, id=" ".join(command)[:70])
    for page in (*PAGES, ROOT / "tests" / "benchmarks" / "README.md")
    for block in blocks(page, "bash")
    for line in block.replace("\\\n", "").splitlines()
    if (command := words(line))
]


READERS = {
    "compare_results": compare.main,
    "report": report.main,
    "export_results": export.main,
}


def main_of(script: str) -> Callable[[list[str]], None]:
    """What scripts/<script>.py does with a command line."""
    module = importlib.import_module(script)
    if hasattr(module, "STUDY"):
        return lambda argv: study.main(module.STUDY, argv)
    if hasattr(module, "EXPERIMENT"):
        return lambda argv: experiment.main(module.EXPERIMENT, argv)
    other = READERS[script]
    return lambda argv: other(module.__doc__, argv)


def ends(script: str, argv: list[str]) -> tuple[object, str]:
    """The exit code and what is printed on stdout."""
    out, code = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            main_of(script)(argv)
        except SystemExit as exit:
            code = exit.code
    return code or 0, out.getvalue()


@cache
def flags_of(script: str) -> frozenset[str]:
    code, help_text = ends(script, ["--help"])
    assert code == 0
    return frozenset(re.findall(r"(?<![\w-])--?\w+", help_text))


def flags_in(argv: Sequence[str]) -> set[str]:
    """The flags of a command line, without their values."""
    return {word.partition("=")[0] for word in argv if re.match(r"--?[a-zA-Z]", word)}


def parses(script: str, argv: list[str]) -> None:
    """Ends the test where a script would refuse its command line."""
    module = importlib.import_module(script)
    if hasattr(module, "STUDY"):
        study.parsed(module.STUDY, argv)
    elif hasattr(module, "EXPERIMENT"):
        experiment.parsed(module.EXPERIMENT, argv)
    elif script == "compare_results":
        compare.parse(None, argv)
    else:
        assert flags_in(argv) <= flags_of(script)


def runs_of(bash_script: Path) -> set[str]:
    """The python scripts that a bash script passes its flags on to."""
    text = bash_script.read_text()
    named = re.findall(r"\b((?:vllm|study)_\w+)\.py", re.sub(r"^#.*$", "", text, flags=re.M))
    return set(named)


def served(flag: str) -> bool:
    """Whether `vllm serve` has a flag, by its source."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    sources = [package / "engine" / "arg_utils.py", *package.glob("entrypoints/**/cli_args.py")]
    texts = "".join(path.read_text() for path in sources)
    return re.search(rf"\b{flag[2:].replace('-', '_')}: ", texts) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_scripts_and_flags_that_there_are(command: tuple[str, ...]) -> None:
    program, *rest = command
    if program == "bash":
        script, argv = ROOT / rest[0], rest[1:]
        assert script.is_file()
        if script.stem.startswith("serve_"):
            assert all(map(served, flags_in(argv) - {"--recipe"}))
        elif script.stem not in ("test", "quickstart"):
            assert runs_of(script)
            for name in runs_of(script):
                parses(name, argv)
    elif program == "python":
        script = ROOT / rest[0]
        assert script.is_file()
        if script.parent.name in ("scripts", "examples"):
            parses(script.stem, [word for word in rest[1:] if word not in OPTIONAL])
        else:
            text = script.read_text()
            for shared in re.findall(r"^from (\w+) import .*\bparser\b", text, re.M):
                text += (script.parent / f"{shared}.py").read_text()
            assert all(f'"{flag}"' in text for flag in flags_in(rest[1:]))
    elif program == "pip":
        assert (ROOT / rest[-1]).is_file()
    else:
        assert program in OTHERS


RUN = [
    command
    for command in COMMANDS
    for program, *rest in command.values
    if program == "python"
    and (Path(rest[0]).stem in READERS or "--dry_run" in rest)
    and not {"RUN", "--watch"} & {*rest}
    and "[RUN" not in rest
]


def test_there_are_commands_to_run() -> None:
    assert len(RUN) >= 5


@pytest.mark.parametrize("command", RUN)
@pytest.mark.usefixtures("offline")
def test_a_command_runs_as_written(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in EXAMPLES:
        shutil.copytree(ROOT / "results" / name, tmp_path / "results" / name)
    for arm in ARMS:  # as if gpt-oss had been run beside the examples
        run = f"{arm}_512_example"
        shutil.copytree(ROOT / "results" / run, tmp_path / "results" / f"{arm}_131072_")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine_arguments, "build", takes_all)
    _, script, *argv = command
    code, out = ends(Path(script).stem, list(argv))
    assert code == 0
    assert out
    if "-o" in argv:
        assert (tmp_path / argv[argv.index("-o") + 1]).is_file()


def test_what_came_out_is_what_the_results_say() -> None:
    folders = [str(ROOT / "results" / f"{arm}_1024_coder") for arm in ARMS]
    code, out = ends("compare_results", [*folders, "--json"])
    assert code == 0
    compared = json.loads(out)

    def percent(share: float, accuracy: dict[str, float] | None = None) -> str:
        ends = (
            ""
            if accuracy is None
            else " [{:.0f}, {:.0f}]".format(*(100 * accuracy[end] for end in ("low", "high")))
        )
        return f"{100 * share:.0f} %{ends}"

    for run in compared["runs"]:
        first, last = run["by_step"][0], run["by_step"][-1]
        (row,) = re.findall(rf"^\| \[[^|]*\(results/{run['name']}/.*$", README, re.MULTILINE)
        shown = [percent(first["own"]["accuracy"])]
        for name in ("own", "rolling_majority"):
            shown.append(percent(last[name]["accuracy"], last[name]))
        assert row.endswith(" | ".join(["", *shown, f"{last['tokens']:,.0f} |"]))
    against, at_tokens = (e for e in compared["against"] if e["run"] == "vllm_1024_coder")
    own, majority = against["differences"]
    assert f"{-100 * own['difference']:.0f} points below the majority" in README
    ends_at, low = (round(-100 * own[end]) for end in ("low", "high"))
    assert f"(interval {low} to {ends_at}, p = {own['p']:.3f}, {own['p_holm']:.3f} adj" in README
    assert f"{-100 * majority['difference']:.0f} points apart" in README
    own = at_tokens["differences"][0]
    words = f"as many tokens {-100 * own['difference']:.0f} points (p = {own['p']:.3f}, "
    assert f"{words}{own['p_holm']:.3f} adjusted)" in README
    assert majority["verdict"].startswith("too few to tell")
    paths = (ROOT / "results" / "vllm_1024_coder").rglob("predictions_*.json")
    summaries = [json.loads(path.read_bytes())[0] for path in paths]
    assert sum(s.get("failed", 0) for s in summaries) == 3
    assert sum(s["total"] for s in summaries) == 192
    assert "Three of its 192 rollouts ended in an empty reply" in README
    # Seven to none; of six to none:
    p, both = mcnemar(6, 0), holm([mcnemar(6, 0), 0.5])[0]
    assert f"without that one p would be {p:.3f}, and {both:.3f} adjusted" in README


def test_the_python_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "path/to/a/model").mkdir(parents=True)
    (tmp_path / "path/to/a/model/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    run, chat = kflow.run, ScriptedChat()

    def scripted(each: kflow.Experiment, settings: kflow.Settings) -> Path:
        family = replace(each.family, chat=lambda *_, **__: chat)
        return run(replace(each, family=family), settings, ScriptedEngine().start)

    monkeypatch.setattr(kflow, "run", scripted)
    names: dict[str, object] = {}
    exec("\n".join(blocks(ROOT / "docs" / "from_python.md", "python")), names)
    assert (Path(str(names["folder"])) / "predictions_3.json").is_file()
    stdout = capsys.readouterr().out
    assert re.search(r"^mine_4096_ \(0,\) \(0, 1, 2, 3\) 4096\n\(\)\n\d+ of 24$", stdout, re.M)
    assert "sampling.temperature: 0.6 -> 1.0" in stdout
    assert (len(names["frame"]), len(names["both"])) == (96, 96)  # type: ignore[arg-type]


def test_the_page_on_methods_shows_what_runs() -> None:
    def lines(text: str) -> str:
        """Without blank lines and indentation, which a formatter changes in a page."""
        return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())

    code = "".join(lines(path.read_text()) for path in (ROOT / "docs" / "examples").rglob("*.py"))
    examples = blocks(ROOT / "docs" / "extending.md", "python")
    assert len(examples) == 7
    assert [block for block in examples if lines(block) not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_flags_and_files_in_the_text_are_real(page: Path) -> None:
    real = set().union(*map(flags_of, {*FLAGGED, *READERS})) | FOREIGN
    text = BLOCK.sub("", page.read_text())
    spans = CODE.findall(text)
    flags = {flag for span in spans for flag in re.findall(r"(?<![\w-])--\w[\w-]*", span)}
    kebab = {flag for flag in flags if "-" in flag[2:]} - FOREIGN
    assert all(map(served, kebab))
    assert flags - kebab <= real
    for span in spans:
        if re.fullmatch(r"[\w./*]+\.(py|sh|md)", span):
            assert any(list((ROOT / folder).glob(span)) for folder in FOLDERS), span


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def test_the_tables_of_experiments() -> None:
    table: dict[str, str] = {}
    for cells in rows(README):
        for python, bash in re.findall(r"`(vllm_\w+)\.py`, `(\w+\.sh)`", cells[0]):
            table[python] = CODE.findall(cells[-1])[0]
            assert runs_of(ROOT / "bash_scripts" / bash) == {python}
    assert table == {name: importlib.import_module(name).EXPERIMENT.prefix for name in ALL}


def test_the_table_of_data_sets() -> None:
    table = {}
    for names, place, answers in (cells for cells in rows(DATA_SETS) if len(cells) == 3):
        named = [name for name in CODE.findall(names) if "/" in name]
        numbers = re.findall(r"\b\d+", place) if "about" not in place else []
        for number, name in enumerate(named):
            rows_of = int(numbers[min(number, len(numbers) - 1)]) if numbers else None
            table[name] = (place.split()[0].rstrip(","), rows_of, answers)
    datasets = known_datasets.KNOWN.values()
    assert table == {each.name: (each.split, each.rows, each.answers.name) for each in datasets}


def test_every_field_of_a_record_is_described() -> None:
    parts = (ROOT / "docs" / "results.md").read_text().split("\n### ")
    for part, kind in ((parts[1], Summary), (parts[2], Rollout)):
        named = [name for cells in rows(part) for name in CODE.findall(cells[0])]
        assert sorted(named) == sorted(each.name for each in fields(kind))


def test_the_version_is_one(tmp_path: Path) -> None:
    for script in (*ALL, "study_oss", "study_qwen", *READERS):
        assert ends(script, ["--version"]) == (0, f"knowledge-flow {VERSION}\n")
    assert re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[1] == VERSION  # type: ignore[index]
