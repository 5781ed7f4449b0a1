"""The example method on the page and on the command line; its own tests are beside it, in
docs/examples."""

from __future__ import annotations

from pathlib import Path

from helpers import pages
from helpers.fakes import ScriptedEngine
from helpers.scripted import QUESTIONS, refused, run_script
from test_agreement import agreeing, says


def test_the_page_shows_its_sections_lessons_and_notes(tmp_path: Path) -> None:
    flags = ["--reflex_size", "3"]
    ran = run_script("vllm_agreement", flags, tmp_path, ScriptedEngine(agreeing))
    assert (ran.code, ran.complaints) == (0, [])
    page = pages.write_page(ran.folder, at=tmp_path / "r.html")
    for problem in range(len(QUESTIONS)):
        first, second, third = page.chain(0, 0, problem)
        slot = third["slots"][1]
        assert slot["sections"] == ["Lesson", "Answer"]
        assert slot["texts"][2:] == ["Hm.</think>", says("Lesson of step 2.", "101")]
        assert slot["list"] == ["lesson of step 0."]
        assert (first["note"]["added"], first["verdict"]) == (["lesson of step 0."], "101")
        assert (second["note"]["skipped"], second["verdict"]) == ("no two rollouts agree", "101")


def test_flags_of_method_and_family_are_recorded_and_decide_which_run_it_is(tmp_path: Path) -> None:
    usage = run_script("vllm_agreement", ["--help"], tmp_path).out
    assert usage.index("the method:") < usage.index("the family:") < usage.index("sampling:")
    one = ["--reflex_size", "1", "--limit", "1"]
    flags = [*one, "--rollouts_per_step", "3", "--no_thinking", "--reasoning_effort", "low"]
    engine = ScriptedEngine()
    ran = run_script("vllm_agreement", flags, tmp_path, engine)
    assert len(engine.requests) == 3
    experiment = ran.run()["experiment"]
    assert experiment["fields"]["rollouts_per_step"] == 3
    assert experiment["family_fields"] == {"no_thinking": True}
    assert experiment["reasoning_effort"] == "low"
    changed = run_script("vllm_agreement", [*one, "--rollouts_per_step", "3"], tmp_path)
    refused(changed, "family_fields.no_thinking", 'reasoning_effort: "low" -> null')
    refused(run_script("vllm_agreement", ["--rollouts_per_step", "1"], tmp_path), "at least 2")
