"""Right answers of a task, the answer an agent gave, and how well they agree."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

from turnwise.errors import JudgeError
from turnwise.records import Trajectory, Turn

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
# The report of CaRR: the section goes to the next heading; line feeds may be lost in a native command.
_EXACT = re.compile(r"#{1,6}[ \t]*exact answer\b[ \t]*:?\**(.*?)(?=#{1,6}[ \t]*\w|\Z)", re.IGNORECASE | re.DOTALL)
_CITATION = re.compile(r"\[?\[[^\[\]\n]{1,200}\]\(\S{1,1000}?\)[\],]?")


def reference_answers(trajectory: Trajectory, keys: Iterable[str]) -> tuple[str, ...]:
    """Return the right answer and its aliases, each once, in the order of the task's data.

    Args:
        trajectory: The trajectory.
        keys: Keys of ``task.data`` that hold a text or a list of texts.

    Raises:
        JudgeError: An answer is no text. (IGPO's code scores an empty one as the mean of nothing, NaN.)
    """
    found: dict[str, None] = {}
    for key in keys:
        value = trajectory.task.data.get(key)
        for answer in [value] if value is None or isinstance(value, (str, int, float)) else value:
            if answer is None:
                continue
            if not isinstance(answer, (str, int, float)) or isinstance(answer, bool):
                raise JudgeError(f"task.data[{key!r}] must hold texts, got {type(answer).__name__}")
            text = str(answer).strip()
            if text:
                found[text] = None
    return tuple(found)


def given_answer(turn: Turn) -> str:
    """Return the short answer of an answer turn, without tags, report sections and citations; "" if empty."""
    arguments = turn.action.arguments if turn.action is not None else {}
    text = next((arguments[key] for key in ("answer", "text") if key in arguments), None)
    if text is None:
        text = next(iter(arguments.values()), turn.action_text)
    for pattern in (_TAGGED, _EXACT):
        match = pattern.search(text)
        if match:
            text = match.group(1)
    return _CITATION.sub("", text).strip().strip("*").strip()


def set_f1(prediction: str, answer: str) -> float:
    """Return the F1 over *sets* of lower-cased words without punctuation, in [0, 1]; articles count.

    As IGPO's ``info_gain.py`` computes the outcome; HotpotQA's own F1 is over bags and drops articles.
    """
    mine, right = (set(text.lower().translate(_PUNCTUATION).split()) for text in (prediction, answer))
    common = len(mine & right)
    return 2.0 * common / (len(mine) + len(right)) if common else 0.0


def best_f1(prediction: str, answers: Sequence[str]) -> tuple[float, str]:
    """Return the best :func:`set_f1` over the aliases, and the first alias that reaches it.

    Args:
        prediction: The answer that was given.
        answers: The right answer and its aliases; at least one.
    """
    scores = [set_f1(prediction, answer) for answer in answers]
    best = max(range(len(scores)), key=scores.__getitem__)
    return scores[best], answers[best]
