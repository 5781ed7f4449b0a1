"""The authors' prompt texts read from their code: with a stand-in, whose texts are our own."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import published_prompts
from helpers import driver
from helpers.fakes import ScriptedEngine, obliging
from helpers.scripted import ROOT, run_script
from kflow.analysis import compare
from kflow.analysis.page.page import write
from kflow.loop.prompts import ABOUT_ANSWERS, load
from kflow.methods.markovian import Tail
from kflow.methods.mistakes import State
from kflow.methods.notes import Notes
from kflow.results import recorded as wording
from kflow.results.runs import read_all
from kflow.types import Entry

INIT = "\n\nFIRST of NAME.\n\nBox \\boxed{<whole number>}.\n"
CMD = "\n\nLATER of NAME.\n{knowledge_text}\n\n# So far\n{reference_solution}\n\n\n"
CLOSE = "Hard. NAME may err."
NUMBERED = '"# Tried\\n" + "\\n".join([f"*No {i+1}*: {LIST[i]}" for i in range(len(LIST))])'

WITH_KNOWLEDGE = f"""
def main():
    init_prompt = {INIT!r}
    cmd_prompt = {CMD!r}
    eps_text = {CLOSE!r}
    for number, example in enumerate(data):
        question = example["problem"]
        if step == 0:
            tmp_conv = [SYSTEM{{"role": "user", "content": question + init_prompt}}]
            prompt = tokenizer.apply_chat_template(tmp_conv)
        else:
            if not knowledges[number]:
                knowledge_text = EMPTY
            else:
                knowledge_text = ENTRIES
            summary_text = "none"
            if summaries[number]:
                summary_text = "NAME tried:\\n{{}}".format(summaries[number][-1])
            tmp_conv = [SYSTEM{{"role": "user", "content": question + cmd_prompt.replace(
                "{{knowledge_text}}", knowledge_text
            ).replace("{{reference_solution}}", summary_text)}}]
            prompt = tokenizer.apply_chat_template(tmp_conv)PREFILL
"""
MARKOVIAN = """
def main():
    wait_text = "NAME: go on."
    for number, example in enumerate(data):
        question = example["problem"]
        if step == 0:
            made = [SYSTEM{"role": "user", "content": f"{question}"}]
        else:
            made[-1]["content"] += f"\\n{wait_text}"
        prompt = tokenizer.apply_chat_template(made)
