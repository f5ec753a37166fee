"""``turnwise export`` and ``turnwise import``: runs as JSON Lines, and as data sets to train on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnwise.errors import ConfigError, unknown_name
from turnwise.rollout.cli.console import output
from turnwise.rollout.cli.options import Run

if TYPE_CHECKING:
    from turnwise.records import Trajectory
    from turnwise.rollout.store import RunStore

_CREDITS = ("grpo", "dr_grpo", "rloo")


def export(
    run: Run,
    jsonl: Annotated[
        Path | None, typer.Option("--jsonl", help="Write the trajectories themselves to this file, one a line.")
    ] = None,
    rows: Annotated[
        Path | None, typer.Option("--rows", help="Write training rows (token ids, masks, log-probs, rewards).")
    ] = None,
    sft: Annotated[Path | None, typer.Option("--sft", help="Write supervised examples.")] = None,
    dpo: Annotated[Path | None, typer.Option("--dpo", help="Write preference pairs from groups.")] = None,
    kto: Annotated[Path | None, typer.Option("--kto", help="Write messages labelled good or bad, from groups.")] = None,
    reward: Annotated[str, typer.Option(help="Which reward of the tree decides.")] = "reward",
    credit: Annotated[
        str | None, typer.Option(help="Advantages per turn in --rows: grpo, dr_grpo or rloo.", show_default=False)
    ] = None,
    level: Annotated[str | None, typer.Option(help="--sft, --dpo: 'turn' or 'trajectory'.", show_default=False)] = None,
    least: Annotated[
        float | None, typer.Option(help="--sft: leave out what has a lower reward.", show_default=False)
    ] = None,
    unsolved: Annotated[
        bool, typer.Option("--unsolved", help="--sft: keep episodes that did not solve the task.")
    ] = False,
    gamma: Annotated[
        float, typer.Option(help="--dpo, --kto, --credit: discount per turn; below 1, sooner is better.")
    ] = 1.0,
    margin: Annotated[float, typer.Option(help="--dpo: least difference of the two returns.")] = 0.0,
    most: Annotated[int | None, typer.Option(help="--dpo: most pairs of one group.", show_default=False)] = None,
    system: Annotated[
        str | None, typer.Option(help="System prompt instead of the world's; '' for none.", show_default=False)
    ] = None,
) -> None:
    """Write a stored run for others to read.

    The name says how: *.jsonl, *.parquet, or else a folder for datasets.load_from_disk. --sft, --dpo and
    --kto are in TRL's conversational formats.
    """
    from turnwise.rollout.store import RunStore, export_jsonl

    targets = {"rows": rows, "sft": sft, "dpo": dpo, "kto": kto}
    if jsonl is None and not any(targets.values()):
        raise ConfigError("say what to write and where: --jsonl FILE, --rows, --sft, --dpo or --kto PATH")
    store = RunStore.open(run)
    if jsonl is not None:
        _say(export_jsonl(store, jsonl), "trajectories", jsonl)
    chosen = _Options(reward, credit, level, least, unsolved, gamma, margin, most, system)
    for kind, target in targets.items():
        if target is not None:
            from turnwise.rollout.trainers.tables import write_rows

            _say(write_rows(chosen.make(kind, store), target), kind if kind == "rows" else f"{kind} rows", target)


def import_(
    run: Annotated[Path, typer.Argument(help="Directory of the new run.", show_default=False)],
    jsonl: Annotated[Path, typer.Option("--jsonl", help="File to read, one trajectory a line.", show_default=False)],
) -> None:
    """Make a stored run of a JSON Lines file."""
    from turnwise.rollout.store import import_jsonl

    count = import_jsonl(jsonl, run)
    output().print(f"{count} trajectories stored in {run}", markup=False, soft_wrap=True)


def _say(count: int, what: str, target: Path) -> None:
    output().print(f"{count} {what} written to {target}", markup=False, soft_wrap=True)


class _Options:
    """The options of the data sets, and which of them each kind takes."""

    def __init__(
        self,
        reward: str,
        credit: str | None,
        level: str | None,
        least: float | None,
        unsolved: bool,
        gamma: float,
        margin: float,
        most: int | None,
        system: str | None,
    ) -> None:
        if credit is not None and credit not in _CREDITS:
            raise unknown_name("credit", credit, _CREDITS)
        self._reward = reward
        self._credit = credit
        self._level: Any = level
        self._least, self._unsolved, self._gamma = least, unsolved, gamma
        self._margin, self._most, self._system = margin, most, system

    def make(self, kind: str, store: RunStore) -> Iterable[dict[str, Any]]:
        """Return the rows of a kind, tasks and samples in order."""
        from turnwise.rollout.trainers import export as data

        played: list[Trajectory] = sorted(store.trajectories(), key=lambda one: (one.task.id, one.sample))
        if kind == "rows":
            return data.training_rows(played, reward=self._reward, credit=self._rule())
        if kind == "sft":
            return data.sft_rows(
                played,
                level=self._level or "trajectory",
                reward=self._reward,
                solved=not self._unsolved,
                least=self._least,
                system=self._system,
            )
        if kind == "kto":
            return data.kto_rows(played, reward=self._reward, gamma=self._gamma, system=self._system)
        return data.dpo_rows(
            played,
            level=self._level or "turn",
            reward=self._reward,
            gamma=self._gamma,
            margin=self._margin,
            most=self._most,
            system=self._system,
        )

    def _rule(self) -> Any:
        if self._credit is None:
            return None
        from turnwise.rewards.credit import GroupCredit

        estimator: Any = self._credit
        return GroupCredit(estimator=estimator, level="turn", reward=self._reward, gamma=self._gamma)
