"""A scripted judge, and search episodes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from turnwise.errors import JudgeError
from turnwise.protocols import JudgeCase, JudgePage, Passage, Verdict
from turnwise.records import Action, Ending, Failure, Outcome, Task, Trajectory, Turn

REPORT = (
    "## Explanation with Citations\nMira Tolen [[1](https://w.example/Mira_Tolen)] was born in Oskar Bay "
    "[[2](https://w.example/Oskar_Bay)].\n\n## Exact Answer\nOskar Bay\n\n## References\n1. [[3](https://w.example/X)]"
)


class ScriptedJudge:
    """Says what it was told to say, and remembers what it was asked."""

    remote = False

    def __init__(
        self,
        *,
        names: Mapping[str, str | None] | None = None,
        verdicts: Mapping[int, bool | None] | None = None,
        passages: Mapping[int, Sequence[tuple[str, str]]] | None = None,
        correct: bool | None = True,
        useful: Sequence[bool | None] = (),
        failing: Sequence[str] = (),
    ) -> None:
        self.names, self.verdicts, self.passages = names or {}, verdicts or {}, passages or {}
        self.correct, self.usefulness, self.failing = correct, list(useful), failing
        self.asked: list[str] = []
        self.pages: Sequence[JudgePage] = ()
        self.statements: Mapping[int, str] = {}
        self.cases: list[JudgeCase] = []

    def _ask(self, what: str, case: JudgeCase) -> None:
        self.asked.append(what)
        self.cases.append(case)
        if what in self.failing:
            raise JudgeError(f"{what}: the judge is down")

    def answer(self, case: JudgeCase) -> Verdict:
        self._ask("answer", case)
        return Verdict(holds=self.correct, passages=(Passage(url="", quote="it"),), reason="so it is")

    def entities(self, case: JudgeCase) -> Mapping[str, str | None]:
        self._ask("entities", case)
        return self.names

    def support(
        self, case: JudgeCase, statements: Mapping[int, str], pages: Sequence[JudgePage]
    ) -> Mapping[int, Verdict]:
        self._ask("support", case)
        self.pages, self.statements = pages, statements
        return {
            index: Verdict(
                holds=self.verdicts.get(index, False),
                passages=tuple(Passage(url=url, quote=quote) for url, quote in self.passages.get(index, ())),
                reason=f"reason {index}",
            )
            for index in statements
        }

    def useful(self, case: JudgeCase, query: str, found: Sequence[JudgePage], earlier: Sequence[JudgePage]) -> Verdict:
        self._ask("useful", case)
        return Verdict(holds=self.usefulness.pop(0), reason=query)

    def describe(self) -> dict[str, Any]:
        return {"use": "scripted"}


ENDINGS = {
    "answered": Ending(kind="terminated"),
    "turns": Ending(kind="truncated", cause="turns"),
    "time": Ending(kind="truncated", cause="time"),
    "failed": Ending(kind="failed", failure=Failure(boundary="sandbox", kind="exit", message="it died", turn=1)),
}


def make_search_turn(index: int, move: tuple[Any, ...], *, info: dict[str, Any] | None = None) -> Turn:
    """``("search", query, [pages])``, ``("open", doc, [pages])``, ``("answer", text)``, ``("say", text)``."""
    name, argument = move[0], move[1]
    if name == "say":
        return Turn(index=index, observation="o", action_text=argument)
    key = {"search": "query", "open": "doc", "find": "pattern", "answer": "text"}[name]
    shown = list(move[2]) if len(move) > 2 else []
    said = move[3] if len(move) > 3 else f"{name}[{argument}]"
    action = Action(name=name, arguments={key: argument}, command=f"{name}[{argument}]")
    return Turn(
        index=index, observation="o", action_text=said, action=action, info={"shown": shown} if info is None else info
    )


def make_search_episode(
    moves: Sequence[tuple[Any, ...]],
    *,
    data: dict[str, Any] | None = None,
    ending: str = "answered",
    success: bool = True,
) -> Trajectory:
    return Trajectory(
        id="q#0",
        env_id="turnwise/SearchQA-v0",
        task=Task(id="q", split="train", instruction="Where was the author born?", data=data or {}),
        seed=0,
        agent="test",
        turns=tuple(make_search_turn(i, move) for i, move in enumerate(moves)),
        ending=ENDINGS[ending],
        outcome=None if ending == "failed" else Outcome(success=success, env_return=float(success)),
    )


def make_page(name: str, text: str = "", **fields: Any) -> dict[str, Any]:
    return {"id": name, "url": f"https://w.example/{name}", "text": text or f"About {name}.", **fields}


@pytest.fixture(scope="session")
def scripted() -> type[ScriptedJudge]:
    return ScriptedJudge


@pytest.fixture(scope="session")
def search_episode() -> Callable[..., Trajectory]:
    return make_search_episode


@pytest.fixture(scope="session")
def page() -> Callable[..., dict[str, Any]]:
    return make_page


@pytest.fixture(scope="session")
def report() -> str:
    return REPORT
