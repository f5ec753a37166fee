from __future__ import annotations

import time

import pytest

from turnwise.rewards.carr.report import citations, exact_answer, plain_url, without_references


def test_references_are_dropped_from_the_last_heading_on() -> None:
    assert without_references("a ## References b ## References c") == "a ## References b "
    assert without_references("no list") == "no list"


def test_a_citation_is_a_link_that_a_bracket_or_comma_follows() -> None:
    text = "x [[1](https://a.b/c)] y [[2](http://d.e), [3](https://f.g)] z [4](https://no.no) ."
    assert citations(text) == ("https://a.b/c", "http://d.e", "https://f.g")
    assert citations(text, "number") == citations(text)


def test_addresses_with_parentheses_are_whole() -> None:
    assert citations("[[7](https://w.org/John_McCarthy_(referee))]") == ("https://w.org/John_McCarthy_(referee)",)


def test_each_address_counts_once_without_proxy_and_view_source() -> None:
    text = "[[1](https://r.jina.ai/https://a.b)] [[2](https://a.b)] [[3](view-source:https://a.b)]"
    assert citations(text) == ("https://a.b",)
    assert plain_url("https://r.jina.ai/r.html") == "https://r.jina.ai/r.html"


def test_labels_that_are_no_numbers_are_an_option() -> None:
    text = "[[person-7](https://a.b)] [[8](doc://c)]"
    assert citations(text) == ("https://a.b", "doc://c")
    assert citations(text, "number") == ()


def test_a_link_without_bracket_does_not_swallow_the_next_one() -> None:
    assert citations("[1](https://a.b) and [[2](https://c.d)]") == ("https://c.d",)


@pytest.mark.parametrize(
    ("report", "answer"),
    [
        (
            "## Explanation\nb\n## Exact Answer\n**UFC 219: Cyborg vs. Holm**\n\n## References\n1.",
            "UFC 219: Cyborg vs. Holm",
        ),
        ("## Explanation b ## Exact Answer: Oskar Bay [[1](https://a.b)]. ## References 1.", "Oskar Bay"),
        ("just text", None),
    ],
)
def test_the_exact_answer_is_plain(report: str, answer: str | None) -> None:
    assert exact_answer(report) == answer


@pytest.mark.parametrize("text", ["[1](https://" * 4000, "[" * 60_000, "[[1](https://a" + ")" * 50_000, "#" * 50_000])
def test_hostile_reports_are_read_in_time(text: str) -> None:
    started = time.process_time()
    citations(text), exact_answer(text)
    assert time.process_time() - started < 5.0
