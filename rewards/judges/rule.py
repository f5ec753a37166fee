"""The exact judge of worlds that know which sentence states which fact."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from turnwise.errors import JudgeError
from turnwise.protocols import JudgeCase, JudgePage, Passage, Verdict
from turnwise.records import Json
from turnwise.rewards.carr.report import exact_answer
from turnwise.rewards.carr.rubrics import ANSWER

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def normalise(text: str) -> str:
    """Return a text as the HotpotQA script compares answers: lower case, no punctuation, articles or extra blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


class RuleJudge:
    """Judges by the task's own data; no model, no chance.

    * The answer is right iff the report's exact answer (all of a report without that section) equals the answer or
      an alias after HotpotQA's normalising.
    * An entity is identified iff the report names it by one of ``task.data["rubric_entities"][id]``, as whole words;
      the answer ``E0`` must be the exact answer, where the report has such a section. A name that is not the
      entity's counts as none.
    * A statement is supported iff everything in ``task.data["rubric_support"][i]`` was shown on cited pages: a list
      of ``[document id, sentence index]``, or of ``[document id, sentence text]`` for worlds that do not number them.
    * A search is useful iff it shows a document of ``task.data["supporting_facts"]`` for the first time.

    What the task's data do not tell cannot be judged.
    """

    remote = False

    def answer(self, case: JudgeCase) -> Verdict:
        """Compare the exact answer with the right ones."""
        if not case.answers:
            raise JudgeError(f"task {case.task.id!r} has no answer in its data, so no rule can judge one")
        given = exact_answer(case.report)
        given = case.report if given is None else given
        holds = normalise(given) in {normalise(answer) for answer in case.answers}
        return Verdict(holds=holds, passages=(Passage(url="", quote=given),))

    def entities(self, case: JudgeCase) -> Mapping[str, str | None]:
        """Look for the entities' names."""
        known = _entry(case, "rubric_entities", Mapping)
        text = f" {_words(case.report)} "
        given = exact_answer(case.report)
        names: dict[str, str | None] = {}
        for slot, aliases in known.items():
            if slot == ANSWER and given is not None:
                names[slot] = next((a for a in aliases if normalise(a) == normalise(given)), None)
            else:
                names[slot] = next((a for a in aliases if f" {_words(a)} " in text), None)
        return names

    def support(
        self, case: JudgeCase, statements: Mapping[int, str], pages: Sequence[JudgePage]
    ) -> Mapping[int, Verdict]:
        """Look for the sentences that state the facts."""
        facts = _entry(case, "rubric_support", list)
        by_key = {key: page for page in reversed(pages) for key in (page.id, page.url) if key}
        return {index: _supported(facts, index, statement, by_key) for index, statement in statements.items()}

    def useful(self, case: JudgeCase, query: str, found: Sequence[JudgePage], earlier: Sequence[JudgePage]) -> Verdict:
        """Look for supporting documents that were not shown before."""
        wanted = supporting_documents(case.task.data)
        if not wanted:
            raise JudgeError(f"task {case.task.id!r} has no 'supporting_facts', so no rule can judge a search")
        before = {key for page in earlier for key in keys(page)}
        new = [page for page in found if wanted & keys(page) - before]
        return Verdict(holds=bool(new), passages=tuple(Passage(url=page.url) for page in new))

    def describe(self) -> dict[str, Json]:
        """Return the configuration."""
        return {"use": "rule"}


def supporting_documents(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the ids or titles of the documents that a question rests on; empty where nobody knows."""
    facts = data.get("supporting_facts")
    if not isinstance(facts, list):
        return frozenset()
    return frozenset(str(fact[0]) if isinstance(fact, (list, tuple)) and fact else str(fact) for fact in facts)


def keys(page: JudgePage) -> frozenset[str]:
    """Return everything that a page may be called by: id, address, title."""
    return frozenset(key for key in (page.id, page.url, page.title) if key)


def _entry(case: JudgeCase, name: str, kind: type[Any]) -> Any:
    entry = case.task.data.get(name)
    if not isinstance(entry, kind):
        raise JudgeError(
            f"task {case.task.id!r} has no {name!r} in its data: the rule judge needs it, use an LLM judge"
        )
    return entry


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _supported(facts: list[Any], index: int, statement: str, pages: Mapping[str, JudgePage]) -> Verdict:
    wanted = facts[index] if index < len(facts) else None
    if not wanted:
        return Verdict(holds=None, reason=f"the task's data do not say what supports rubric {index}")
    passages = []
    for document, sentence in _pairs(wanted):
        page = pages.get(document)
        if page is None:
            return Verdict(holds=False, reason=f"{document} is not among the cited pages")
        if isinstance(sentence, int):
            if sentence not in page.sentences:
                return Verdict(holds=False, reason=f"sentence {sentence} of {document} was never shown")
            quote = page.sentences[sentence] or _closest_sentence(page.text, statement)
            passages.append(Passage(url=page.url, quote=quote))
        elif sentence in page.text:
            passages.append(Passage(url=page.url, quote=sentence))
        else:
            return Verdict(holds=False, reason=f"a sentence of {document} was never shown")
    return Verdict(holds=True, passages=tuple(passages))


def _pairs(wanted: Any) -> Iterable[tuple[str, int | str]]:
    for fact in wanted:
        if not isinstance(fact, (list, tuple)) or len(fact) < 2 or not isinstance(fact[1], (int, str)):
            raise JudgeError(f"rubric_support holds [document, sentence], got {fact!r}")
        yield str(fact[0]), fact[1]


def _closest_sentence(text: str, statement: str) -> str:
    """Return the sentence that shares most words with a statement, for people to read."""
    wanted = set(_words(statement).split())
    best, most = "", -1.0
    for sentence in _SENTENCE_END.split(text):
        words = _words(sentence).split()
        shared = len(wanted.intersection(words)) - 0.01 * len(words)
        if shared > most:
            best, most = sentence, shared
    return best
