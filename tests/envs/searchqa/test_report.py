from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwise.envs.searchqa.report import Citation, read_citations, read_report, write_report

REPORT = """## Explanation with Citations
A wrote B [[d1](https://x.example/B)], and C follows [[2](https://x.example/C_(film)), [3](https://x.example/D)].

## Exact Answer
**The Answer** [[d1](https://x.example/B)]

## References
1. [[9](https://x.example/only-listed)]
"""


@pytest.mark.parametrize("text", [REPORT, " ".join(REPORT.split())])
def test_sections(text):
    report = read_report(text)
    assert report.exact == "The Answer"
    assert report.sections
    assert report.explanation.startswith("A wrote B")
    assert report.citations == (
        Citation("d1", "https://x.example/B"),
        Citation("2", "https://x.example/C_(film)"),
        Citation("3", "https://x.example/D"),
    )


@pytest.mark.parametrize(
    ("text", "exact"),
    [
        ("Paris [[d1](https://x.example/B)].", "Paris"),
        ('  "Paris"  ', "Paris"),
        ("[[d1](https://x.example/B)]", ""),
        ("## Exact Answer: 42", "42"),
        ("### exact answer\nfirst\n## Exact Answer\nlast", "last"),
        ("J. R. Smith", "J. R. Smith"),
    ],
)
def test_exact_answer(text, exact):
    assert read_report(text).exact == exact


def test_citations_need_a_closing_bracket_or_comma():
    assert read_citations("see [1](https://x.example/) and [[2](view-source:https://y.example/)]") == (
        Citation("2", "https://y.example/"),
    )


def test_a_real_report(shared_data):
    history = json.loads((shared_data / "carr" / "example.json").read_text())[0]["history"]
    messages = history[0] if isinstance(history[0], list) else history
    report = read_report(messages[-1]["content"])
    assert report.sections
    assert report.exact == "UFC 219: Cyborg vs. Holm"
    assert len(report.citations) == 5
    assert "https://en.wikipedia.org/wiki/John_McCarthy_(referee)" in {citation.url for citation in report.citations}


words = st.text("abc XYZ09", min_size=1, max_size=20).filter(str.strip)
sources = st.builds(Citation, st.from_regex(r"[a-z0-9]{1,5}", fullmatch=True), st.just("https://x.example/"))


@given(words, words, st.lists(sources, max_size=2))
def test_what_is_written_is_read(answer, explanation, cited):
    text = write_report(answer, explanation, cited)
    for form in (text, " ".join(text.split())):
        report = read_report(form)
        assert report.exact == " ".join(answer.split())
        assert report.sections


@given(st.text(max_size=300))
def test_any_text_is_read(text):
    read_report(text)
    read_report(text * 20)
