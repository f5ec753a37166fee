"""The search world: find documents, read them, answer with citations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal, NamedTuple

from turnwise.actions import ActionGrammar
from turnwise.env import MAX_OBSERVATION_CHARS, Bookmark, StepResult, TurnEnv
from turnwise.envs.retrieval.interface import Document, Engine
from turnwise.envs.searchqa.embedded import embedded_tasks, search_split
from turnwise.envs.searchqa.expert import TagExpert, WalkingExpert
from turnwise.envs.searchqa.grading import Grade, cited_documents, grade
from turnwise.envs.searchqa.grammar import GRAMMAR
from turnwise.envs.searchqa.pages import information, matches, page_text, pages, result_list
from turnwise.envs.searchqa.report import read_report
from turnwise.envs.searchqa.session import Fact, Session, Shown
from turnwise.envs.searchqa.sources import own_engine, shared_engine
from turnwise.envs.searchqa.tasksets import SearchTasks
from turnwise.errors import ConfigError, did_you_mean, unknown_name
from turnwise.protocols import Expert
from turnwise.records import Action, Task

MAX_K = 20
TAG_K = 3  # Search-R1's topk
_QUOTED = 80


class SearchState(NamedTuple):
    """A point of an episode, as :meth:`SearchQAEnv.state` returns it. Cheap to take and to keep."""

    mark: Bookmark
    session: Session


class SearchQAEnv(TurnEnv[str]):
    """Questions over documents: ``search``, ``open``, ``find`` and ``answer`` with ``[[id](url)]`` citations.

    An answer ends the episode. Its reward is 1.0 if it equals the gold answer or an alias after HotpotQA's normalising
    (with ``reward="f1"`` the best token F1), else 0.0; every other turn's is 0.0. In the embedded world a right answer
    counts only if a document that states it was read before: a guess is worth nothing. An answer that is empty, or
    cites what the session never showed, is refused by an observation and does not end the episode.

    Outcome levels: ``no_answer``; ``answered`` (wrong); ``cited`` (wrong, but a supporting document is cited);
    ``correct``. ``info["progress"]`` is the share of supporting facts read, with the right answer as one more, and
    never falls. ``info["extra"]`` holds ``shown`` (what this turn's observation held: id, url, kind, sentence indices
    and text of each piece), ``documents_shown`` and ``documents_read`` (ids), ``supporting_facts_found`` and
    ``supporting_facts`` (a count), ``queries`` and ``grade`` (None before the answer).
    """

    grammar: ClassVar[ActionGrammar] = GRAMMAR
    outcome_levels: ClassVar[tuple[str, ...]] = ("no_answer", "answered", "cited", "correct")
    experts: ClassVar[tuple[str, ...]] = ("expert", "tags")
    default_max_turns: ClassVar[int] = 40
    random_floor: ClassVar[float] = 0.02
    tasks: SearchTasks

    def __init__(
        self,
        *,
        data: str | None = None,
        split: str = "train",
        max_turns: int | None = None,
        render_mode: str | None = None,
        corpus: str | None = None,
        ranker: str = "bm25",
        top_k: int = 5,
        tag_k: int = TAG_K,
        page_chars: int = 2_000,
        snippet_chars: int = 160,
        observation_chars: int = 8_000,
        reward: Literal["em", "f1"] = "em",
    ) -> None:
        """Make an environment over a task set and a corpus.

        Args:
            data: None for the embedded world, or a file of HotpotQA, 2WikiMultihopQA, MuSiQue, NQ, TriviaQA or PopQA
                (in Search-R1's or FlashRAG's form), DeepDive or CaRR; or a folder with a file per split.
            split: train, val or test.
            max_turns: Turns after which an episode is truncated.
            render_mode: None or ``"ansi"``.
            corpus: What to search: ``"own"`` (each question's paragraphs), ``"pooled"`` (those of all questions), the
                path of a JSONL corpus, or the address of a Search-R1 server. None takes the embedded documents, or
                ``"own"`` where the data have paragraphs.
            ranker: ``"bm25"``, ``"bm25s"``, ``"tantivy"`` or ``"dense:module:function"``.
            top_k: Results of a search that does not say how many, 1 to 20.
            tag_k: Documents of a search in tags, 1 to 20.
            page_chars: Characters of a page of an opened document.
            snippet_chars: First characters of a document that a list of results shows.
            observation_chars: Longest observation, at least 500.
            reward: What the final answer earns: exact match or F1.

        Raises:
            ConfigError: An argument is out of range, or the data or the corpus cannot be read.
        """
        for name, value, low, high in (
            ("top_k", top_k, 1, MAX_K),
            ("tag_k", tag_k, 1, MAX_K),
            ("page_chars", page_chars, 100, MAX_OBSERVATION_CHARS),
            ("snippet_chars", snippet_chars, 0, MAX_OBSERVATION_CHARS),
            ("observation_chars", observation_chars, 500, MAX_OBSERVATION_CHARS),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
        if reward not in ("em", "f1"):
            raise ConfigError(f"reward must be 'em' or 'f1', got {reward!r}")
        super().__init__(data=data, split=split, max_turns=max_turns, render_mode=render_mode)
        self.top_k, self.tag_k, self.reward = top_k, tag_k, reward
        self.page_chars, self.snippet_chars, self.observation_chars = page_chars, snippet_chars, observation_chars
        self._ranker = ranker
        self._engine = shared_engine(self.tasks, corpus, ranker, embedded=data is None)
        self._session = Session()
        self._own: tuple[str, Engine] | None = None

    @classmethod
    def make_task_set(cls, *, data: str | None = None, split: str = "train") -> SearchTasks:
        """Return the questions of a split, embedded or from a public data set's file.

        Raises:
            UnknownNameError: Nobody calls a split that.
            ConfigError: The data cannot be read.
        """
        name = search_split(split)
        if data is None:
            return embedded_tasks(name)
        from turnwise.envs.searchqa.loaders import load_questions

        return load_questions(data, name)

    # -- what is searched --------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """What the current episode searches."""
        if self._engine is not None:
            return self._engine
        task = self.task
        if self._own is None or self._own[0] != task.id:
            self._own = task.id, own_engine(self.tasks, task.id, self._ranker)
        return self._own[1]

    def _lookup(self, document_id: str) -> Document | None:
        return self.engine.lookup(document_id)

    # -- the hooks of TurnEnv ----------------------------------------------------------------------

    @property
    def system_prompt(self) -> str:
        """The role and the grammar."""
        return (
            "Answer a question with the help of a collection of documents. Search, open what looks useful, and end "
            "with the answer. Say 'unanswerable' where the documents say that it is not known. Cite only documents "
            f"that you have seen.\n{self.grammar.explain()}"
        )

    def expert(self, kind: str | None = None) -> Expert:
        """Return a scripted solver.

        Args:
            kind: ``"expert"`` (the default) follows the supporting facts with search, open and a cited report;
                ``"tags"`` does so in Search-R1's tags.

        Raises:
            UnknownNameError: There is no such expert.
        """
        if kind in (None, "expert"):
            return WalkingExpert(self)
        if kind == "tags":
            return TagExpert(self)
        raise unknown_name("expert", str(kind), self.experts)

    def _begin(self, task: Task) -> StepResult[str]:
        self._session = Session()
        return self._tell(f"Question: {task.instruction}")

    def _apply(self, action: Action) -> StepResult[str]:
        if action.name == "search":
            return self._search(action)
        if action.name == "open":
            return self._open(action.arguments["doc"], action.arguments.get("page"))
        if action.name == "find":
            return self._find(action.arguments["pattern"])
        return self._answer(action.arguments["text"])

    def _tell(
        self, text: str, *, error: str | None = None, pieces: tuple[Shown, ...] = (), graded: Grade | None = None
    ) -> StepResult[str]:
        """Say something, and take account of the documents in it."""
        data = self.task.data
        wanted = self._wanted()
        proofs = frozenset(map(str, data.get("last_documents", ())))
        self._session = session = self._session.seeing(pieces, wanted, proofs)
        correct = graded is not None and graded.correct
        reward = 0.0
        if graded is not None:
            reward = float(correct) if self.reward == "em" else graded.f1 * float(graded.evidence)
        return StepResult(
            observation=text[: self.observation_chars],
            reward=reward,
            terminated=graded is not None,
            valid=error is None,
            error=error,
            progress=1.0 if correct else len(session.found) / (len(wanted) + 1),
            success=correct,
            level="no_answer" if graded is None else graded.level,
            extra={
                "shown": [piece.as_json() for piece in pieces],
                "documents_shown": [document_id for document_id, _ in session.listed],
                "documents_read": list(session.read),
                "supporting_facts_found": [list(fact) for fact in session.found],
                "supporting_facts": len(wanted),
                "queries": session.queries,
                "grade": None if graded is None else graded.as_json(),
            },
        )

    def _refuse(self, message: str) -> StepResult[str]:
        return self._tell(message, error=message)

    def _reject(self, problem: Any) -> StepResult[str]:
        result = super()._reject(problem)
        # What the last turn showed was not shown again.
        return replace(result, extra={**result.extra, "shown": []})

    def _wanted(self) -> tuple[Fact, ...]:
        return tuple((str(document), int(number)) for document, number in self.task.data.get("supporting_facts", ()))

    # -- the tools ---------------------------------------------------------------------------------

    def _search(self, action: Action) -> StepResult[str]:
        tags = action.command.startswith("<")
        k: int | None = self.tag_k if tags else self.top_k
        if "k" in action.arguments:
            k = _whole_number(action.arguments["k"])
            if k is None or not 1 <= k <= MAX_K:
                given = _quote(action.arguments["k"])
                return self._refuse(f"k must be a whole number from 1 to {MAX_K}, got {given}")
        hits = self.engine.search([action.arguments["query"]], k or 1)[0]
        documents = [hit.document for hit in hits]
        self._session = replace(
            self._session, queries=self._session.queries + 1, results=tuple(document.id for document in documents)
        )
        if tags:
            text, pieces = information(documents, self.observation_chars)
            return self._tell(text, pieces=pieces)
        if not documents:
            return self._tell("No document matches. Try other words.")
        text, pieces = result_list(documents, self.snippet_chars, self.observation_chars)
        return self._tell(text, pieces=pieces)

    def _open(self, key: str, page_number: str | None) -> StepResult[str]:
        session = self._session
        if not session.queries:
            return self._refuse("Nothing has been searched yet: search first, then open one of the results.")
        page = 1 if page_number is None else _whole_number(page_number)
        if page is None or page < 1:
            return self._refuse(f"the page must be a whole number of at least 1, got {_quote(page_number or '')}")
        name = session.named(key)
        document = None if name is None else self._lookup(name)
        if document is None:
            known = [document_id for document_id, _ in session.listed]
            hint = did_you_mean(key[:_QUOTED], known) if known else ""
            return self._refuse(f"No search has listed a document {_quote(key)}.{hint}")
        split = pages(document, self.page_chars)
        if page > len(split):
            return self._refuse(f"{document.id} has {len(split)} pages, there is no page {page}")
        self._session = replace(session, reading=(document.id, page))
        text, piece = page_text(document, split, page, self.observation_chars)
        return self._tell(text, pieces=(piece,))

    def _find(self, pattern: str) -> StepResult[str]:
        reading = self._session.reading
        document = None if reading is None else self._lookup(reading[0])
        if document is None:
            return self._refuse("No document is open: open one of the results first.")
        wanted = pattern.casefold()
        numbers = tuple(n for n, sentence in enumerate(document.sentences) if wanted in sentence.casefold())
        if not numbers:
            return self._tell(f"{_quote(pattern)} does not occur in {document.id} ({document.title[:200]}).")
        text, piece = matches(document, numbers, self.observation_chars)
        return self._tell(text, pieces=(piece,))

    def _answer(self, text: str) -> StepResult[str]:
        report = read_report(text)
        if not report.exact:
            return self._refuse("The answer is empty: write it in the section '## Exact Answer', or on its own.")
        cited, problem = cited_documents(report, self._session)
        if problem is not None:
            return self._refuse(problem)
        return self._tell("The answer was received.", graded=grade(report, cited, self._session, self.task.data))

    # -- branching ---------------------------------------------------------------------------------

    def state(self) -> SearchState:
        """Return the current point of the episode: a small immutable record.

        Raises:
            EpisodeOverError: ``reset`` was never called.
        """
        return SearchState(mark=self._bookmark(), session=self._session)

    def restore(self, state: SearchState) -> tuple[str, dict[str, Any]]:
        """Go back to a point of an episode, of this environment or of another one over the same data.

        Args:
            state: What :meth:`state` returned.

        Returns:
            The observation and ``info`` that were returned at that point.

        Raises:
            ConfigError: ``state`` is something else.
        """
        if not isinstance(state, SearchState):
            raise ConfigError(f"restore() takes what state() returned, got {type(state).__name__}")
        self._session = state.session
        return self._return_to(state.mark)


def _whole_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


def _quote(text: str) -> str:
    return repr(text) if len(text) <= _QUOTED else repr(text[:_QUOTED]) + "..."
