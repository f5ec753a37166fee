"""What rewards there are, for ``turnwise rewards`` and for documentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from turnwise import registry
from turnwise.errors import TurnwiseError, attribute_to
from turnwise.protocols import Placement, RewardSpec
from turnwise.records import Json
from turnwise.rewards.config import options_of


@dataclass(frozen=True, kw_only=True)
class RewardInfo:
    """One registered reward.

    Attributes:
        name: Name to use in a configuration.
        entry_point: Import string of its class.
        low: Smallest value on one turn with default options; None if that takes options to say.
        high: Largest value on one turn.
        placement: On every turn, or on the last one; None likewise.
        source: Where the method is from, and whether that is secondary or unverified.
        summary: One line.
        options: Option name to its default as text; ``"required"`` where there is none.
        error: Why it cannot be used here (a missing extra, a broken plug-in), or None.
    """

    name: str
    entry_point: str
    low: float | None = None
    high: float | None = None
    placement: Placement | None = None
    source: str = ""
    summary: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None

    def to_dict(self) -> dict[str, Json]:
        """Return it JSON-compatible; an unbounded end of the range is None."""
        ends = [None if end is None or abs(end) == float("inf") else end for end in (self.low, self.high)]
        return {
            "name": self.name,
            "entry_point": self.entry_point,
            "low": ends[0],
            "high": ends[1],
            "placement": self.placement,
            "source": self.source,
            "summary": self.summary,
            "options": dict(self.options),
            "error": self.error,
        }


def list_rewards() -> tuple[RewardInfo, ...]:
    """Return every registered reward, ours and third parties', by name.

    One that cannot be loaded is listed with the reason instead of being left out.
    """
    return tuple(_info(name) for name in registry.rewards)


def _info(name: str) -> RewardInfo:
    entry_point = registry.rewards.entry_point(name)
    try:
        with attribute_to("config", f"loading reward {name!r}"):
            kind = registry.rewards.load(name)
            parameters = options_of(kind) or {}
            options = {
                key: "required" if option.default is option.empty else repr(option.default)
                for key, option in parameters.items()
            }
            # What cannot be made without options may still say what it is on its class.
            spec = getattr(kind if "required" in options.values() else kind(), "spec", None)
            if not isinstance(spec, RewardSpec):
                return RewardInfo(name=name, entry_point=entry_point, summary=_first_line(kind), options=options)
            return RewardInfo(
                name=name,
                entry_point=entry_point,
                low=spec.low,
                high=spec.high,
                placement=spec.placement,
                source=spec.source,
                summary=spec.summary,
                options=options,
            )
    except TurnwiseError as error:
        return RewardInfo(name=name, entry_point=entry_point, error=str(error))


def _first_line(kind: object) -> str:
    return (getattr(kind, "__doc__", None) or "").strip().partition("\n")[0]
