"""Records of public data sets to questions: one function per format, each told by the keys that only it has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from turnwise.envs.retrieval.interface import Document, split_sentences
from turnwise.envs.searchqa.questions import UNANSWERABLE_ALIASES
from turnwise.envs.searchqa.session import ANY_SENTENCE
from turnwise.envs.searchqa.tasksets import Question
from turnwise.errors import ConfigError
from turnwise.records import Json, Task

Record = Mapping[str, Any]
Reader = Callable[[Record, str, str], Question]

PLACEHOLDER = re.compile(r"<(E\d+)>")
_WIKIPEDIA = "https://en.wikipedia.org/wiki/"
# The question of a Search-R1 prompt follows this word; the rest of the prompt explains the tags.
_PROMPT_QUESTION = re.compile(r"Question:\s*(.+?)\s*\Z", re.DOTALL)


def paragraph(title: str, sentences: Iterable[str]) -> Document:
    """Return a Wikipedia paragraph as a document; the same paragraph gets the same id in every question.

    Args:
        title: The article's title.
        sentences: As marked in the data set; blanks around them are dropped, empty ones keep their index.
    """
    lines = tuple(" ".join(sentence.split()) for sentence in sentences)
    digest = blake2b("\n".join((title, *lines)).encode(errors="surrogatepass"), digest_size=5).hexdigest()
    # One article may give several paragraphs, so the fragment tells them apart.
    url = f"{_WIKIPEDIA}{quote(title.replace(' ', '_'), safe='')}#{digest}"
    return Document(f"p{digest}", title, lines, url)


def _texts(record: Record, where: str, *keys: str) -> list[str]:
    found = []
    for key in keys:
        value = record.get(key)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: {key!r} must be a text, got {value!r}")
        found.append(value.strip())
    return found


def _identity(record: Record, where: str) -> str:
    value = record.get("_id", record.get("id"))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(f"{where}: a question needs an 'id' or '_id', got {value!r}")
    return str(value)


def _pairs(value: Any, first: str, second: str, where: str) -> list[tuple[Any, Any]]:
    """Read a list of pairs in the original form, or in the columns that Hugging Face makes of it."""
    try:
        if isinstance(value, Mapping):
            return list(zip(value[first], value[second], strict=True))
        return [(item[0], item[1]) for item in value]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(f"{where}: expected pairs of {first} and {second}: {error}") from error


def read_hotpot(record: Record, split: str, where: str) -> Question:
    """Read HotpotQA (both settings) and 2WikiMultihopQA, in the original or in Hugging Face's form.

    Raises:
        ConfigError: The record breaks the format.
    """
    text, answer = _texts(record, where, "question", "answer")
    context = _pairs(record["context"], "title", "sentences", where)
    if isinstance(record["context"], Mapping) and "content" in record["context"]:
        context = _pairs(record["context"], "title", "content", where)
    documents = tuple(dict.fromkeys(paragraph(str(title), map(str, sentences)) for title, sentences in context))
    by_title: dict[str, Document] = {}
    for document in documents:
        by_title.setdefault(document.title, document)
    facts, lost = [], 0
    for title, number in _pairs(record.get("supporting_facts", ()), "title", "sent_id", where):
        named = by_title.get(str(title))
        # The data sets hold a few facts whose sentence does not exist.
        if named is None or not 0 <= int(number) < len(named.sentences):
            lost += 1
        else:
            facts.append((named.id, int(number)))
    data: dict[str, Json] = {
        "answer": answer,
        "aliases": _strings(record.get("answer_aliases", ())),
        "supporting_facts": [list(fact) for fact in dict.fromkeys(facts)],
        "supporting_facts_lost": lost,
        "level": str(record.get("level", "")),
    }
    if "evidences" in record:
        data["evidences"] = _json(record["evidences"])
    return _question(_identity(record, where), split, text, str(record.get("type", "")), data, documents)


def read_musique(record: Record, split: str, where: str) -> Question:
    """Read MuSiQue, answerable and full; an unanswerable twin shares its question's id, so its own gets a suffix.

    Raises:
        ConfigError: The record breaks the format.
    """
    text, answer = _texts(record, where, "question", "answer")
    documents: dict[int, Document] = {}
    facts = []
    for part in record["paragraphs"]:
        try:
            body = str(part["paragraph_text"])
            document = paragraph(str(part["title"]), split_sentences(body))
            documents[int(part["idx"])] = document
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{where}: a paragraph needs idx, title and paragraph_text: {error}") from error
        if part.get("is_supporting"):
            facts.append((document.id, ANY_SENTENCE))
    answerable = bool(record.get("answerable", True))
    decomposition: list[Json] = []
    for part in record.get("question_decomposition", ()):
        index = part.get("paragraph_support_idx")
        document_of = documents.get(index) if isinstance(index, int) else None
        decomposition.append(
            {
                "id": str(part.get("id", len(decomposition))),
                "question": str(part.get("question", "")),
                "answer": str(part.get("answer", "")),
                "document": None if document_of is None else document_of.id,
                "sentence": ANY_SENTENCE,
            }
        )
    data: dict[str, Json] = {
        "answer": answer if answerable else UNANSWERABLE_ALIASES[0],
        "aliases": _strings(record.get("answer_aliases", ())) if answerable else list(UNANSWERABLE_ALIASES),
        "answerable": answerable,
        "supporting_facts": [list(fact) for fact in dict.fromkeys(facts)],
        "decomposition": decomposition,
    }
    name = _identity(record, where)
    kind = name.partition("_")[0]
    unique = tuple(dict.fromkeys(documents.values()))
    return _question(name if answerable else f"{name}/unanswerable", split, text, kind, data, unique)


def read_flashrag(record: Record, split: str, where: str) -> Question:
    """Read NQ, TriviaQA, PopQA and others in FlashRAG's form: ``{"id", "question", "golden_answers"}``.

    Raises:
        ConfigError: The record breaks the format.
    """
    (text,) = _texts(record, where, "question")
    golds = _strings(record["golden_answers"])
    return _question(_identity(record, where), split, text, "", _golden(golds, where), ())


def read_search_r1(record: Record, split: str, where: str) -> Question:
    """Read Search-R1's training rows: ``reward_model.ground_truth.target`` and a chat ``prompt`` or a ``question``.

    Raises:
        ConfigError: The record breaks the format.
    """
    try:
        target = record["reward_model"]["ground_truth"]["target"]
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{where}: expected reward_model.ground_truth.target: {error}") from error
    extra = record.get("extra_info") or {}
    text = record.get("question")
    if not isinstance(text, str) or not text.strip():
        prompt = list(record.get("prompt") or [{}])[-1]
        match = _PROMPT_QUESTION.search(str(prompt.get("content", "")) if isinstance(prompt, Mapping) else str(prompt))
        if match is None:
            raise ConfigError(f"{where}: the prompt has no 'Question:'")
        text = match[1]
    name = record.get("id")
    if name is None:
        source = record.get("data_source", "row")
        name = (
            f"{source}_{extra.get('split', split)}_{extra['index']}" if "index" in extra else where.rpartition(": ")[2]
        )
    return _question(str(name), split, text.strip(), str(record.get("data_source", "")), _golden(target, where), ())


def read_deepdive(record: Record, split: str, where: str) -> Question:
    """Read DeepDive's questions and CaRR's, with rubrics in the record or in ``metadata.remote_env_info``.

    Raises:
        ConfigError: The record breaks the format, or a rubric has no placeholder.
    """
    environment = (record.get("metadata") or {}).get("remote_env_info") or record.get("remote_env_info") or {}
    text: Any = record.get("question")
    if not isinstance(text, str) or not text.strip():
        text = next(iter(environment.get("search_forbidden_strs") or ()), None)
    answer: Any = record.get("answer", record.get("label"))
    answer = next(iter(answer), None) if isinstance(answer, list) else answer
    if not isinstance(text, str) or not text.strip() or not isinstance(answer, str) or not answer.strip():
        raise ConfigError(f"{where}: expected a question and an answer (or label), got {sorted(record)}")
    value = record.get("id", record.get("_id"))
    name = where.rpartition(": ")[2] if value is None else str(value)
    named = where if value is None else f"{where} ({name!r})"
    rubrics = _rubrics(record.get("rubrics", environment.get("rubrics", ())), named)
    data: dict[str, Json] = {"answer": answer.strip(), "aliases": [], "rubrics": rubrics}
    return _question(name, split, text.strip(), "deep search", data, ())


def _rubrics(value: Any, where: str) -> list[str]:
    rubrics = [value] if isinstance(value, str) else list(value)
    for position, rubric in enumerate(rubrics):
        if not isinstance(rubric, str):
            raise ConfigError(f"{where}: rubrics[{position}] must be a text, got {rubric!r}")
        if PLACEHOLDER.search(rubric) is None:
            raise ConfigError(
                f"{where}: rubrics[{position}], {rubric[:120]!r}, has no placeholder: it could never be connected to "
                "the answer. Write <E0> for the answer and <E1>, <E2>.. for other entities"
            )
    if rubrics and not any("<E0>" in rubric for rubric in rubrics):
        raise ConfigError(f"{where}: no rubric speaks of <E0>, the answer: none could be connected to it")
    return rubrics


def _golden(golds: Any, where: str) -> dict[str, Json]:
    aliases = _strings(golds)
    if not aliases:
        raise ConfigError(f"{where}: there is no golden answer")
    return {"answer": aliases[0], "aliases": aliases}


def _strings(value: Any) -> list[str]:
    """Return texts from a text, a list or an array."""
    return [value] if isinstance(value, str) else [str(item) for item in value]


def _json(value: Any) -> Json:
    """Return plain lists and dicts in place of the arrays that Parquet readers give."""
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, str | int | float) or value is None:
        return value
    return [_json(item) for item in value]


def _question(
    name: str, split: str, text: str, kind: str, data: dict[str, Json], documents: tuple[Document, ...]
) -> Question:
    return Question(Task(id=name, split=split, instruction=text, type=kind, data=data), documents)


def reader_of(record: Record, where: str) -> Reader:
    """Return the reader of a record's format.

    Raises:
        ConfigError: It is none of the formats.
    """
    if "context" in record and "question" in record:
        return read_hotpot
    if "paragraphs" in record:
        return read_musique
    if "golden_answers" in record:
        return read_flashrag
    if isinstance(record.get("reward_model"), Mapping):
        return read_search_r1
    if ("answer" in record and "question" in record) or "label" in record:
        return read_deepdive
    raise ConfigError(
        f"{where}: unknown format with the keys {sorted(map(str, record))[:12]}; known are HotpotQA and 2Wiki "
        "(context), MuSiQue (paragraphs), FlashRAG (golden_answers), Search-R1 (reward_model), DeepDive and CaRR "
        "(answer or label)"
    )
