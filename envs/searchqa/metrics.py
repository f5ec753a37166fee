"""Exact match and F1 of answers and supporting facts, as the official HotpotQA evaluation computes them.

An answer is lower-cased, stripped of ASCII punctuation and of the articles a, an and the, and its white space is
collapsed. F1 is over bags of tokens; where one side is "yes", "no" or "noanswer", only equality counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from turnwise.records import Json

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CLOSED = ("yes", "no", "noanswer")


class Overlap(NamedTuple):
    """F1 with its parts, each in [0, 1]."""

    f1: float
    precision: float
    recall: float


def normalise(answer: str) -> str:
    """Return an answer as it is compared."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, gold: str) -> bool:
    """Whether two answers are equal after normalising."""
    return normalise(prediction) == normalise(gold)


def f1(prediction: str, gold: str) -> Overlap:
    """Return the token overlap of two answers."""
    mine, right = normalise(prediction), normalise(gold)
    if mine != right and (mine in _CLOSED or right in _CLOSED):
        return Overlap(0.0, 0.0, 0.0)
    return _overlap(mine.split(), right.split())


def _overlap(mine: Sequence[str], right: Sequence[str]) -> Overlap:
    common = sum((Counter(mine) & Counter(right)).values())
    if common == 0:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / len(mine), common / len(right)
    return Overlap(2 * precision * recall / (precision + recall), precision, recall)


def best(score: Callable[[str, str], float], prediction: str, golds: Iterable[str]) -> float:
    """Return the best score over the aliases of the gold answer, 0.0 where there are none."""
    return max((float(score(prediction, gold)) for gold in golds), default=0.0)


def best_f1(prediction: str, golds: Iterable[str]) -> float:
    """Return the best F1 over the aliases of the gold answer."""
    return best(lambda mine, gold: f1(mine, gold).f1, prediction, golds)


def support(predicted: Iterable[tuple[str, int]], gold: Iterable[tuple[str, int]]) -> tuple[bool, Overlap]:
    """Return exact match and overlap of supporting facts (title and sentence index), as sets."""
    mine, right = set(predicted), set(gold)
    common = len(mine & right)
    precision = common / len(mine) if mine else 0.0
    recall = common / len(right) if right else 0.0
    both = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return mine == right, Overlap(both, precision, recall)


def hotpot_scores(predictions: Mapping[str, Json], gold: Sequence[Mapping[str, Json]]) -> dict[str, float]:
    """Score a prediction file in HotpotQA's format.

    Args:
        predictions: ``{"answer": {id: text}, "sp": {id: [[title, sentence], ...]}}``; a question without a prediction
            counts as wrong.
        gold: Questions with ``_id``, ``answer`` and ``supporting_facts``.

    Returns:
        Means over the questions of ``em, f1, prec, recall, sp_em, sp_f1, sp_prec, sp_recall`` and their products
        ``joint_em, joint_f1, joint_prec, joint_recall`` (the joint F1 is that of the joint precision and recall).
    """
    totals: Counter[str] = Counter()
    for item in gold:
        for name, value in _scores(item, predictions).items():
            totals[name] += value  # type: ignore[assignment]
    return {name: totals[name] / max(len(gold), 1) for name in _NAMES}


_NAMES = tuple(f"{part}{name}" for part in ("", "sp_", "joint_") for name in ("em", "f1", "prec", "recall"))


def _scores(item: Mapping[str, Json], predictions: Mapping[str, Json]) -> dict[str, float]:
    key, scores = item["_id"], dict.fromkeys(_NAMES, 0.0)
    answered, supported = key in predictions.get("answer", {}), key in predictions.get("sp", {})
    if answered:
        text = str(predictions["answer"][key])
        part = f1(text, item["answer"])
        exact = float(exact_match(text, item["answer"]))
        scores |= {"em": exact, "f1": part.f1, "prec": part.precision, "recall": part.recall}
    if supported:
        facts = [(str(title), int(number)) for title, number in predictions["sp"][key]]
        right, part = support(facts, [(str(title), int(number)) for title, number in item["supporting_facts"]])
        scores |= {"sp_em": float(right), "sp_f1": part.f1, "sp_prec": part.precision, "sp_recall": part.recall}
    if answered and supported:
        precision, recall = scores["prec"] * scores["sp_prec"], scores["recall"] * scores["sp_recall"]
        scores |= {
            "joint_em": scores["em"] * scores["sp_em"],
            "joint_prec": precision,
            "joint_recall": recall,
            "joint_f1": 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0,
        }
    return scores
