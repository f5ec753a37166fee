"""Which words of a title are nouns: the pluggable part of the reward's type score.

WebShop asks spaCy's part-of-speech tagger. The rule here takes every word that consists of letters and is no function
word: titles of products are mostly nouns, and it needs no model. It errs on adjectives; both titles get the same rule.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any

from turnwise.errors import ConfigError, MissingExtraError, unknown_name

# Title in, its nouns in lower case out, in order, with repetitions.
Tagger = Callable[[str], tuple[str, ...]]

_FUNCTION_WORDS = (
    "a about above across after against all along also although am among an and another any anything are around as at "
    "be because been before behind being below beneath beside besides between beyond both but by can cannot could did "
    "do does doing done down during each either else enough etc even ever every everyone everything except few first "
    "for from further had has have he her here hers him his how however i if in including inside instead into is it "
    "its itself just last least less like made make many may me might mine more most much must my near neither never "
    "new no nobody none nor not nothing now of off often on once one only onto or other our ours out outside over own "
    "per plus quite rather really same several shall she should since so some such than that the their them then there "
    "these they this those though through throughout till to together too toward towards two under until up upon us "
    "use used using very via was we well were what whatever when where whether which while who whole whom whose why "
    "will with within without would yet you your yours"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
_CLITIC = re.compile(r"['’](?:s|t|d|m|re|ve|ll)?$", re.IGNORECASE)
_INFIX = re.compile(r"(?<=[^\W\d_])[-–—/,:;.&+|'’]+(?=[^\W\d_])")
_EDGES = "\"'’“”‘()[]{}<>,.;:!?*&+|/-–—…"
SPACY_NOUNS = frozenset(("NOUN", "PROPN"))


class NounRule:
    """Words of letters that are no stop words."""

    def __init__(self, stop_words: Collection[str] = FUNCTION_WORDS) -> None:
        """Make a rule with stop words, in lower case."""
        self._stop_words = frozenset(stop_words)
        self._nouns = lru_cache(maxsize=16_384)(self._read)

    def __call__(self, title: str) -> tuple[str, ...]:
        """Return the nouns of a title."""
        return self._nouns(title)

    def _read(self, title: str) -> tuple[str, ...]:
        found = []
        for word in title.split():
            for piece in _INFIX.split(_CLITIC.sub("", word.strip(_EDGES))):
                lowered = piece.lower()
                if piece.isalpha() and lowered not in self._stop_words:
                    found.append(lowered)
        return tuple(found)


class SpacyTagger:
    """spaCy's part-of-speech tagger, as the original has it."""

    def __init__(self, model: str = "en_core_web_sm") -> None:
        """Load a model of spaCy.

        Raises:
            MissingExtraError: spaCy is not installed.
            ConfigError: The model is not installed.
        """
        try:
            spacy: Any = importlib.import_module("spacy")
        except ImportError as error:
            raise MissingExtraError("spacy", "nouns") from error
        try:
            self._pipeline: Any = spacy.load(model)
        except OSError as error:
            raise ConfigError(
                f"spaCy has no model {model!r}: install it with python -m spacy download {model}"
            ) from error
        self._nouns = lru_cache(maxsize=16_384)(self._read)

    def __call__(self, title: str) -> tuple[str, ...]:
        """Return the nouns of a title."""
        return self._nouns(title)

    def _read(self, title: str) -> tuple[str, ...]:
        return tuple(token.text.lower() for token in self._pipeline(title) if token.pos_ in SPACY_NOUNS)


RULE = NounRule()


@lru_cache(maxsize=4)
def open_tagger(name: str) -> Tagger:
    """Return a tagger by name: ``"rule"``, ``"spacy"`` or ``"spacy:MODEL"``.

    Raises:
        UnknownNameError: There is no such tagger.
        MissingExtraError: It needs spaCy, which is not installed.
    """
    if name == "rule":
        return RULE
    kind, _, model = name.partition(":")
    if kind == "spacy":
        return SpacyTagger(model) if model else SpacyTagger()
    raise unknown_name("tagger", name, ("rule", "spacy", "spacy:MODEL"))
