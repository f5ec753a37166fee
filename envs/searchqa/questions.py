"""Drafts to tasks: uniqueness proved, shortcuts refused, evidence and rubrics attached."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from turnwise.envs.retrieval.analysis import terms
from turnwise.envs.retrieval.interface import Document
from turnwise.envs.searchqa import drafts
from turnwise.envs.searchqa.beliefs import Populations, belief_data
from turnwise.envs.searchqa.drafts import UNANSWERABLE, Draft, Step, Walker
from turnwise.envs.searchqa.forms import Facts, Value, evaluate
from turnwise.envs.searchqa.names import Draws
from turnwise.envs.searchqa.schema import BY_NAME, DIRECTED_BY, TERM_STATEMENT
from turnwise.records import Json, Task

QUESTIONS = {"train": 2_000, "val": 300, "test": 300}
UNANSWERABLE_ALIASES = (
    UNANSWERABLE,
    "unknown",
    "not known",
    "not recorded",
    "it is not recorded",
    "nobody knows",
    "no answer",
    "cannot be determined",
    "not answerable",
)
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# Type, hops and share of the questions.
MIX: tuple[tuple[Callable[[Walker, int], Draft | None], int, float], ...] = (
    (drafts.bridge, 1, 0.08),
    (drafts.bridge, 2, 0.16),
    (drafts.bridge, 3, 0.16),
    (drafts.bridge, 4, 0.10),
    (drafts.comparison, 2, 0.09),
    (drafts.comparison, 3, 0.05),
    (drafts.intersection, 2, 0.07),
    (drafts.intersection, 3, 0.05),
    (drafts.count, 2, 0.05),
    (drafts.count, 3, 0.03),
    (drafts.temporal, 2, 0.06),
    (drafts.temporal, 3, 0.03),
    (drafts.temporal, 4, 0.01),
    (drafts.unanswerable, 2, 0.04),
    (drafts.unanswerable, 3, 0.02),
)
_ATTEMPTS = 2_000  # per question; some types need many, all are found


class Maker:
    """Makes the questions of one split."""

    def __init__(self, facts: Facts, documents: Mapping[str, Document], split: str, seed: int) -> None:
        """Prepare a split.

        Args:
            facts: The world.
            documents: Its pages by id.
            split: Which entities to ask about.
            seed: Of the walks.
        """
        self._facts, self._documents, self._split = facts, documents, split
        self._draws = Draws(seed, 4, list(QUESTIONS).index(split))
        self._walker = Walker(facts, split, self._draws)
        self._populations = Populations(facts)
        self._terms: dict[str, frozenset[str]] = {}
        self._texts: set[str] = set()

    def make(self, count: int) -> list[Task]:
        """Return tasks in mixed order; their ids say type and hops."""
        tasks = [
            self._one(maker, hops, number)
            for maker, hops, share in MIX
            for number in range(max(1, round(count * share)))
        ]
        self._draws.shuffle(tasks)
        return tasks

    def _one(self, maker: Callable[[Walker, int], Draft | None], hops: int, number: int) -> Task:
        for _ in range(_ATTEMPTS):
            draft = maker(self._walker, hops)
            if draft is None or draft.text in self._texts:
                continue
            answer = self.proved(draft)
            if answer is not None and not self.shortcut(draft, answer):
                self._texts.add(draft.text)
                return Task(
                    id=f"{self._split}/{draft.type}-{hops}hop-{number:04d}",
                    split=self._split,
                    instruction=draft.text,
                    type=draft.type,
                    data=self._data(draft, answer, hops),
                )
        raise RuntimeError(
            f"no {maker.__name__} question with {hops} hops in {_ATTEMPTS} walks: the world is too small"
        )

    def proved(self, draft: Draft) -> Value | None:
        """Return the only answer of a draft, or None where there is not exactly one."""
        values = evaluate(self._facts, draft.form)
        if draft.type == UNANSWERABLE:
            return None if values else UNANSWERABLE
        if len(values) != 1:
            return None
        (answer,) = values
        return None if answer == 0 else answer

    def shortcut(self, draft: Draft, answer: Value) -> bool:
        """Whether the last documents could be found, or the answer read, without the hops between."""
        named = set(draft.starts)
        if len(named) != len(draft.starts) or answer in named:
            return True
        depth = max(step.depth for step in draft.steps)
        if depth == 1:
            return False
        words = frozenset().union(*(self._name_terms(start) for start in draft.starts))
        lasts = {step.subject for step in draft.steps if step.depth == depth}
        if any(last in named or words & self._words(last) for last in lasts):
            return True
        # A comparison's answer is one of two that the first hops name; which of them, only the last hops say.
        hidden = isinstance(answer, str) and draft.type not in (UNANSWERABLE, "comparison")
        answered = self._name_terms(answer) if hidden else frozenset()
        return bool(answered) and any(answered <= self._words(start) for start in draft.starts)

    def _words(self, document: str) -> frozenset[str]:
        found = self._terms.get(document)
        if found is None:
            page = self._documents[document]
            found = self._terms[document] = frozenset(terms(f"{page.title} {page.text}"))
        return found

    def _name_terms(self, node: Value) -> frozenset[str]:
        return frozenset(terms(self._facts.name(node))) - _COMMON

    # -- what a task carries -----------------------------------------------------------------------

    def _data(self, draft: Draft, answer: Value, hops: int) -> dict[str, Json]:
        steps = draft.steps
        support = list(dict.fromkeys((step.subject, self._sentence(step)) for step in steps))
        depth = max(step.depth for step in steps)
        return {
            "answer": self._answer_name(answer),
            "aliases": self._aliases(answer),
            "answerable": draft.type != UNANSWERABLE,
            "evidence_required": True,
            "hops": hops,
            "supporting_facts": [list(fact) for fact in support],
            "decomposition": self._decomposition(draft, answer),
            "first_documents": list(dict.fromkeys(step.subject for step in steps if step.depth == 1)),
            "last_documents": list(dict.fromkeys(step.subject for step in steps if step.depth == depth)),
            "entities": sorted({*draft.starts, *_nodes(steps)}),
            "form": draft.form,
            "beliefs": belief_data(
                draft,
                None if answer == UNANSWERABLE else answer,
                facts=self._facts,
                populations=self._populations,
                documents=self._documents,
                sentence=self._sentence,
            ),
            **self._rubrics(draft, answer),
        }

    def _sentence(self, step: Step) -> int:
        if step.object is None:
            missing: int = self._facts.graph.nodes[step.subject]["missing_sentences"][step.relation]
            return missing
        return self._facts.sentence(step.subject, step.relation, step.object, step.since)

    def _answer_name(self, answer: Value) -> str:
        return answer if answer == UNANSWERABLE else self._facts.name(answer)

    def _aliases(self, value: Value) -> list[str]:
        if value == UNANSWERABLE:
            return list(UNANSWERABLE_ALIASES)
        if isinstance(value, int):
            return [str(value), _NUMBERS[value]] if value < len(_NUMBERS) else [str(value)]
        return list(self._facts.graph.nodes[value]["aliases"])

    def _decomposition(self, draft: Draft, answer: Value) -> list[Json]:
        """Return the single-hop questions, MuSiQue style: ``#2`` stands for the answer of the second one."""
        found: dict[Value, str] = {}
        parts: list[Json] = []
        for step in draft.steps:
            known = step.subject in draft.starts or step.subject in found
            # Where the subject is what is looked for, the known object is what to search with.
            target = step.object if known else step.subject
            number = f"#{len(parts) + 1}"
            parts.append(
                {
                    "id": number,
                    "question": self._sub_question(step, found, known=known),
                    "answer": UNANSWERABLE if target is None else self._facts.name(target),
                    "document": step.subject,
                    "sentence": self._sentence(step),
                    "depth": step.depth,
                    "query": self._facts.name(step.subject if known or step.object is None else step.object),
                }
            )
            if target is not None:
                found.setdefault(target, number)
        return parts

    def _sub_question(self, step: Step, found: Mapping[Value, str], *, known: bool) -> str:
        if not known and step.object is not None:
            other = found.get(step.object, self._facts.name(step.object))
            return "Of what is it true: " + _statement(step, s="it", o=other)
        subject = found.get(step.subject, self._facts.name(step.subject))
        if step.relation == DIRECTED_BY:
            return f"Who directed {subject} at that time?"
        return BY_NAME[step.relation].questions[0].format(x=subject)

    def _rubrics(self, draft: Draft, answer: Value) -> dict[str, Json]:
        """Return CaRR rubrics, one statement per fact; ``<E0>`` is the answer, ``<E1>``.. stand for what is hidden."""
        slots: dict[Value, str] = {answer: "E0"}
        for step in draft.steps:
            for node in (step.subject, step.object):
                if node is not None and node not in draft.starts and node not in slots:
                    slots[node] = f"E{len(slots)}"
        shown = {node: f"<{slot}>" for node, slot in slots.items()}

        def name(node: Value | None) -> str:
            return "<E0>" if node is None else shown.get(node) or self._facts.name(node)

        rubrics = [_statement(step, s=name(step.subject), o=name(step.object)) for step in draft.steps]
        support = [[[step.subject, self._sentence(step)]] for step in draft.steps]
        if draft.conclusion is not None:
            fields = {str(node): text for node, text in shown.items()}
            rubrics.append(_SLOT.sub(lambda match: "<E0>" if match[1] == "E0" else fields[match[1]], draft.conclusion))
            support.append([[step.subject, self._sentence(step)] for step in draft.joined])
        return {
            "rubrics": rubrics,
            "rubric_entities": {slot: self._aliases(node) for node, slot in slots.items()},
            "rubric_support": support,
        }


_SLOT = re.compile(r"\{(\w+)\}")
_COMMON = frozenset(
    terms("the of Lanterns Orchard Winter Ledger Ferry Garden Bells Road Mirror Letters Harbour Congress Festival")
    + terms("Exhibition Assembly Regatta Symposium Institute Press Society")
)


def _statement(step: Step, *, s: str, o: str) -> str:
    if step.relation == DIRECTED_BY:
        text = TERM_STATEMENT.format(s=s, o=o, since=step.since, until=step.until)
    else:
        text = BY_NAME[step.relation].statement.format(s=s, o=o)
    return text[0].upper() + text[1:]


def _nodes(steps: Sequence[Step]) -> set[str]:
    nodes = {step.subject for step in steps}
    return nodes | {step.object for step in steps if isinstance(step.object, str)}
