"""Scripted solvers: they know which facts are needed, but must search for them, open and cite them like anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from turnwise.envs.searchqa.report import Citation, cite, write_report
from turnwise.envs.searchqa.session import ANY_SENTENCE, Fact

if TYPE_CHECKING:
    from turnwise.envs.searchqa.env import SearchQAEnv

_K = 10
_MORE = 20


class _Walk:
    """The facts of a task in the order of its decomposition, and what to search for each of them."""

    def __init__(self, env: SearchQAEnv) -> None:
        self.env = env
        self.data = env.task.data
        self.queries: dict[str, str] = {}
        for part in self.data.get("decomposition", ()):
            if part.get("query"):
                self.queries.setdefault(str(part["document"]), str(part["query"]))
        facts = [(str(document), int(number)) for document, number in self.data.get("supporting_facts", ())]
        self.facts: list[Fact] = facts
        self.documents = list(dict.fromkeys(document for document, _ in facts))

    def searches(self, document_id: str) -> Iterator[tuple[str, int]]:
        """Yield queries and numbers of results that should list a document."""
        if document_id in self.queries:
            yield self.queries[document_id], _K
        document = self.env.engine.lookup(document_id)
        title = document.title if document is not None else ""
        for query in (title, f"{title} {self.env.task.instruction}", self.env.task.instruction):
            if query.strip():
                yield query, _K
        if document is not None:
            yield document.text[:300], _MORE

    def missing(self, document_id: str, info: Mapping[str, Any]) -> list[Fact]:
        """Return the facts of a document that were not read yet."""
        found = {(str(document), int(number)) for document, number in info["extra"]["supporting_facts_found"]}
        return [fact for fact in self.facts if fact[0] == document_id and fact not in found]


class WalkingExpert:
    """Searches, opens and cites every supporting document, then writes the report (keeps the Expert protocol)."""

    def __init__(self, env: SearchQAEnv) -> None:
        """Prepare for the current episode."""
        self._walk = _Walk(env)
        self._moves = self._play()
        self._info: Mapping[str, Any] = {}

    def act(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Return the next action as a JSON tool call."""
        self._info = info
        return next(self._moves)

    def _play(self) -> Iterator[str]:
        for document_id in self._walk.documents:
            if self._walk.missing(document_id, self._info):
                yield from self._reach(document_id)
                yield from self._read(document_id)
        if not self._walk.documents:
            yield _call("search", query=self._walk.env.task.instruction)
        while True:
            yield _call("answer", text=self._report())

    def _reach(self, document_id: str) -> Iterator[str]:
        for query, k in self._walk.searches(document_id):
            if document_id in self._info["extra"]["documents_shown"]:
                return
            yield _call("search", query=query, k=k)

    def _read(self, document_id: str) -> Iterator[str]:
        page, error = 1, None
        while error is None and self._walk.missing(document_id, self._info):
            yield _call("open", doc=document_id, page=page)
            page, error = page + 1, self._info["action_error"]

    def _report(self) -> str:
        lines, sources = [], []
        shown = self._info["extra"]["documents_shown"]
        for document_id in self._walk.documents:
            document = self._walk.env.engine.lookup(document_id)
            if document is None or document_id not in shown:
                continue
            source = Citation(document_id, document.url)
            sources.append(source)
            for name, number in self._walk.facts:
                if name == document_id:
                    said = document.sentences[max(number, 0)] if number != ANY_SENTENCE or document.sentences else ""
                    # The sentence may not name what it is about ("Its author is ..."). And a link inside a quotation
                    # would be read as a citation of our own.
                    quoted = f"{document.title}: {said}".replace("[", "(").replace("]", ")")
                    lines.append(f"{quoted} {cite(source)}")
        return write_report(str(self._walk.data["answer"]), " ".join(lines), sources)


class TagExpert:
    """The same in Search-R1's tags (keeps the Expert protocol)."""

    def __init__(self, env: SearchQAEnv) -> None:
        """Prepare for the current episode."""
        self._walk = _Walk(env)
        self._moves = self._play()
        self._info: Mapping[str, Any] = {}

    def act(self, observation: Any, info: Mapping[str, Any]) -> str:
        """Return the next message."""
        self._info = info
        return next(self._moves)

    def _play(self) -> Iterator[str]:
        for document_id in self._walk.documents:
            for query, _ in self._walk.searches(document_id):
                if not self._walk.missing(document_id, self._info):
                    break
                yield f"<search>{_untagged(query)}</search>"
        if not self._walk.documents:
            yield f"<search>{_untagged(self._walk.env.task.instruction)}</search>"
        while True:
            yield f"<answer>{_untagged(str(self._walk.data['answer']))}</answer>"


def _untagged(text: str) -> str:
    return text.replace("<", " ").replace(">", " ")


def _call(tool: str, **arguments: str | int) -> str:
    return json.dumps({"name": tool, "arguments": arguments}, ensure_ascii=False)
