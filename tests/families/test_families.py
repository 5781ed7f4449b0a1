"""The families' formats: the real harmony, and a small real tokenizer with a ChatML template."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from helpers import driver
from helpers.tokenizer import CHATML, save_tokenizer, user
from kflow.families import gpt_oss, qwen
from kflow.families.chat import TemplateChat
from kflow.methods.markovian import Markovian, Tail
from kflow.sections import visible
from kflow.types import Chat, Message, Prompt, UserError

# What stands between the first and the last </think> of an assistant's turn is dropped, as by
# Qwen3's own template.
FILTERING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% set parts = m.content.split('</think>') %}"
    "{% if m.role == 'assistant' and parts|length > 1 %}"
    "<think>\n{{ parts[0].split('<think>')[-1].strip('\n') }}\n</think>\n\n"
    "{{ parts[-1].lstrip('\n') }}"
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Chat:
    folder = tmp_path_factory.mktemp("model")
    save_tokenizer(folder, CHATML)
    return qwen.FAMILY.chat(str(folder), False, None)


@pytest.fixture(scope="module")
def harmony() -> Chat:
    return gpt_oss.FAMILY.chat("openai/gpt-oss-120b", False, None)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        pytest.param(
            user("What is 1+1?\n\nSolve é."),
            "<|im_start|>user\nWhat is 1+1?\n\nSolve é.<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n",
            id="a question",
        ),
        pytest.param(
            user(r"{{ 1 }} {% x %} \boxed{2} <b> & '", "This is hard."),
            "<|im_start|>user\n{{ 1 }} {% x %} \\boxed{2} <b> & '<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nThis is hard.",
            id="a prefill at the very end",
        ),
        pytest.param(
            Prompt((Message("user", "Q"), Message("assistant", "So far.")), 0.5),
            "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nSo far.<|im_end|>\n"
            "<|im_start|>assistant\n<think>\n",
            id="a turn of the assistant",
        ),
    ],
)
def test_chatml_prompt(chatml: Chat, prompt: Prompt, text: str) -> None:
    ids = chatml.render(prompt)
    assert chatml.decode(ids, skip_special_tokens=False) == text
    plain = text.replace("<|im_start|>", "").replace("<|im_end|>", "")
    assert chatml.decode(ids, skip_special_tokens=True) == plain
    turns = text.count("<|im_start|>") + text.count("<|im_end|>")
    assert sum(token >= 256 for token in ids) == turns


@pytest.mark.parametrize("spelled", ["<|im_end|>", "<|im_end|><|im_start|>"])
def test_chatml_text_never_becomes_a_special_token(chatml: Chat, spelled: str) -> None:
    said = f"Say {spelled} now."
    prompts = [Prompt((Message(role, said),), 0.9) for role in ("user", "assistant")]
    for prompt in (*prompts, user("Q", said)):
        ids = chatml.render(prompt)
        assert sum(token >= 256 for token in ids) == 3
        text = chatml.decode(ids, skip_special_tokens=True).replace(" ", "")
        assert f"Say{spelled}now." in text


def test_chatml_counts_text_alone_and_leaves_stopping_to_the_model(chatml: Chat) -> None:
    assert chatml.count("abé") == 4
    assert chatml.stop_token_ids == ()


@pytest.mark.parametrize(
    ("family", "reply", "shown"),
    [
        ("qwen", "so it is 2", "so it is 2"),
        ("qwen", "a</think>b</think>\n\nc", "\n\nc"),
        ("qwen", "a</think>", ""),
        ("qwen", "<think>a assistantfinal b", "<think>a assistantfinal b"),
        ("gpt_oss", "analysisso it is 2", "analysisso it is 2"),
        ("gpt_oss", "aassistantfinalbassistantfinalc", "c"),
        ("gpt_oss", "analysishmassistantfinal", ""),
        ("gpt_oss", "a</think>b", "a</think>b"),
    ],
)
def test_what_a_reply_shows(family: str, reply: str, shown: str) -> None:
    assert visible(family, reply) == shown


def test_chatml_system_message_and_template_arguments(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, CHATML + "{% if thinking %}<think:{{ reasoning_effort }}>{% endif %}")
    arguments = {"thinking": True, "reasoning_effort": "low"}
    chat = TemplateChat(str(tmp_path), system="Be brief.", arguments=arguments)
    assert chat.decode(chat.render(user("Q", "P")), False) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n<think:low>P"
    )


def test_the_revision_is_the_tokenizers(monkeypatch: pytest.MonkeyPatch) -> None:
    revisions = []

    def load(model: str, **how: object) -> None:
        revisions.append((model, how))
        raise OSError("closed network")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", load)
    for revision in (None, "abc123"):
        with pytest.raises(UserError, match="closed network"):
            qwen.FAMILY.chat("some/model", False, revision)
    assert [how["revision"] for _, how in revisions] == ["main", "abc123"]


TAIL = "R0</think>A0. R1</think>A1. R2</think>A2."


def test_the_published_baseline_carries_what_the_template_leaves(tmp_path: Path) -> None:
    """R0 and A2 remain of the tail; with the turn that goes on, all of it is there."""
    save_tokenizer(tmp_path, FILTERING)
    chat = TemplateChat(str(tmp_path))
    published: Markovian = driver.method("vllm_qwen_markovian_thinking")
    texts = []
    for method in (published, replace(published, whole_tail=True)):
        prompt = method.render(Tail("Q", TAIL), driver.context(method))
        assert prompt.continues == f"{TAIL}\nLet me keep thinking about this.\n<think>\n"
        texts.append(chat.decode(chat.render(prompt), skip_special_tokens=False))
    nudge = "\nLet me keep thinking about this.\n<think>\n"
    question = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert texts[0] == (
        f"{question}R0\n</think>\n\nA2.{nudge}<|im_end|>\n<|im_start|>assistant\n<think>\n"
    )
    assert texts[1] == f"{question}{TAIL}{nudge}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "Cannot load a tokenizer"),
        ("{not json", "Cannot load a tokenizer"),
        ("whole", "no chat template"),
    ],
    ids=["empty folder", "broken files", "no template"],
)
def test_a_folder_without_tokenizer_or_template(
    tmp_path: Path, content: str | None, words: str
) -> None:
    if content == "whole":
        save_tokenizer(tmp_path, None)
    elif content is not None:
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
            (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=words) as raised:
        qwen.FAMILY.chat(str(tmp_path), False, None)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


START, END, MESSAGE, CHANNEL, RETURN, CALL = 200006, 200007, 200008, 200005, 200002, 200012
SYSTEM_TEXT = (
    "You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: 2024-06\n\n"
    "Reasoning: high\n\n"
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
)
# fmt: off
SYSTEM = [
    START, 17360, MESSAGE,
    3575, 553, 17554, 162016, 11, 261, 4410, 6439, 2359, 22203, 656, 7788, 17527, 558,
    87447, 100594, 25, 220, 1323, 19, 12, 3218, 279,
    30377, 289, 25, 1932, 279,
    2, 13888, 18403, 25, 8450, 11, 49159, 11, 1721, 13,
    21030, 2804, 413, 7360, 395, 1753, 3176, 13,
    END,
]
QUESTION = [START, 1428, MESSAGE, 4827, 382, 220, 16, 10, 16, 30, END]
ASSISTANT = [START, 173781]
REPLY = [
    CHANNEL, 35644, MESSAGE, 12845, 668, 2411, 13, END,
    *ASSISTANT, CHANNEL, 17196, MESSAGE, 3206, 382, 220, 17, 13, RETURN,
]
# fmt: on


def test_harmony_prompt_ids(harmony: Chat) -> None:
    ids = harmony.render(user("What is 1+1?"))
    assert ids == [*SYSTEM, *QUESTION, *ASSISTANT]
    assert harmony.decode(ids, skip_special_tokens=False) == (
        f"<|start|>system<|message|>{SYSTEM_TEXT}<|end|>"
        "<|start|>user<|message|>What is 1+1?<|end|><|start|>assistant"
    )
    plain = f"system{SYSTEM_TEXT}userWhat is 1+1?assistant"
    assert harmony.decode(ids, skip_special_tokens=True) == plain


def test_harmony_turns_of_the_assistant_come_before_a_new_one(harmony: Chat) -> None:
    ids = harmony.render(Prompt((Message("user", "Q"), Message("assistant", "So far.")), 0.5))
    text = harmony.decode(ids, skip_special_tokens=False)
    assert text.partition("<|start|>user<|message|>Q<|end|>")[2] == (
        "<|start|>assistant<|message|>So far.<|end|><|start|>assistant"
    )


def test_harmony_prefill_is_at_the_very_end(harmony: Chat) -> None:
    ids = harmony.render(user("What is 1+1?", " <|end|>"))
    assert ids[: len(ids) - harmony.count(" <|end|>")] == [*SYSTEM, *QUESTION, *ASSISTANT]
    assert harmony.decode(ids, skip_special_tokens=True).endswith("assistant <|end|>")


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_harmony_text_never_becomes_a_special_token(harmony: Chat, role: str) -> None:
    spelled = "<|end|> <|start|> <|return|> <|channel|>"
    plain = harmony.render(Prompt((Message(role, "Say now."),), 0.9))
    ids = harmony.render(Prompt((Message(role, f"Say {spelled} now."),), 0.9))
    assert [n for n in ids if n >= 199998] == [n for n in plain if n >= 199998]
    assert f"Say {spelled} now." in harmony.decode(ids, skip_special_tokens=True)


BITS = (
    "\n", "\n\n", "\n\n\n", "\r\n", " ", "  ", "\t", "\x0b", "\x1c", "\x85", "\u00a0", "\u2028",
    "\u200b", "\u0301", "/", "//", "\n/", "a", "Ab", "the", "1", "4567", "*", "#", "[", "!", "'s",
    "'T", "é", "漢", "ʰ", "Ⅷ", "٣", "🙂", "<|end|>", "<|message|>", "\\boxed{", "$x$",
)  # fmt: skip


def test_harmony_encodes_a_text_in_parts_as_it_would_whole(harmony: Chat) -> None:
    """Parts that earlier texts had in common are not encoded again; what comes out is what the
    library renders."""
    import openai_harmony as h

    encoding = h.load_harmony_encoding(h.HarmonyEncodingName.HARMONY_GPT_OSS)
    system = h.SystemContent.new().with_reasoning_effort(h.ReasoningEffort.HIGH)
    rng = random.Random(0)
    for number in range(300):
        text = "".join(rng.choices(BITS, k=rng.randint(1, 40)))
        assert harmony.count(text) == len(encoding.encode(text, disallowed_special=()))
        messages = [Message("user", text), *([Message("assistant", text)] if number % 2 else [])]
        turns = [h.Message.from_role_and_content(h.Role.SYSTEM, system)]
        turns += [h.Message.from_role_and_content(h.Role.USER, text)]
        if number % 2:
            turns.append(h.Message.from_role_and_content(h.Role.ASSISTANT, text))
        whole = encoding.render_conversation_for_completion(
            h.Conversation.from_messages(turns), h.Role.ASSISTANT
        )
        assert harmony.render(Prompt(tuple(messages), 0.9)) == whole, text


def test_harmony_parts_end_where_a_token_does() -> None:
    assert list(gpt_oss.parts("a\nb\n\nc\n d\n/e\n*f\n")) == ["a\n", "b\n\n", "c\n d\n/e\n", "*f\n"]
    assert list(gpt_oss.parts("")) == [""]


def test_harmony_stops_at_return_and_call(harmony: Chat) -> None:
    assert sorted(harmony.stop_token_ids) == [RETURN, CALL]


def test_harmony_reply_reads_back(harmony: Chat) -> None:
    text = harmony.decode(REPLY, skip_special_tokens=True)
    assert text == "analysisLet me think.assistantfinalIt is 2."
    assert visible("gpt_oss", text) == "It is 2."


def test_a_vocabulary_that_cannot_be_loaded_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def closed(name: object) -> None:
        raise RuntimeError("error downloading or loading vocab file\nmore")

    monkeypatch.setattr("openai_harmony.load_harmony_encoding", closed)
    with pytest.raises(UserError) as raised:
        gpt_oss.HarmonyChat()
    assert "\n" not in str(raised.value)
    assert "TIKTOKEN_ENCODINGS_BASE" in str(raised.value)
