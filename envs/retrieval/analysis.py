"""Text to index terms, as Lucene's EnglishAnalyzer does it (the analyzer of pyserini and the real WebShop).

Standard tokenizer (letters and digits, joined by an apostrophe, full stop or colon inside words and by a comma, full
stop or semicolon inside numbers), lower case, possessive ``'s`` dropped, the 33 English stop words, Porter's stemmer.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from turnwise.errors import MissingExtraError

MAX_TOKEN_CHARS = 255  # Lucene's StandardTokenizer splits longer ones; here their rest is dropped
STOP_WORDS = frozenset(
    (
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "for",
        "if",
        "in",
        "into",
        "is",
        "it",
        "no",
        "not",
        "of",
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    )
)
_TOKEN = re.compile(r"\w+(?:(?:(?<=[^\W\d_])['’.:·](?=[^\W\d_])|(?<=\d)['’.,;](?=\d))\w+)*")
# Where the stemmer in Lucene departs from the published algorithm (and Snowball's "porter" does not): "bli" becomes
# "ble" and "logi" "log", given a vowel and a consonant before them.
_DEPARTURES = re.compile(r"(.*[aeiouy][^aeiouy].*?)(bl|log)(?:y|ies|i)", re.DOTALL)
_DEPARTED = ("bly", "blies", "bli", "logy", "logies", "logi")
tokens: Callable[[str], list[str]] = _TOKEN.findall


@cache
def _stemmer() -> Any:
    try:
        import Stemmer
    except ImportError as error:
        raise MissingExtraError("Stemmer", "search") from error
    stemmer = Stemmer.Stemmer("porter")
    stemmer.maxCacheSize = 0  # terms are cached here
    return stemmer


@lru_cache(maxsize=50_000)
def term(token: str) -> str | None:
    """Return the index term of a lower-cased token, or None for a stop word."""
    if token.endswith(("'s", "’s")):
        token = token[:-2]
    if token in STOP_WORDS or not token:
        return None
    token = token[:MAX_TOKEN_CHARS]
    departure = _DEPARTURES.fullmatch(token) if token.endswith(_DEPARTED) else None
    if departure:
        token = departure[1] + ("ble" if departure[2] == "bl" else "log")
    stem: str = _stemmer().stemWord(token)
    return stem


def terms(text: str) -> list[str]:
    """Return the index terms of a text, in order, with repetitions."""
    return [found for found in map(term, tokens(text.lower())) if found is not None]
