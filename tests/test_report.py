"""report.py without a browser: what is in the page, how large it gets, what it refuses."""

from __future__ import annotations

import io
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fakes import ScriptedEngine
from kflow.analysis import page, report
from kflow.analysis.curve import draw, readings, spacing
from kflow.analysis.excerpts import cut, shares
from kflow.analysis.knowledge import replacements, shown
from kflow.analysis.runs import read
from kflow.types import UserError
from pages import HOSTILE, Page, read_page, write_hostile
from results_on_disk import ours, published, write_run, write_step
from scripted import SCRIPTS, Ran, run_script

GOLDS = [25, 7]
STEPS = [[25, 1], [25, None], [3, 7]]


def made(*arguments: Path | str, at: Path) -> Page:
    report.main("", [*map(str, arguments), "-o", str(at)])
    return read_page(at)


def refuses(capsys: pytest.CaptureFixture[str], *argv: Path | str) -> str:
    with pytest.raises(SystemExit) as ended:
        report.main("", list(map(str, argv)))
    said = capsys.readouterr()
    assert ended.value.code == 2
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


def test_numbers_and_texts_of_our_own_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, settings={"seed": 0})
    found = made(tmp_path, at=tmp_path / "r.html")
    said = capsys.readouterr()
    assert (said.err, said.out.split(" (")[0]) == ("", f"Page: {(tmp_path / 'r.html').as_uri()}")
    (run,) = found.data["runs"]
    assert run["name"] == "vllm_64_a"
    assert run["problems"] == ["aime-0", "aime-1"]
    assert run["outcomes"] == [["rrw", "wnr"]]
    assert run["answers"] == [[["25", "25", "3"], ["1", None, "7"]]]
    assert run["files"] == ["vllm_64_a/m"]
    line = found.chain(0, 0, 1)[2]
    assert (line["step"], line["thinking"], line["visible"]) == (
        2,
        "Thinking.",
        "[Answer]: \\boxed{7}",
    )
    assert line["update"] == [["kept", "the answer did not change"]]
    assert "All texts are whole" in found.text
    assert not list(tmp_path.glob(".*"))


