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
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import pytest

import kflow
from helpers.fakes import ScriptedChat, ScriptedEngine
from helpers.scripted import ALL, ROOT, takes_all
from kflow import experiment, study
from kflow.analysis import compare
from kflow.analysis.export import export
from kflow.analysis.page import report
from kflow.engines.vllm_engine import arguments as engine_arguments
from kflow.ground.version import VERSION
from kflow.problems import known_datasets
from kflow.problems.generated import is_generated
from kflow.results.rollout import Rollout, Summary

DOCS = ROOT / "docs"
# The specification is not among them: the code is held to it, not it to the code.
PAGES = (ROOT / "README.md", *(page for page in DOCS.glob("*.md") if page.name != "method.md"))
README = (ROOT / "README.md").read_text()
HOW, PROBLEMS, EXTENDING, RESULTS = (
    (DOCS / f"{name}.md").read_text()
    for name in ("how_it_works", "problems", "extending", "results_and_comparing")
)
STUDY = (
    "vllm_parallel", "vllm", "vllm_refine", "vllm_regen", "vllm_posK", "vllm_markov",
    "vllm_markov_tail", "vllm_rse", "vllm_trt", "vllm_pacore",
)  # fmt: skip
ARMS = ("vllm_parallel", "vllm", "vllm_refine")
READERS = {"compare_results": compare, "report": report, "export_results": export}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
# Programs that are not this project's, and flags that the texts name of them: not looked into.
OTHERS = {
    "apt-get", "diff", "export", "git", "jq", "python3.12", "ray", "sbatch", "source", "ssh",
    "until",
}  # fmt: skip
FOREIGN = {
    "--no-deps", "--published", "--host", "--strict", "--signal", "--requeue",
    "--no-enable-chunked-prefill", "--headless", "--nnodes", "--kv-unified", "--context-shift",
}  # fmt: skip
FOLDERS = (".", "scripts", "scripts/kflow", "bash_scripts", "docs", "docs/examples", "tests/**")


def blocks(text: str, language: str) -> list[str]:
    return [block for kind, block in BLOCK.findall(text) if kind == language]


COMMANDS = [
    pytest.param(command, id=" ".join(command)[:70])
    for page in PAGES
    for block in blocks(page.read_text(), "bash")
    for line in block.replace("\\\n", "").splitlines()
    if (command := tuple(shlex.split(re.sub(r"^node\d\$ |\.venv/bin/", "", line), comments=True)))
]


def ends(script: str, argv: list[str]) -> tuple[object, str]:
    """The exit code of scripts/<script>.py, and what it prints on stdout."""
    module = importlib.import_module(script)
    out, code = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        try:
            if hasattr(module, "STUDY"):
                study.main(module.STUDY, argv)
            elif hasattr(module, "EXPERIMENT"):
                experiment.main(module.EXPERIMENT, argv)
            else:
                READERS[script].main(module.__doc__, argv)
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


def parse(script: str, argv: list[str]) -> None:
    """Ends the test where a script would refuse its command line."""
    module = importlib.import_module(script)
    if hasattr(module, "STUDY"):
        study.parse_flags(module.STUDY, argv)
    elif hasattr(module, "EXPERIMENT"):
        experiment.parse_flags(module.EXPERIMENT, argv)
    elif "RUN" in argv:  # a line of usage
        assert flags_in(word.strip("[]") for word in argv) <= flags_of(script)
    elif script == "compare_results":
        compare.parse(None, argv)
    else:
        assert flags_in(argv) <= flags_of(script)


def run_by(bash_script: str) -> str:
    """The python script that a bash script passes its flags on to."""
    text = (ROOT / "bash_scripts" / bash_script).read_text()
    (name,) = set(re.findall(r"^[^#]*\b(vllm_\w+)\.py", text, re.MULTILINE))
    return str(name)


@cache
def flags_of_a_server() -> str:
    """The sources of what `vllm serve` takes."""
    spec = importlib.util.find_spec("vllm")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    sources = [package / "engine" / "arg_utils.py", *package.glob("entrypoints/**/cli_args.py")]
    return "".join(path.read_text() for path in sources)


