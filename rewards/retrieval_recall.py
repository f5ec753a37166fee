"""How many of the documents that a question rests on the tools brought."""

from __future__ import annotations

from typing import Literal

from turnwise.protocols import RewardSpec
from turnwise.records import Json, RewardValue, Trajectory
from turnwise.rewards.carr.session import Piece, read_session
from turnwise.rewards.judges.rule import supporting_documents
from turnwise.rewards.options import choice
from turnwise.rewards.validity import failure_reason, invalid_values

Count = Literal["shown", "read"]


class RetrievalRecall:
    """Share of the supporting documents that the turn brought for the first time; over the episode, the recall.

    The documents are those of ``task.data["supporting_facts"]``, as ids, addresses or titles.
    """

    def __init__(self, *, count: Count = "shown") -> None:
        """Reward finding what is needed.

        Args:
            count: ``"shown"`` counts a document once any tool shows some of it, a line in a list of results, too;
                ``"read"`` only when it is opened, searched inside, or shown whole.

        Raises:
            ConfigError: ``count`` is something else.
        """
        self.name = "retrieval_recall"
        self.count: Count = choice("count", count, ("shown", "read"))
        self.spec = RewardSpec(
            low=0.0,
            high=1.0,
            placement="turn",
            source="turnwise",
            summary="Share of the supporting documents that the turn brought for the first time.",
        )

    def score(self, trajectory: Trajectory) -> tuple[RewardValue, ...]:
        """Return one value per turn; turns that were played are valid in failed episodes too."""
        wanted = supporting_documents(trajectory.task.data)
        turns = len(trajectory.turns)
        if not wanted:
            known = failure_reason(trajectory)
            return invalid_values(turns, known or f"task {trajectory.task.id!r} has no 'supporting_facts' in its data")
        new: dict[int, list[str]] = {}
        missing = set(wanted)
        pieces = [piece for pieces in read_session(trajectory).of_page.values() for piece in pieces]
        for piece in sorted(pieces, key=lambda piece: piece.turn):
            if self._counts(piece):
                found = missing & {piece.id, piece.url, piece.title}
                if found:
                    missing -= found
                    new.setdefault(piece.turn, []).extend(sorted(found))
        return tuple(
            RewardValue(value=len(new[t]) / len(wanted), evidence={"new": list(new[t]), "of": len(wanted)})
            if t in new
            else RewardValue(value=0.0)
            for t in range(turns)
        )

    def _counts(self, piece: Piece) -> bool:
        return self.count == "shown" or piece.kind > 0

    def describe(self) -> dict[str, Json]:
        """Return the options."""
        return {"count": self.count}
