"""What servers' refusals say, as public reports have them (tests/README.md lists the sources)."""

from __future__ import annotations

import pytest

from kflow.engines.openai_engine.network import message_in
from kflow.engines.openai_engine.refusals import Asked, lowered, named, nearest, sentence
from kflow.engines.openai_engine.retry import Fault, Who, fault_of

# Words, the prompt's tokens as counted here, the budget that was sent, what is left of it.
LENGTHS: dict[str, tuple[str, int, int, int | None]] = {
    "vLLM, with both counts": (
        "This model's maximum context length is 8192 tokens. However, you requested 8203 tokens "
        "(691 in the messages, 7512 in the completion). Please reduce the length.",
        600, 7512, 7501,
    ),
    "vLLM 0.15": (
        "This model's maximum context length is 2048 tokens. However, your request has 8 input "
        "tokens plus 2045 'max_tokens'. Please reduce one or the other. (parameter=input_tokens)",
        5, 2045, 2040,
    ),
    "vLLM, without the prompt's count": (
        "maximum context length is 4097 tokens, however you requested 4226 tokens", 200, 4000, 3871,
    ),
    "vLLM, a window that is less than the prompt": (
        "This model's maximum context length is 3 tokens. However, your request has 8 input "
        "tokens. Please reduce the length of the input messages.",
        8, 2045, None,
    ),
    "vLLM, a budget below nothing": ("max_tokens must be at least 1, got -186.", 10, 100, None),
    "SGLang": (
        "Requested token count exceeds the model's maximum context length of 202752 tokens. You "
        "requested a total of 202941 tokens: 70941 tokens from the input messages and 132000 "
        "tokens for the completion.",
        70000, 132000, 131811,
    ),
    "DeepSeek": (
        "This model's maximum context length is 131072 tokens. However, you requested 131134 "
        "tokens (22942 in the messages, 108192 in the completion).",
        20000, 108192, 108130,
    ),
    "DeepSeek, of the reply alone": (
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 10, 9000, 8192,
    ),
    "much less than was asked for": (
        "Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 10, 117964, None,
    ),
    "OpenAI, of the reply alone": (
        "max_tokens is too large: 20000. This model supports at most 16384 completion tokens, "
        "whereas you provided 20000.",
        10, 20000, 16384,
    ),
    "OpenRouter": (
        "This endpoint's maximum context length is 131072 tokens. However, you requested about "
        "131122 tokens (1050 of text input, 130072 in the output). Please reduce the length",
        1000, 130072, 130022,
    ),
    "TGI": (
        "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 1500 `inputs` tokens and "
        "2600 `max_new_tokens`",
        1400, 2600, 2596,
    ),
    "Mistral": (
        "Prompt contains 1200 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length",
        1100, 31700, 31568,
    ),
    "Groq, of a minute": (
        "Request too large for model `m` on tokens per minute (TPM): Limit 12000, Requested 14137, "
        "please reduce your message size and try again.",
        100, 14000, None,
    ),
    "nothing of lengths": ("the 4096 prompts of this account were filtered", 100, 8000, None),
    "with commas": ("maximum context length is 8,192 tokens and your request has 1,000 input "
                    "tokens", 900, 7500, 7192),
}  # fmt: skip


@pytest.mark.parametrize(("words", "prompt", "budget", "left"), LENGTHS.values(), ids=LENGTHS)
def test_a_budget_is_lowered_to_what_a_refusal_leaves(
    words: str, prompt: int, budget: int, left: int | None
) -> None:
    assert lowered(words, prompt, budget, budget) == left


def test_a_budget_is_not_lowered_below_half_of_what_was_asked_for() -> None:
    words = "the valid range of max_tokens is [1, 5000]"
    assert lowered(words, 10, 6000, 9000) == 5000
    assert lowered(words, 10, 6000, 12_000) is None


OPTIONAL = ("seed", "reasoning_effort", "stream_options", "top_p", "frequency_penalty")
# A body, and the field that it names.
FIELDS: dict[str, tuple[str, str | None]] = {
    "OpenAI": (
        '{"error": {"message": "Unsupported parameter: \'max_tokens\'. Use '
        '\'max_completion_tokens\'."}}',
        "max_tokens",
    ),
    "Mistral": ('[{"type":"extra_forbidden","loc":["body","seed"],"input":7}]', "seed"),
    "Mistral, in an object": (
        '{"object": "error", "message": {"detail": [{"loc": ["body", "seed"]}]}}', "seed",
    ),
    "Mistral, as JSON in JSON": (
        '{"object": "error", "message": "{\\"loc\\":[\\"body\\",\\"frequency_penalty\\"]}"}',
        "frequency_penalty",
    ),
    "a detail": ('{"detail": "stream_options: extra fields not permitted"}', "stream_options"),
    "Groq": (
        '{"error": {"message": "reasoning_effort must be one of none"}}', "reasoning_effort",
    ),
    "xAI": (
        '{"code": "x", "error": "Model m does not support parameter reasoningEffort."}',
        "reasoning_effort",
    ),
    "LiteLLM": ("together_ai does not support parameters: ['top_p']", "top_p"),
    "Gemini": ('[{"error": {"message": "Unknown name \\"seed\\": Cannot find field."}}]', "seed"),
    "none": ("the speed of proseeding", None),
    "one that was not sent": ("top_k is not supported", None),
}  # fmt: skip


