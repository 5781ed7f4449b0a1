"""The shapes of well-known models' chat templates, in our own words, before the first rollout: with
the mistakes list, whose prompts are one user's turn, and with Markovian thinking, whose later
prompts end in a turn of the assistant.

A prompt must hold its question and what it carries, else the start ends with a sentence about it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers import driver
from helpers.fakes import ScriptedEngine
from helpers.scripted import ended, refused
from helpers.tokenizer import save_tokenizer
from kflow import experiment
from kflow.families import qwen
from kflow.families.chat import TemplateChat
from kflow.loop import prompts
from kflow.running.rehearsal import rehearse
from kflow.types import Message, Prompt, UserError

OPENS = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
THINKS = "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"


def loop(body: str, end: str = OPENS) -> str:
    """A template that writes each message `m` as the body says."""
    return "{% for m in messages %}" + body + "{% endfor %}" + end


TURN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
PARTS = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"
EITHER = "{% if m.content is string %}{{ m.content }}{% else %}" + PARTS + "{% endif %}"
ALTERNATING = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant') }}{% endif %}"
)
QUESTION, CARRIED, ON = "without its question", "earlier replies taught", "that it goes on from"
TAKES = "does not take this prompt's turns"

# A shape of whose -> the template.
SHAPES: dict[str, str] = {
    "ChatML: Yi, Hermes, SmolLM2": loop(TURN),
    "thinking between the first and last mark dropped: Qwen3": loop(
        "{% set c = m.content %}{% if m.role == 'assistant' and '</think>' in c %}"
        "{% set c = c.split('</think>')[0] ~ '</think>' ~ c.split('</think>')[-1] %}"
        "{% endif %}<|im_start|>{{ m.role }}\n{{ c }}<|im_end|>\n",
        THINKS,
    ),
    "all thinking dropped: DeepSeek-R1, QwQ": loop(
        "{% if m.role == 'assistant' %}{{ m.content.split('</think>')[-1] }}<|im_end|>"
        "{% else %}<|im_start|>{{ m.content }}{% endif %}",
        THINKS,
    ),
    "trimmed, with a system block inside the first turn: Llama 2": (
        "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
        "{% set messages = messages[1:] %}{% else %}{% set s = '' %}{% endif %}"
        + loop(
            ALTERNATING + "{% if m.role == 'user' %}<|im_start|>[INST] {{ s }}"
            "{{ m.content.strip() }} [/INST]{% else %} {{ m.content.strip() }} <|im_end|>"
            "{% endif %}",
            "",
        )
    ),
    "the assistant called model, strict alternation: Gemma 2": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}"
        + loop(
            ALTERNATING + "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n"
            "{{ m.content | trim }}<|im_end|>\n",
            "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}",
        )
    ),
    "the user has the last word: Gemma-like, Mistral with tools": loop(
        "{% if loop.last and m.role != 'user' %}"
        "{{ raise_exception('Last message must be from user') }}{% endif %}" + TURN
    ),
    "text or parts: Llama 3.2 Vision, Qwen2-VL, Gemma 3": loop(
        "<|im_start|>{{ m.role }}\n" + EITHER + "<|im_end|>\n"
    ),
    "parts alone: Idefics3, SmolVLM": loop(
        "{{ m.role | capitalize }}: " + PARTS + "<|im_end|>\n", "Assistant:"
    ),
    "parts of the user alone: LLaVA-like": loop(
        "{% if m.role == 'user' %}USER: " + PARTS + "{% else %}ASSISTANT: {{ m.content }}"
        "{% endif %}<|im_end|>",
        "ASSISTANT:",
    ),
    "the first part by its place: early Pixtral": loop(
        "<|im_start|>{{ m.content[0]['text'] }}<|im_end|>"
    ),
    "content joined to a list: an error for plain text": loop(
        "<|im_start|>{{ ([{'type': 'text', 'text': ''}] + m.content)[-1].text }}<|im_end|>"
    ),
    "tools taken for granted": "{{ tools | length }}" + loop(TURN),
    "a system message is required": (
        "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}"
        + loop(TURN)
    ),
    "the system message alone": loop("{% if m.role == 'system' %}" + TURN + "{% endif %}"),
    "the user's turns alone": loop("{% if m.role == 'user' %}" + TURN + "{% endif %}"),
    "the last turn of the user alone: Vicuna-like": loop(
        "{% if m.role == 'user' and loop.last %}USER: {{ m.content }}{% endif %}"
    ),
    "the first line of a turn": loop("<|im_start|>{{ m.content.split('\n')[0] }}<|im_end|>"),
    "text as JSON": loop("<|im_start|>{{ m.content | tojson }}<|im_end|>"),
    "lower-cased": loop("<|im_start|>{{ m.content | lower }}<|im_end|>"),
    "another name for the texts": loop("<|im_start|>{{ m.value }}<|im_end|>"),
    "broken syntax": "{% for m in messages %}" + TURN,
}
# How a start ends that is refused: with one user's turn, and with the assistant's.
REFUSED: dict[str, tuple[str | None, str | None]] = {
    "the user has the last word: Gemma-like, Mistral with tools": (None, TAKES),
    "tools taken for granted": (TAKES, TAKES),
    "a system message is required": (TAKES, TAKES),
    "the system message alone": (QUESTION, QUESTION),
    "the user's turns alone": (None, ON),
    "the last turn of the user alone: Vicuna-like": (None, QUESTION),
    "the first line of a turn": (CARRIED, None),
    "another name for the texts": (QUESTION, QUESTION),
    "broken syntax": (TAKES, TAKES),
}
IN_PARTS = {
    "parts alone: Idefics3, SmolVLM": {"user", "assistant"},
    "parts of the user alone: LLaVA-like": {"user"},
    "the first part by its place: early Pixtral": {"user", "assistant"},
    "content joined to a list: an error for plain text": {"user", "assistant"},
}
METHODS = ("vllm_kflow_qwen", "vllm_qwen_markovian_thinking")


@cache
def worked(script: str) -> tuple[Any, Any]:
    method = driver.method(script)
    return method, prompts.load(Path(method.prompt_folder), method.prompts)


def outcome(chat: TemplateChat, script: str) -> str | None:
    method, templates = worked(script)
    try:
        rehearse("it", chat, method, templates, 40_000, "</think>", 64)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", SHAPES)
def test_shape(name: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path, SHAPES[name])
    chat = TemplateChat(str(tmp_path))
    for script, words in zip(METHODS, REFUSED.get(name, (None, None)), strict=True):
        said = outcome(chat, script)
        assert (said is None) is (words is None), said
        assert words is None or words in str(said)
    assert set(chat._in_parts) == IN_PARTS.get(name, set())


def test_several_templates_by_name(tmp_path: Path) -> None:
    named = [{"name": "rag", "template": loop(TURN)}]
    save_tokenizer(tmp_path / "none", named)  # type: ignore[arg-type]
    assert TAKES in str(outcome(TemplateChat(str(tmp_path / "none")), METHODS[0]))
    named += [{"name": "default", "template": loop(TURN)}]
    save_tokenizer(tmp_path / "default", named)  # type: ignore[arg-type]
    assert outcome(TemplateChat(str(tmp_path / "default")), METHODS[0]) is None


def test_parts_are_written_as_their_text(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, SHAPES["parts alone: Idefics3, SmolVLM"])
    chat = TemplateChat(str(tmp_path), system="Be brief.")
    ids = chat.render(Prompt((Message("user", "Q <|im_end|>"),), 0.5, "Hm."))
    assert chat.decode(ids, False) == (
        "System: Be brief.<|im_end|>\nUser: Q < |im_end|><|im_end|>\nAssistant:Hm."
    )


@pytest.mark.parametrize(
    "shape",
    ["the user's turns alone", "the assistant called model, strict alternation: Gemma 2"],
)
def test_a_dropped_system_message_is_refused(shape: str, tmp_path: Path) -> None:
    save_tokenizer(tmp_path, SHAPES[shape][0])
    with pytest.raises(UserError, match="system message"):
        TemplateChat(str(tmp_path), system="Be brief.")


RUNS = {
    "no question": ("vllm_kflow_qwen", SHAPES["another name for the texts"], QUESTION),
    "a later step": (
        "vllm_qwen_markovian_thinking",
        SHAPES["the user has the last word: Gemma-like, Mistral with tools"],
        "Last message must be from user",
    ),
}


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("case", RUNS)
def test_a_run_ends_before_its_first_rollout(case: str, dry: bool, tmp_path: Path) -> None:
    script, template, words = RUNS[case]
    save_tokenizer(tmp_path / "model", template)
    asked = __import__(script).EXPERIMENT
    assert asked.family is qwen.FAMILY

    def run(steps: int) -> Any:
        flags = ["--reflex_size", str(steps), *dry * ["--dry_run"]]
        return ended(
            tmp_path,
            flags,
            ScriptedEngine(),
            lambda argv, make_engine: experiment.main(asked, argv, make_engine),
        )

    refused(run(3), words)
    assert not (tmp_path / "results").exists()
    # A step that is not asked is no reason.
    assert run(1).code == (0 if case == "a later step" else 2)
