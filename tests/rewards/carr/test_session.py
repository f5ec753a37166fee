from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from turnwise.records import Action, Trajectory, Turn, replace
from turnwise.rewards.carr import read_session

HITS = (
    "[0] Title: Mira Tolen\n[0] URL Source: https://w.example/Mira\n[0] Description: A novelist\nof note.\n\n"
    "[1] Title: No address\n[1] Description: lost\n\n[2] Title: Bay\n[2] URL Source: https://w.example/Bay\n"
    "[2] Description: A port.\n[2] Date: 2020"
)
OPENED = (
    "Title: Bay\n\nURL Source: https://w.example/Bay\n\nPublished Time: 1\n\nMarkdown Content:\n"
    "The bay is wide.\nIt freezes."
)
Episode = Callable[..., Trajectory]
Page = Callable[..., dict[str, Any]]


def test_pages_are_what_the_world_says_it_showed(search_episode: Episode, page: Page) -> None:
    session = read_session(
        search_episode(
            [
                ("search", "mira", [page("A", "snippet", kind="search"), page("B", kind="search")]),
                ("open", "A", [page("A", "A First. Second.", kind="open", sentences=[0, 1])]),
                ("find", "x", [page("A", "- Second.\n- Third.", kind="find", sentences=[1, 2])]),
                ("search", "again", [page("A", "snippet", kind="search")]),
                ("answer", "done"),
            ]
        )
    )
    shown = session.page("https://w.example/A")
    assert shown.text == "snippet\n\nA First. Second.\n\n- Second.\n- Third."
    assert shown.sentences == {0: "A First.", 1: "Second.", 2: "Third."}
    assert (shown.id, session.report) == ("A", "done")
    assert [(s.turn, s.query, len(s.pieces)) for s in session.searches] == [(0, "mira", 2), (3, "again", 1)]
    assert session.first_turn("https://w.example/A") == 0
    assert session.first_turn("https://w.example/A", "second.") == 1
    assert session.first_turn("https://w.example/A", "nowhere") is None
    assert session.first_turn("https://w.example/C") is None


def test_a_sentence_cut_off_does_not_shift_the_others(search_episode: Episode, page: Page) -> None:
    pieces = [page("A", "One. Two. Thr ... (cut)", sentences=[3, 4]), page("B", "One. Dr. No. Two.", sentences=[0, 1])]
    session = read_session(search_episode([("open", "A", pieces)]))
    assert session.page("https://w.example/A").sentences == {3: "One.", 4: "Two."}
    assert session.page("https://w.example/B").sentences == {0: "", 1: ""}


@pytest.mark.parametrize("entry", [None, 3, "x", {}, {"url": 3.5}, {"url": None, "id": True}, {"text": "no url"}])
def test_entries_that_are_no_pages_are_left_out(search_episode: Episode, page: Page, entry: object) -> None:
    session = read_session(search_episode([("search", "q", [entry, page("A")])]))
    assert list(session.of_page) == ["https://w.example/A"]


def test_info_pages_is_the_other_name(search_episode: Episode, page: Page) -> None:
    episode = search_episode([("search", "q"), ("answer", "x")])
    turn = replace(episode.turns[0], info={"pages": [page("A")]})
    session = read_session(replace(episode, turns=(turn, episode.turns[1])))
    assert list(session.of_page) == ["https://w.example/A"]


def browse(*moves: tuple[str, dict[str, str], str]) -> list[Turn]:
    turns, observation = [], "question"
    for index, (name, arguments, output) in enumerate(moves):
        action = Action(name=f"browser.{name}", arguments=arguments, command=name)
        turns.append(Turn(index=index, observation=observation, action_text=name, action=action))
        observation = output
    turns.append(Turn(index=len(turns), observation=observation, action_text="stop"))
    return turns


def test_without_the_worlds_word_outputs_are_read_as_the_browser_prints_them(search_episode: Episode) -> None:
    turns = browse(
        ("find", {"pattern": "x"}, "[Match 1]\nof no page"),
        ("search", {"query": "q"}, HITS),
        ("open", {"id": "2"}, OPENED),
        ("find", {"pattern": "wide"}, "[Match 1]\nbay is wide\n\n[Match 2]\nis"),
        ("open", {"id": "https://w.example/404"}, "Error: not found"),
        ("find", {"pattern": "x"}, "[Match 1]\nof no page either"),
    )
    session = read_session(replace(search_episode([]), turns=tuple(turns)))
    assert set(session.of_page) == {"https://w.example/Mira", "https://w.example/Bay"}
    assert session.page("https://w.example/Mira").text == "A novelist\nof note."
    bay = session.page("https://w.example/Bay")
    assert bay.text == "A port.\n\nThe bay is wide.\nIt freezes.\n\nbay is wide\n\nis"
    assert [piece.turn for piece in session.of_page["https://w.example/Bay"]] == [1, 2, 3, 3]
    assert session.report is None


@pytest.mark.parametrize("last", [("search", "q"), ("say", "I think it is Oskar Bay")])
def test_an_episode_without_an_answer_has_no_report(search_episode: Episode, last: tuple[str, str]) -> None:
    assert read_session(search_episode([last])).report is None


def test_a_refused_answer_is_no_report(search_episode: Episode) -> None:
    episode = search_episode([("answer", "bad")])
    refused = replace(episode.turns[0], action_valid=False)
    assert read_session(replace(episode, turns=(refused,))).report is None
