"""A penalty for searching again what was searched, or finding only what was found."""

from __future__ import annotations

import re

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.carr.session import read_session
from turnwise.rewards.options import flag, number

_FINE = RewardValue(value=0.0)
_WORD = re.compile(r"\w+")


class RedundantSearch:
    """``-penalty`` on a search whose query was made before, or whose results were all shown before.

    Queries are the same when they have the same words, whatever their case and order. A search without results is
    redundant only if its query was made before.
    """

    def __init__(self, *, penalty: float = 1.0, same_results: bool = True) -> None:
        """Penalise searches that add nothing.

        Args:
            penalty: What one costs, as a positive number.
            same_results: Whether a new query that brings no new document is penalised, too.

        Raises:
            ConfigError: An option is out of range.
        """
        self.name = "redundant_search"
        self.penalty = number("penalty", penalty, low=0.0)
        self.same_results = flag("same_results", same_results)
        self.spec = RewardSpec(
            low=0.0 - self.penalty,
            high=0.0,
            placement="turn",
            source="turnwise",
            summary="Penalty for a search that repeats a query or brings nothing new.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        values = [_FINE] * len(trajectory.turns)
        queries: dict[tuple[str, ...], int] = {}
        session = read_session(trajectory)
        first = {url: pieces[0].turn for url, pieces in session.of_page.items()}
        for search in session.searches:
            query = tuple(sorted(set(_WORD.findall(search.query.casefold()))))
            if query in queries:
                values[search.turn] = self._penalty({"because": "same query", "repeats_turn": queries[query]})
            elif self.same_results and search.pieces and all(first[p.url] < search.turn for p in search.pieces):
                values[search.turn] = self._penalty({"because": "nothing new", "documents": len(search.pieces)})
            queries.setdefault(query, search.turn)
        return tuple(values)

    def _penalty(self, evidence: dict[str, Json]) -> RewardValue:
        return RewardValue(value=0.0 - self.penalty, evidence=evidence)

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"penalty": self.penalty, "same_results": self.same_results}