@pytest.mark.parametrize(("body", "field"), FIELDS.values(), ids=FIELDS)
def test_the_field_that_a_refusal_names(body: str, field: str | None) -> None:
    sent = {"max_tokens": 1, **dict.fromkeys(OPTIONAL, 1)}
    assert named(message_in(body.encode()), sent, OPTIONAL) == field


@pytest.mark.parametrize(
    ("status", "body", "who"),
    [
        (429, '{"error": {"code": "insufficient_quota"}}', Who.ACCOUNT),
        (429, '{"error": {"type": "exceeded_current_quota_error"}}', Who.ACCOUNT),
        (400, '{"error": {"message": "insufficientquota: top up"}}', Who.ACCOUNT),
        (429, "Request too large for gpt-4o: Limit 30000, Requested 342389", Who.ACCOUNT),
        # Of a minute, whatever it is called.
        (429, '{"error": "INSUFFICIENT QUOTA", "message": "concurrent requests"}', Who.SERVER),
        (429, '{"error": {"code": "rate_limit_exceeded"}}', Who.SERVER),
        (429, "Quota exceeded for quota metric 'Requests per day'", Who.SERVER),
        (503, "insufficient_quota of GPUs", Who.SERVER),
    ],
)
def test_what_waiting_does_not_help_is_the_accounts(status: int, body: str, who: Who) -> None:
    assert fault_of(status, body, None, body.encode()).who is who


LARGE = "Request too large: Limit 8000, Requested 32979"
ROOM = "request ({} tokens) exceeds the available context size ({} tokens), try increasing it"
MODEL = "The model `some/model` does not exist."
# A status, its words, whether there is a key, and what the sentence says.
REMEDIES: list[tuple[int, str, bool, list[str]]] = [
    (401, "No auth credentials found", False, ["requires a key", "set OPENAI_API_KEY"]),
    (401, "no such key", True, ["refuses the key in OPENAI_API_KEY"]),
    (403, "not for you", True, ["refuses the key in OPENAI_API_KEY"]),
    (400, "API key not valid. Please pass a valid API key.", True, ["refuses the key in"]),
    (402, "pay", True, ["has no credit", "add some"]),
    (413, LARGE, True, ["lower --max_new_tokens"]),
    (429, LARGE, True, ["lower --max_new_tokens"]),
    (400, "the valid range of max_tokens is [1, 8192]", True, ["lower --max_new_tokens to 8192"]),
    (400, "maximum context length is 2048 tokens", True, ["lower --max_new_tokens to 2048"]),
    (400, ROOM.format(594, 512), True, ["serve it with a larger window"]),
    (400, ROOM.format(300, 200), True, ["lower --max_new_tokens to 200"]),
    (404, MODEL, True, ["does not serve some/model", "give its own name as --flag"]),
    (400, "some/model is not a valid model ID", True, ["does not serve some/model", "--flag"]),
    (404, "Not Found", True, ["has no /completions", "use --engine chat"]),
    (405, "Method Not Allowed", True, ["--engine chat"]),
    (307, "it redirects", True, ["cannot be used", "usually ends in /v1"]),
    (400, "temperature must be below 1", True, ["change --temperature"]),
    (400, "provider: unknown host", True, ["change --request_args"]),
    (400, "Token id 151859 is out of vocabulary", True, ["refuses a rollout's request"]),
    (422, "prompt: Input should be a valid string", True, ["--prompt_as_text"]),
    (502, "bad gateway", True, ["start the server first"]),
    (500, "out of memory", True, ["check its log"]),
]


@pytest.mark.parametrize(("status", "words", "key", "said"), REMEDIES)
def test_a_sentence_has_one_remedy(
    status: int, words: str, key: bool, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something-else" if key else "")
    url, fields = "http://127.0.0.1:9/v1", ("temperature", "provider")
    asked = Asked(url, "completions", "some/model", "--flag", (), fields, tokens=500)
    fault = fault_of(status, words, None, words.encode())
    sentence_of_it = sentence(asked, fault)
    assert sentence_of_it.startswith(f"{url} ")
    assert str(fault) in sentence_of_it
    for word in said:
        assert word in sentence_of_it


# A connection that TLS ends, in Python's words for it.
TLS = {
    "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed": "SSL_CERT_FILE",
    "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)": "write http://",
    "[SSL] record layer failure (_ssl.c:1032)": "write http://",
}


@pytest.mark.parametrize("words", TLS)
def test_tls_that_fails_is_not_a_server_that_is_not_there(words: str) -> None:
    asked = Asked("https://127.0.0.1:9/v1", "models", "some/model")
    assert TLS[words] in sentence(asked, Fault(words, down=True))


@pytest.mark.parametrize(
    ("status", "words", "said"),
    [
        (401, "", "refuses the key"),
        (404, MODEL, "does not serve some/model"),
        (404, "", "through the proxy"),
        (503, "", "through the proxy"),
    ],
)
def test_a_proxy_is_at_fault_only_where_the_server_may_not_have_been_reached(
    status: int, words: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something-else")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    asked = Asked("http://192.0.2.7:8000/v1", "completions", "some/model", "--flag")
    assert said in sentence(asked, fault_of(status, words, None, words.encode()))


def test_the_nearest_names_come_first() -> None:
    names = ["a/b", "openai/gpt-oss-20b", "x/gpt-4o", "openai/gpt-oss-120b", "openai/gpt-5"]
    assert nearest("gpt-oss-120b", names).split(", ")[:2] == names[3:0:-2]
    assert nearest("openai/gpt-oss", names).startswith("openai/gpt-oss-")