"""
ONE_TEXT = '"# Shun\\n" + knowledges[number][-1]'


def stand_in(name: str) -> str:
    """A script with what is read of the published one, and nothing else of it."""
    text = MARKOVIAN if "markovian" in name else WITH_KNOWLEDGE
    kept, empty = ("knowledges[number]", '"# Tried\\nNil."')
    if "positive" not in name:
        kept, empty = ("unique_knowledges", '"\\n\\n# Tried\\n-"')
    entries = NUMBERED.replace("LIST", kept)
    if "Regen" in name:
        text = text.replace("                knowledge_text = EMPTY", "                pass")
        entries = ONE_TEXT
    parts = {
        "SYSTEM": '{"role": "system", "content": "PLACEHOLDER"}, ' if "oss" in name else "",
        "EMPTY": empty,
        "ENTRIES": entries,
        "PREFILL": " + eps_text" if "qwen" in name and "positive" not in name else "",
        "NAME": name,
    }
    for part, value in parts.items():
        text = text.replace(part, value)
    return text


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A stand-in for a checkout of the authors' repository."""
    scripts = tmp_path / "theirs" / "AIME" / "scripts"
    scripts.mkdir(parents=True)
    for name in published_prompts.SCRIPTS:
        (scripts / f"{name}.py").write_text(stand_in(name), encoding="utf-8")
    return tmp_path / "theirs"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    script = str(ROOT / "scripts" / "published_prompts.py")
    words = [sys.executable, script, *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


ENTRIES = (Entry("one\n\nof two lines", 1), Entry("two [[N]] {reference_solution}", 2))


def rendered(name: str, folder: Path, state: Any) -> tuple[str, str]:
    """The last message's text and the prefill."""
    experiment = importlib.import_module(name).EXPERIMENT
    context = driver.context(experiment.method, folder=folder, prefix=experiment.prefix)
    prompt = driver.render(experiment.method, context, state)
    return prompt.messages[-1].content, prompt.prefill


def later(name: str, knowledge: str, reference: str = "so 4.") -> str:
    shown = f"# So far\n{name} tried:\n{reference}\n\n\n"
    return f"Why? \n\n\nLATER of {name}.\n{knowledge}\n\n{shown}"


def test_what_is_sent_is_what_their_code_sends(theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "published"
    done = command(theirs, "-o", out, "--changed")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(".py: changed (sha256 ") == len(published_prompts.SCRIPTS)
    question = "Why? \n"
    for name in published_prompts.SCRIPTS:
        close = f"Hard. {name} may err." if "qwen" in name and "positive" not in name else ""
        if "markovian" in name:
            assert rendered(name, out, Tail(question)) == (question, "")
            expected = f"So it is.\n{name}: go on."
            assert rendered(name, out, Tail(question, "So it is.")) == (expected, "")
            continue
        start: type[Notes] = Notes
        lists = ["# Tried\nNil.", "# Tried\n*No 1*: {}\n*No 2*: {}".format(*texts(ENTRIES))]
        if "Regen" in name:
            lists = ["# Shun\n", f"# Shun\n{ENTRIES[0].text}"]
        elif "positive" not in name:
            start, newest_first = State, texts(ENTRIES[::-1])
            lists = ["\n\n# Tried\n-", "# Tried\n*No 1*: {}\n*No 2*: {}".format(*newest_first)]
        first = f"{question}\n\nFIRST of {name}.\n\nBox \\boxed{{<whole number>}}.\n"
        assert rendered(name, out, start(question)) == (first, "")
        entries = ENTRIES[:1] if "Regen" in name else ENTRIES
        state = start(question, entries, "so 4.")
        assert rendered(name, out, state) == (later(name, lists[1]), close)
        if name == "vllm_kflow_qwen_positiveKnowledge":
            lists[0] = ""
            assert rendered(name, out, start(question, (), "so 4.")) == (first, "")
        else:
            state = start(question, (), "so 4.")
            assert rendered(name, out, state) == (later(name, lists[0]), close)


def texts(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.text for entry in entries]


@pytest.mark.parametrize("place", [".", "AIME", "AIME/scripts"])
def test_what_scripts_share_stands_once_and_what_differs_by_script(
    theirs: Path, tmp_path: Path, place: str
) -> None:
    scripts, out = theirs / "AIME" / "scripts", tmp_path / "published"
    text = (scripts / "vllm_kflow_qwen.py").read_text(encoding="utf-8")
    (scripts / "vllm_kflow_qwen24.py").write_text(text.replace("Hard.", "Harder."))
    done = command(theirs / place, "-o", out, "--changed")
    assert (done.returncode, done.stderr) == (0, "")
    assert (out / "vllm24" / "qwen_opening.txt").read_text().startswith("Harder.")
    assert (out / "qwen_opening.txt").read_text().startswith("Hard.")
    assert not (out / "vllm24" / "qwen_mistakes_first.txt").exists()
    assert (out / "qwen24_mistakes_later.txt").exists()


def refused(done: subprocess.CompletedProcess[str], tmp_path: Path, *words: str) -> None:
    """One sentence with these words, and nothing written."""
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


def test_texts_that_are_not_the_known_ones_are_refused(theirs: Path, tmp_path: Path) -> None:
    known = wording.PUBLISHED["vllm_kflow_oss"][:12]
    done = command(theirs, "-o", tmp_path / "published")
    refused(done, tmp_path, "vllm_kflow_oss.py has changed: the sha256", known, "--changed")


@pytest.fixture
def known(theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the texts of the stand-in, as if it were the published code."""
    out = tmp_path / "texts"
    published_prompts.write(theirs, out, changed=True)
    prints = {}
    for name in published_prompts.SCRIPTS:
        experiment = importlib.import_module(name).EXPERIMENT
        texts = load(out, experiment.method.prompts, experiment.prefix, ABOUT_ANSWERS)
        prints[name] = wording.hash_prompts({each: text.sha256 for each, text in texts.items()})
    for module in (wording, published_prompts):
        monkeypatch.setattr(module, "PUBLISHED", prints)
    return out


def test_known_texts_are_written_without_a_flag(
    theirs: Path, known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    published_prompts.write(theirs, again, changed=False)
    assert capsys.readouterr().out.count(": published (sha256 ") == len(published_prompts.SCRIPTS)
    files = [{path.relative_to(out) for path in out.rglob("*.txt")} for out in (known, again)]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", published_prompts.SCRIPTS[2::3])
def test_a_run_says_whose_prompts_it_has(known: Path, tmp_path: Path, name: str) -> None:
    flags = ["--prompt_dir", str(known), "--reflex_size", "1"]
    dry = run_script(name, [*flags, "--dry_run"], tmp_path)
    assert "\nprompts: published (sha256 " in dry.out
    ran = run_script(name, flags, tmp_path, ScriptedEngine(obliging))
    assert ran.run()["wording"].startswith("published (sha256 ")
    own = run_script(name, ["--dry_run"], tmp_path)
    assert "\nprompts: own wording\n" in own.out


def whose(folder: Path, tmp_path: Path) -> str:
    flags = ["--prompt_dir", str(folder), "--dry_run"]
    dry = run_script("vllm_kflow_qwen", flags, tmp_path)
    return dry.out.partition("\nprompts: ")[2].splitlines()[0]


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text(path.read_text() + " "),
        lambda path: path.rename(path.with_name("oss_mistakes_later_empty.txt")),
        Path.unlink,
    ],
    ids=["text", "elsewhere", "gone"],
)
def test_a_file_that_was_changed_makes_it_another_wording(
    known: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    assert whose(known, tmp_path).startswith("published (sha256 ")
    change(known / "qwen_mistakes_later_empty.txt")
    assert whose(known, tmp_path).startswith("own wording, --prompt_dir (sha256 ")


def test_comparisons_name_the_wording(
    known: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What run.json says of it in words is not relied on."""
    flags = ["--reflex_size", "1", "--output_postfix"]
    own = run_script("vllm_kflow_qwen", [*flags, "own"], tmp_path, ScriptedEngine(obliging))
    flags += ["theirs", "--prompt_dir", str(known)]
    run_script("vllm_kflow_qwen", flags, tmp_path, ScriptedEngine(obliging))
    folders = sorted(own.results.glob("*/*"))
    path = folders[0] / "run.json"
    path.write_text(path.read_text().replace("own wording", "published (sha256 0)"))
    compare.compare(compare.parse(None, [*map(str, folders), "--json"]))
    shown = json.loads(capsys.readouterr().out)
    words = ["own wording", f"published (sha256 {wording.hash_prompts(wording.PUBLISHED)[:12]})"]
    assert [run["wording"] for run in shown["runs"]] == shown["settings"]["wording"] == words
    page = io.BytesIO()
    write(read_all([str(folders[1])]), page)
    assert f"<bdi>{words[1]}</bdi>" in page.getvalue().decode()


CHANGES = {
    "no function": ("def main", "def run", "a function main"),
    "not Python": ("def main():", "def main(:", "not a Python script"),
    "other name": ("cmd_prompt", "later_prompt", "literals, the question"),
    "no message": ("tmp_conv", "messages", "tmp_conv"),
    "other role": ('"role": "user"', '"role": "developer"', "messages of the user alone"),
    "other question": ('example["problem"]', 'example["problem"].strip()', "the question"),
    "joined": ('"\\n".join', '", ".join', "joined by line feeds"),
    "entries apart": ('# Tried\\n" + ', '# Tried: " + ', "a line of its own"),
    "oldest": ("summaries[number][-1]", "summaries[number][0]", "the list and the reference"),
    "unused": ("{knowledge_text}\\n\\n#", "\\n\\n#", "{knowledge_text}"),
    "added": ("+ eps_text", "+ eps_text + more", "literals, the question"),
    "a slot": ("LATER of", "LATER [[QUESTION]] of", "without [[WORD]]"),
    "assigned twice": ("    eps_text =", "    eps_text = 1; eps_text =", "one assignment"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_script_that_changed_is_named_with_what_was_expected(
    theirs: Path, tmp_path: Path, change: str
) -> None:
    path = theirs / "AIME" / "scripts" / "vllm_kflow_qwen.py"
    old, new, expected = CHANGES[change]
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    done = command(theirs, "-o", tmp_path / "published", "--changed")
    refused(done, tmp_path, str(path), expected)


def test_a_folder_without_the_scripts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    done = command(tmp_path / "theirs", "-o", tmp_path / "published")
    refused(done, tmp_path, f"{tmp_path}/theirs is not a checkout", "vllm_kflow_oss.py")
    refused(command(ROOT, "-o", tmp_path / "published"), tmp_path, "vllm_kflow_oss.py")  # ours


def test_a_script_that_cannot_be_read_is_refused(theirs: Path, tmp_path: Path) -> None:
    path = theirs / "AIME" / "scripts" / "vllm_qwen_markovian_thinking.py"
    for make in (lambda: None, lambda: os.mkfifo(path), lambda: path.write_bytes(b"\0\xff")):
        path.unlink(missing_ok=True)
        make()
        refused(command(theirs, "-o", tmp_path / "published", "--changed"), tmp_path, str(path))


def test_an_output_that_exists_or_has_no_place_is_left_alone(theirs: Path, tmp_path: Path) -> None:
    (theirs / "mine").mkdir()
    for out in (theirs / "mine", theirs / "nowhere" / "published"):
        refused(command(theirs, "-o", out, "--changed"), tmp_path, "-o another name")
    assert [*(theirs / "mine").iterdir()] == []
