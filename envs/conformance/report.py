"""What the check found, as records, as a table for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one rule.

    Attributes:
        rule: The rule's id.
        title: What the rule demands, in one line.
        ok: Whether the environment keeps it.
        detail: What was checked, or what is wrong and where.
        seconds: Wall-clock time that the rule took.
    """

    rule: str
    title: str
    ok: bool
    detail: str
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """All findings on one environment.

    Attributes:
        env: Environment id, or the name of the factory.
        episodes: How many tasks were sampled.
        seed: Seed of the check.
        findings: One per rule, in the rules' order.
    """

    env: str
    episodes: int
    seed: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the environment keeps every rule."""
        return all(finding.ok for finding in self.findings)

    def __iter__(self) -> Iterator[Finding]:
        """Iterate over the findings."""
        return iter(self.findings)

    def failures(self) -> tuple[Finding, ...]:
        """Return the findings that are not ok."""
        return tuple(finding for finding in self.findings if not finding.ok)

    def summary(self) -> str:
        """Return one line: how many rules are kept, and which are not."""
        broken = ", ".join(finding.rule for finding in self.failures())
        kept = len(self.findings) - len(self.failures())
        return f"{self.env}: {kept} of {len(self.findings)} rules kept" + (f"; broken: {broken}" if broken else "")

    def table(self) -> Table:
        """Return the findings as a table for ``rich.print``."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.summary())
        for heading in ("", "rule", "what it demands", "detail"):
            table.add_column(heading, overflow="fold")
        table.add_column("s", justify="right")
        for finding in self.findings:
            mark = Text("ok", style="green") if finding.ok else Text("BROKEN", style="bold red")
            # Text, not str: details quote messages that may look like markup.
            cells = (Text(finding.rule), Text(finding.title), Text(finding.detail))
            table.add_row(mark, *cells, f"{finding.seconds:.2f}")
        return table

    def to_json(self) -> str:
        """Return the report as JSON: ``{"env", "ok", "episodes", "seed", "findings": [...]}``."""
        tree = {
            "env": self.env,
            "ok": self.ok,
            "episodes": self.episodes,
            "seed": self.seed,
            "findings": [asdict(finding) for finding in self.findings],
        }
        return json.dumps(tree, indent=2)