def served(flag: str) -> bool:
    return re.search(rf"\b{flag[2:].replace('-', '_')}: ", flags_of_a_server()) is not None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_names_scripts_and_flags_that_there_are(command: tuple[str, ...]) -> None:
    program, *rest = command
    if rest[:1] == ["-m"]:
        assert importlib.util.find_spec(rest[1])
    elif program in ("bash", "python"):
        script, argv = ROOT / rest[0], rest[1:]
        assert script.is_file()
        if script.stem.startswith("serve_"):
            assert all(map(served, flags_in(argv) - {"--recipe"}))
        elif script.stem == "study":
            parse({"gpt_oss": "study_oss", "qwen3": "study_qwen"}[argv[0]], argv[1:])
        elif script.parent.name == "benchmarks" or script.stem == "published_prompts":
            assert all(f'"{flag}"' in script.read_text() for flag in flags_in(argv))
        elif script.stem not in ("test", "quickstart", "prepare_smollm2", "reproduce_study"):
            parse(run_by(script.name) if program == "bash" else script.stem, argv)
    elif program == "pip":
        assert (ROOT / rest[-1]).is_file()
    else:
        assert program in OTHERS or program.startswith("kept=")


RUN = [
    command
    for command in COMMANDS
    for program, *rest in command.values
    if program == "python"
    and (Path(rest[0]).stem in READERS or "--dry_run" in rest)
    and not {"RUN", "--watch"} & {*rest}
]
assert len(RUN) >= 5


@pytest.mark.parametrize("command", RUN)
@pytest.mark.usefixtures("offline")
def test_a_command_runs_as_written(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "results", tmp_path / "results")
    for arm in ARMS:  # as if gpt-oss had been run beside the examples
        run = ROOT / "results" / f"{arm}_512_example"
        shutil.copytree(run, tmp_path / "results" / f"{arm}_131072_")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(engine_arguments, "build", takes_all)
    monkeypatch.setenv("OPENAI_API_KEY", "as-the-text-has-it-set")
    _, script, *argv = command
    code, out = ends(Path(script).stem, list(argv))
    assert code == 0
    assert out
    if "-o" in argv:
        assert (tmp_path / argv[argv.index("-o") + 1]).exists()


def test_the_table_of_what_came_out() -> None:
    folders = [str(ROOT / "results" / f"{arm}_2048_study") for arm in STUDY[:-2]]
    code, out = ends("compare_results", [*folders, "--json"])
    assert code == 0
    for run in json.loads(out)["runs"]:
        first, last = run["by_step"][0], run["by_step"][-1]
        (row,) = re.findall(rf"^\| \[[^|]*\(results/{run['name']}/.*$", README, re.MULTILINE)
        cells = [f"{100 * first['own']['accuracy']:.0f} %"]
        for share in (last["own"], last["rolling_majority"]):
            shown = [round(100 * share[name]) for name in ("accuracy", "low", "high")]
            cells.append("{} % [{}, {}]".format(*shown))
        assert row.endswith(" | ".join(["", *cells, f"{last['tokens']:,.0f} |"]))


@pytest.mark.parametrize("arms", [STUDY, ("vllm_parallel", "vllm_rsa")])
def test_the_tables_of_the_page_on_what_came_out(arms: Sequence[str]) -> None:
    page = (DOCS / "what_came_out.md").read_text().replace("**", "")
    folders = [str(ROOT / "results" / f"{arm}_2048_study") for arm in arms]
    code, out = ends("compare_results", [*folders, "--json"])
    assert code == 0
    found = json.loads(out)

    def spell(share: float, difference: dict[str, float]) -> str:
        points = [100 * difference[name] for name in ("difference", "low", "high")]
        return "{:.0f} %, {:+.1f} [{:+.1f}, {:+.1f}]".format(100 * share, *points)

    for carried in found["carried"]:
        cells = []
        for place in ("repaired", "kept", "net"):
            rates = carried[place]
            points = spell(rates["share"], rates).partition(", ")[2]
            cells.append(f"{100 * rates['share']:.1f} % of {rates['answers']}")
            cells.append(f"{100 * rates['alone']:.1f} %, {points}")
        assert f"| {' | '.join(cells)} |" in page
    for run in {against["run"] for against in found["against"]}:
        cells = [
            spell(difference["run"], difference)
            for against in found["against"]
            if against["run"] == run
            for difference in against["differences"]
        ]
        assert f"| {' | '.join(cells)} |" in page


