from __future__ import annotations

from typing import Any

import pytest

from turnwise.errors import JudgeError
from turnwise.protocols import Judge, JudgeCase, JudgePage
from turnwise.records import Action, Ending, Outcome, Task, Trajectory, Turn
from turnwise.rewards.citation_rubric import CitationRubric
from turnwise.rewards.judges import RuleJudge
from turnwise.rewards.judges.rule import normalise

DATA: dict[str, Any] = {
    "question": "Where was the author of The Road born?",
    "answer": "Oskar Bay",
    "aliases": ["the town of Oskar Bay"],
    "rubrics": ["The Road was written by <E1>.", "<E1> was born in <E0>."],
    "rubric_entities": {"E0": ["Oskar Bay", "the town of Oskar Bay"], "E1": ["Mira Tolen", "M. Tolen"]},
    "rubric_support": [[["road", 2]], [["mira", 1]]],
    "supporting_facts": [["road", 2], ["mira", 1]],
}
PAGES = (
    JudgePage(
        url="https://w/road",
        id="road",
        text="Road. It is long. Its author is Mira Tolen.",
        sentences={2: "Its author is Mira Tolen."},
    ),
    JudgePage(url="https://w/mira", id="mira", text="Mira Tolen came from Oskar Bay.", sentences={1: ""}),
)


def case(report: str, **data: Any) -> JudgeCase:
    merged = {key: value for key, value in {**DATA, **data}.items() if value is not None}
    return JudgeCase(
        question="q",
        report=report,
        answers=(DATA["answer"], *DATA["aliases"]) if "answer" in merged else (),
        rubrics=tuple(DATA["rubrics"]),
        task=Task(id="t", split="", instruction="", data=merged),
    )


def report(answer: str = "Oskar Bay", said: str = "Mira Tolen wrote it.") -> str:
    return f"## Explanation with Citations {said} ## Exact Answer {answer} "


def test_it_keeps_the_protocol() -> None:
    assert isinstance(RuleJudge(), Judge)


@pytest.mark.parametrize(
    ("answer", "holds"),
    [("Oskar Bay", True), ("**the Oskar bay.**", True), ("Oskar", False), ("Oskar Bay or Velm", False), ("", False)],
)
def test_the_exact_answer_is_compared_as_hotpotqa_does(answer: str, holds: bool) -> None:
    assert RuleJudge().answer(case(report(answer))).holds is holds


def test_normalising_is_that_of_the_script() -> None:
    assert normalise("The  U.S. Navy's an-chor") == "us navys anchor"


def test_entities_are_whole_names_in_the_text_and_the_answer_in_its_section() -> None:
    judge = RuleJudge()
    assert judge.entities(case(report())) == {"E0": "Oskar Bay", "E1": "Mira Tolen"}
    assert judge.entities(case(report("Velm", "M. Tolen of Oskar Bay"))) == {"E0": None, "E1": "M. Tolen"}
    assert judge.entities(case(report(said="Mira Tolensen"))) == {"E0": "Oskar Bay", "E1": None}
    assert judge.entities(case("It is Oskar Bay [[1](https://w/x)]")) == {"E0": "Oskar Bay", "E1": None}


def test_support_needs_the_sentences_on_cited_pages() -> None:
    statements = {0: "The Road was written by Mira Tolen.", 1: "Mira Tolen was born in Oskar Bay."}
    verdicts = RuleJudge().support(case(report()), statements, PAGES)
    assert [verdict.holds for verdict in verdicts.values()] == [True, True]
    assert verdicts[0].passages[0].quote == "Its author is Mira Tolen."
    assert verdicts[1].passages[0].quote == "Mira Tolen came from Oskar Bay."  # found by its words
    assert RuleJudge().support(case(report()), statements, PAGES[:1])[1].holds is False
    unread = JudgePage(url="https://w/mira", id="mira", text="Mira", sentences={0: "Mira"})
    assert RuleJudge().support(case(report()), {1: statements[1]}, [unread])[1].holds is False


def test_a_statement_on_several_sentences_needs_all_of_them() -> None:
    both = case(report(), rubric_support=[[["road", 2], ["mira", 1]], [["mira", 1]]])
    assert RuleJudge().support(both, {0: "x"}, PAGES)[0].holds is True
    assert len(RuleJudge().support(both, {0: "x"}, PAGES)[0].passages) == 2
    assert RuleJudge().support(both, {0: "x"}, PAGES[:1])[0].holds is False


def test_sentences_may_be_given_as_text() -> None:
    by_text = case(report(), rubric_support=[[["https://w/road", "Its author is Mira Tolen."]], [["mira", "gone"]]])
    verdicts = RuleJudge().support(by_text, {0: "a", 1: "b"}, PAGES)
    assert [verdicts[0].holds, verdicts[1].holds] == [True, False]


def test_what_the_data_do_not_tell_cannot_be_judged() -> None:
    judge = RuleJudge()
    assert judge.support(case(report(), rubric_support=[[["road", 2]]]), {1: "x"}, PAGES)[1].holds is None
    with pytest.raises(JudgeError, match="rubric_support"):
        judge.support(case(report(), rubric_support=None), {0: "x"}, PAGES)
    with pytest.raises(JudgeError, match="rubric_entities"):
        judge.entities(case(report(), rubric_entities=None))
    with pytest.raises(JudgeError, match="no answer"):
        judge.answer(case(report(), answer=None))
    with pytest.raises(JudgeError, match="supporting_facts"):
        judge.useful(case(report(), supporting_facts=None), "q", PAGES, ())


def test_a_search_is_useful_once() -> None:
    judge = RuleJudge()
    assert judge.useful(case(report()), "q", PAGES[:1], ()).holds is True
    assert judge.useful(case(report()), "q", PAGES[:1], PAGES).holds is False
    other = JudgePage(url="https://w/other", id="other")
    assert judge.useful(case(report()), "q", [other], ()).holds is False


def play(answer: str, *, cite: str = "[[1](https://w/road)] [[2](https://w/mira)]", read: bool = True) -> float | None:
    shown = [
        {"id": page.id, "url": page.url, "text": page.text, "sentences": [0, 1, 2] if read else []} for page in PAGES
    ]
    text = f"## Explanation Mira Tolen wrote it {cite} ## Exact Answer {answer} ## References none"
    turns = (
        Turn(
            index=0,
            observation="",
            action_text="",
            action=Action(name="search", arguments={"query": "x"}, command="s"),
            info={"shown": shown},
        ),
        Turn(
            index=1, observation="", action_text="", action=Action(name="answer", arguments={"text": text}, command="a")
        ),
    )
    episode = Trajectory(
        id="t#0",
        env_id="e",
        task=Task(id="t", split="", instruction="", data=DATA),
        seed=0,
        agent="t",
        turns=turns,
        ending=Ending(kind="terminated"),
        outcome=Outcome(success=True, env_return=1.0),
    )
    return CitationRubric(ratio=0.5).score(episode)[-1].value


def test_the_whole_reward_by_rule() -> None:
    assert play("Oskar Bay") == 1.0
    assert play("Velm") == 0.0  # nothing is connected to an answer that is not named
    assert play("Oskar Bay", cite="[[2](https://w/mira)]") == 0.75
    assert play("Oskar Bay", cite="[[1](https://w/road)]") == 0.5  # supported, but nothing leads to it
    assert play("Oskar Bay", cite="") == 0.5
    assert play("Oskar Bay", read=False) == 0.5