def test_a_folder_of_the_published_code(tmp_path: Path) -> None:
    write_run(tmp_path / "vllm_64_a" / "m", STEPS, GOLDS, record=published)
    found = made(tmp_path, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert (run["problems"], run["own_ids"]) == (["0", "1"], False)
    line = found.chain(0, 0, 0)[1]
    assert (line["prompt_tokens"], line["finish"], line["update"]) == (None, None, [])
    assert (line["list"], line["predicted"]) == ([], "25")
    assert "No run.json" in found.text


def test_seeds_have_a_map_and_texts_each(tmp_path: Path) -> None:
    folder = tmp_path / "vllm_64_a" / "m"
    write_run(folder / "seed_0", STEPS, GOLDS)
    write_run(folder / "seed_1", [[25, 7]] * 3, GOLDS)
    found = made(folder, at=tmp_path / "r.html")
    (run,) = found.data["runs"]
    assert run["outcomes"] == [["rrw", "wnr"], ["rrr", "rrr"]]
    assert run["files"] == ["vllm_64_a/m/seed_0", "vllm_64_a/m/seed_1"]
    assert found.chain(0, 1, 1)[1]["predicted"] == "7"
    labels = [told.get("aria-label") or "" for tag, told in found.tags if tag == "path"]
    assert any(text.startswith("vllm_64_a, step 0: 3/4 over 2 seeds, 75 %") for text in labels)


def test_a_chain_at_rest_a_failure_and_a_cut_off_reply_are_told_apart(tmp_path: Path) -> None:
    last = {"carried_from": 0}
    write_step(tmp_path, 0, [ours(0, 1, 1), ours(1, 2, None, failure="too long", update=None)])
    write_step(tmp_path, 1, [ours(0, 1, 1, **last), ours(1, 2, 5, finish_reason="length")])
    found = made(tmp_path, at=tmp_path / "r.html")
    assert found.data["runs"][0]["outcomes"] == [["rR", "fc"]]
    assert found.chain(0, 0, 0)[1]["carried_from"] == "0"
    assert found.chain(0, 0, 1)[0]["failure"] == "too long"


@pytest.fixture(scope="module")
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    home = tmp_path_factory.mktemp("run")
    return run_script(request.param, ["--reflex_size", "4"], home, ScriptedEngine())


@pytest.mark.parametrize("ran", SCRIPTS, indirect=True)
def test_every_scripts_texts_arrive_and_its_lists_add_up(ran: Ran, tmp_path: Path) -> None:
    found = made(ran.folder, at=tmp_path / "r.html")
    for problem in range(3):
        before: list[str] | None = None
        for step, line in enumerate(found.chain(0, 0, problem)):
            record = ran.step(step)[1 + problem]
            start = record["reply_start"]
            solution = record["pred_solution"]
            assert line["prompt"] == record["question"]
            assert line["carried"] == solution[:start]
            assert f"{line['thinking']}</think>{line['visible']}" == solution[start:]
            told = shown(record["question"])
            assert line["list"] == (None if told is None else list(told))
            if before is not None and told is not None:
                came, went = zip(*line["replaced"], strict=True) if line["replaced"] else ((), ())
                gone = {*line["dropped"], *came}
                assert {*before} - gone | {*line["added"], *went} == {*told}
            before = list(told or ())


def test_untrusted_text_stays_text(tmp_path: Path) -> None:
    write_hostile(tmp_path)
    found = made(tmp_path, at=tmp_path / "r.html")
    expected = {None, "application/json", "text/plain"}
    assert len(found.scripts) == 3
    assert {told.get("type") for told, _ in found.scripts} == expected
    assert not [tag for tag, _ in found.tags if tag in ("b", "i", "img", "iframe", "object")]
    assert not [name for _, told in found.tags for name in told if name.startswith("on")]
    assert not re.search("[\u2028\u2029\u202e\x00\x07\ud83d]", found.text)
    assert "⟨U+202E⟩" in found.text
    line = found.chain(0, 0, 0)[0]
    assert [line["prompt"], line["thinking"], line["visible"]] == [HOSTILE] * 3
    assert line["failure"] == line["finish"] == HOSTILE


def test_the_policy_allows_the_pages_own_style_and_script_alone(tmp_path: Path) -> None:
    write_run(tmp_path, STEPS, GOLDS)
    found = made(tmp_path, at=tmp_path / "r.html")
    (policy,) = (told["content"] for _, told in found.tags if "http-equiv" in told)
    (script,) = (text for told, text in found.scripts if "type" not in told)
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert f"style-src '{page.digest(found.style)}'" in policy
    assert f"script-src '{page.digest(script)}'" in policy
    assert "unsafe" not in policy
    assert not [told for _, told in found.tags if "style" in told or "src" in told]


def test_integers_of_any_length_arrive_whole(tmp_path: Path) -> None:
    huge = int("9" * 4000)
    write_step(tmp_path, 0, [ours(0, 2**80, 2**80, update={"added": "x", "under_answer": huge})])
    found = made(tmp_path, at=tmp_path / "r.html")
    assert found.data["runs"][0]["answers"] == [[[str(2**80)[:24] + "…"]]]
    line = found.chain(0, 0, 0)[0]
    assert line["predicted"] == str(2**80)
    assert line["update"] == [["added", "x"], ["under answer", str(huge)[:500] + "…"]]


def noise(characters: int) -> str:
    return "".join(random.Random(characters).choices("0123456789abcdef", k=characters))


def big_run(folder: Path, steps: int, characters: int) -> Path:
    for step in range(steps):
        text = f"{noise(characters + step)}</think>{noise(300)}"
        write_step(folder, step, [ours(n, n, n, pred_solution=text) for n in range(4)])
    return folder


@pytest.mark.parametrize("largest", [70_000, 90_000, 300_000])
def test_texts_are_cut_until_the_page_is_small_enough(tmp_path: Path, largest: int) -> None:
    run = read(big_run(tmp_path, 3, 40_000), "big")
    file = io.BytesIO()
    size = page.write([run], file, largest)
    assert size.page == len(file.getvalue()) <= largest
    (tmp_path / "r.html").write_bytes(file.getvalue())
    found = read_page(tmp_path / "r.html")
    assert size.allowance is not None
    assert f"cut to {size.allowance:,} characters" in found.text
    for step, line in enumerate(found.chain(0, 0, 2)):
        head, left, tail = line["thinking"]
        whole = noise(40_000 + step)
        assert whole.startswith(head)
        assert whole.endswith(tail)
        assert len(head) + left + len(tail) == len(whole)
        assert len(head) + len(tail) > (3000 if largest == 300_000 else 0)


def test_a_page_of_numbers_alone_that_is_too_large_is_refused(tmp_path: Path) -> None:
    run = read(big_run(tmp_path, 2, 1000), "big")
    with pytest.raises(UserError, match="name fewer runs"):
        page.write([run], io.BytesIO(), 20_000)


def test_memory_does_not_grow_with_the_steps(tmp_path: Path) -> None:
    def peak(steps: int) -> int:
        run = read(big_run(tmp_path / str(steps), steps, 500_000), "big")
        file = open(tmp_path / "page", "w+b")  # noqa: SIM115
        page.template()
        tracemalloc.start()
        page.write([run], file, 400_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        file.close()
        return most

    # A step's file is 2 MB; its bytes, its text and its records are held at a time.
    assert peak(12) - peak(4) < 2_000_000


def test_shares_and_cuts() -> None:
    assert shares([10, 400, 30, 0], 100) == [10, 60, 30, 0]
    assert shares([500, 400], 100) == [50, 50]
    assert shares([5, 6], 100) == [5, 6]
    assert cut("abcdefg", 7) == "abcdefg"
    assert cut("abcdefg", 3) == ["a", 4, "fg"]
    assert cut("abc", 0) == ["", 3, ""]


def test_replacements() -> None:
    one, other = "use x is even so half of it works", "use x is even so a half of it works"
    assert replacements([one], [other, "new"], {}, False) == [(one, other)]
    assert replacements([one], ["quite another thing"], {}, False) == []
    assert replacements([one], ["quite another thing"], {}, True) == [(one, "quite another thing")]
    filed = {"old": "3", "newer": "3", "rest": "4"}
    assert replacements(["old"], ["rest", "newer"], filed, False) == [("old", "newer")]
    assert replacements(["a b", "a b c"], ["a b c d"], {}, True) == [("a b c", "a b c d")]


def test_a_run_in_progress_and_damaged_files_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, STEPS, GOLDS, settings={}, reflex_size=8)
    (tmp_path / "predictions_1.json").write_text("[{")
    found = made(tmp_path, at=tmp_path / "r.html")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    for line, words in zip(said, ("predictions_1.json", "lacks step 1", "progress"), strict=True):
        assert words in line
        assert line in found.text
    assert found.data["runs"][0]["steps"] == [0, 2]


def test_what_differs_between_runs(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_run(tmp_path / name, STEPS, GOLDS, settings={"seed": seed, "same": 5})
    found = made(tmp_path, at=tmp_path / "r.html")
    rows = re.findall(
        r"<tr><th scope=\"row\">(.+?)</th>(.+?)</tr>", (tmp_path / "r.html").read_text()
    )
    assert ("seed", '<td dir="auto">0</td><td dir="auto">1</td>') in rows
    assert "What differs" in found.text


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    run = read(write_run(tmp_path, STEPS, GOLDS), "run")
    (tmp_path / "predictions_1.json").write_text("")
    with pytest.raises(UserError, match=r"predictions_1\.json could be read at first"):
        page.write([run], io.BytesIO())


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run", STEPS, GOLDS)
    results = folder / "predictions_0.json"
    before = results.read_bytes()
    assert "holds no results" in refuses(capsys, tmp_path / "none")
    assert "is not a report and is left alone" in refuses(capsys, folder, "-o", results)
    assert "is a folder" in refuses(capsys, folder, "-o", tmp_path)
    assert "is no folder" in refuses(capsys, folder, "-o", tmp_path / "x" / "r.html")
    assert "RESULTS" in refuses(capsys)
    assert results.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_an_older_report_is_replaced_and_a_failed_one_leaves_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, at = write_run(tmp_path / "run", STEPS, GOLDS), tmp_path / "r.html"
    made(folder, at=at)
    before = at.read_bytes()
    made(write_run(tmp_path / "b", STEPS, GOLDS), at=at)
    assert at.read_bytes() != before
    before = at.read_bytes()

    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "render", full)
    capsys.readouterr()
    assert "No space left" in refuses(capsys, folder, "-o", at)
    assert at.read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_points_stand_where_the_figures_are(tmp_path: Path) -> None:
    told = readings(read(write_run(tmp_path, STEPS, GOLDS), "run"))
    assert [reading.share for reading in told] == [0.5, 0.5, 0.5]
    assert told[0].label("a") == "a, step 0: 1/2, 50 %, 95 % interval 9–91 %"
    curve = draw(["a"], [told], 400, 200)
    (line,) = curve.lines
    rows = {tick.label: tick.at for tick in curve.rows}
    assert [point.y for point in line.points] == [rows["50 %"]] * 3
    assert [point.x for point in line.points] == [tick.at for tick in curve.columns]


@pytest.mark.parametrize(
    ("steps", "most", "gap"), [(0, 5, 1), (63, 25, 5), (63, 6, 20), (900, 9, 100)]
)
def test_ticks_are_round(steps: int, most: int, gap: int) -> None:
    assert spacing(steps, most) == gap


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for text; 1.4.11: 3 to 1 for the curves."""
    style = (page.TEMPLATE / "page.css").read_text()
    colours = dict(
        re.findall(r"--([\w-]+): (#\w{6});", style.split(":root {")[1 + scheme].split("}")[0])
    )
    texts = ["ink", "quiet", "link", "added", "dropped", "replaced"]
    pairs = [(text, "paper", 4.5) for text in texts] + [("ink", "raised", 4.5)]
    pairs += [
        (f"on-{name}", name, 4.5) for name in ("right", "wrong", "none", "cut", "failed", "mark")
    ]
    pairs += [(f"c{number}", "paper", 3) for number in range(6)]
    for text, ground, least in pairs:
        light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= least, (text, ground)
