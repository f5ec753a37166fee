"""Task sets of search QA: questions, and the paragraphs that came with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from turnwise.envs.retrieval.interface import Document
from turnwise.records import Task
from turnwise.tasks import ListTaskSet


class Question(NamedTuple):
    """A question as a loader read it.

    Attributes:
        task: The task.
        documents: The paragraphs that came with it, or none.
    """

    task: Task
    documents: tuple[Document, ...] = ()


class SearchTasks(ListTaskSet):
    """Questions of one split, with their own paragraphs where the data set has them."""

    def __init__(self, questions: Sequence[Question], *, split: str, source: str) -> None:
        """Hold questions in their order.

        Args:
            questions: At least one, with ids of their own.
            split: Name of the split.
            source: Where they come from, for errors.

        Raises:
            ConfigError: There are none, or two share an id.
        """
        super().__init__([question.task for question in questions], split=split)
        self.source = source
        self._documents: Mapping[str, tuple[Document, ...]] = {q.task.id: q.documents for q in questions if q.documents}

    @property
    def has_documents(self) -> bool:
        """Whether every question came with paragraphs."""
        return len(self._documents) == len(self)

    def documents(self, task_id: str) -> tuple[Document, ...]:
        """Return the paragraphs of a question."""
        return self._documents.get(task_id, ())

    def pooled(self) -> list[Document]:
        """Return the paragraphs of all questions, each once, in the order of their first appearance."""
        found: dict[str, Document] = {}
        for documents in self._documents.values():
            for document in documents:
                found.setdefault(document.id, document)
        return list(found.values())