def test_what_came_out_has_the_shares_that_its_python_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    page = (DOCS / "what_came_out.md").read_text()
    (block,) = blocks(page, "python")
    exec(block, {})
    prose = page.replace(block, "")
    printed = capsys.readouterr().out
    shares = re.findall(r" ([1-9]\d*)\b", printed)
    assert len(shares) == 56
    assert [share for share in shares if f"{share} %" not in prose] == []
    table = re.findall(r"^\| [^|]+((?:\| \d+ % ){4})\|$", page, re.MULTILINE)
    own = [line.split()[1:5] for line in printed.splitlines()[: len(table)]]
    assert table == ["".join(f"| {share} % " for share in row) for row in own]
    assert len(table) == 9


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
    exec("\n".join(blocks(EXTENDING.partition("## From Python")[2], "python")), names)
    assert (Path(str(names["folder"])) / "predictions_3.json").is_file()
    assert re.search(r"^mine_4096_ \(0,\) \(0, 1, 2, 3\) 4096$", capsys.readouterr().out, re.M)
    assert (len(names["frame"]), len(names["both"])) == (96, 96)  # type: ignore[arg-type]


def test_predictions_are_read_as_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = ROOT.glob("results/vllm_512_example/*")
    (tmp_path / "A").symlink_to(run)
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(RESULTS.partition("### With jq and pandas")[2], "python")
    exec(block, {})
    wrong = [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]]
    records = kflow.read(run).rollouts[0, 3]
    names = kflow.read(run).problems
    assert wrong == [names[n] for n, each in enumerate(records) if not each.correct]


def test_the_page_on_methods_shows_what_runs() -> None:
    def packed(text: str) -> str:
        """Without white space, which a formatter changes in a page."""
        return "".join(text.split())

    code = "".join(packed(path.read_text()) for path in (DOCS / "examples").rglob("*.py"))
    examples = blocks(EXTENDING.partition("## From Python")[0], "python")
    assert len(examples) >= 7
    assert [block for block in examples if packed(block) not in code] == []


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
    real = set().union(*map(flags_of, (*ALL, "study_oss", "vllm_agreement", *READERS))) | FOREIGN
    spans = CODE.findall(BLOCK.sub("", page.read_text()))
    for flag in {flag for span in spans for flag in re.findall(r"(?<![\w-])--\w[\w-]*", span)}:
        assert flag in real or ("-" in flag[2:] and served(flag)), flag
    for span in spans:
        if re.fullmatch(r"[\w./*]+\.(py|sh|md)", span):
            assert any(any(ROOT.glob(f"{folder}/{span}")) for folder in FOLDERS), span


def rows(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| `")
    ]


def test_the_tables_of_experiments() -> None:
    table: dict[str, str] = {}
    for cells in rows(HOW):
        for python, bash in re.findall(r"`(vllm_\w+)\.py`(?:, `(\w+\.sh)`)?", cells[0]):
            table[python] = CODE.findall(cells[-1])[0]
            assert not bash or run_by(bash) == python
    assert table == {name: importlib.import_module(name).EXPERIMENT.prefix for name in ALL}


def test_the_table_of_data_sets() -> None:
    table = {}
    for names, place, answers in (cells for cells in rows(PROBLEMS) if len(cells) == 3):
        named = [name for name in CODE.findall(names) if "/" in name and not is_generated(name)]
        numbers = re.findall(r"\b\d+", place) if "about" not in place else []
        for number, name in enumerate(named):
            rows_of = int(numbers[min(number, len(numbers) - 1)]) if numbers else None
            table[name] = (place.split()[0].rstrip(","), rows_of, answers)
    datasets = known_datasets.KNOWN.values()
    assert table == {each.name: (each.split, each.rows, each.answers.name) for each in datasets}


@pytest.mark.parametrize(("title", "kind"), [("The summary", Summary), ("A record", Rollout)])
def test_every_field_of_a_record_is_described(title: str, kind: type) -> None:
    part = RESULTS.partition(f"\n#### {title}\n")[2].partition("\n#")[0]
    named = [name for cells in rows(part) for name in CODE.findall(cells[0])]
    assert sorted(named) == sorted(each.name for each in fields(kind))


def test_the_version_is_one() -> None:
    for script in (*ALL, "study_oss", "study_qwen", *READERS):
        assert ends(script, ["--version"]) == (0, f"knowledge-flow {VERSION}\n")
    assert f"\n## {VERSION}\n" in (ROOT / "CHANGELOG.md").read_text()
