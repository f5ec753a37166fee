"""The goals of a catalogue: numbered and shuffled as WebShop does it, with all draws under one seed.

WebShop draws prices and price ceilings from the process's own random state before it seeds it, so they differ from
process to process; here the seed decides them, too. The order is WebShop's own: ``random.seed(233)``, then a shuffle.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.cache import build_once
from turnwise.envs.webshop.catalogue import Catalogue
from turnwise.envs.webshop.goal import NO_CEILING, Goal
from turnwise.envs.webshop.product import Product

SEED = 233  # the seed of WebShop's shuffle
_CEILINGS = tuple(10.0 * step for step in range(1, 100))
_CEILING_CHOICES = 4
_MERSENNE_LIMIT = 5_000_000  # more goals than WebShop itself could hold are shuffled by numpy
_CEILING_STREAM = 0x6365696C

GoalKind = Literal["human", "synthetic"]


def draw_ceiling(price: float, generator: np.random.Generator) -> float:
    """Draw a price ceiling: the larger of two of the first four multiples of 10 above the price, up to 990.

    Returns:
        The ceiling, or :data:`~turnwise.envs.webshop.goal.NO_CEILING` where fewer than two multiples are left.
    """
    choices = [ceiling for ceiling in _CEILINGS if ceiling > price][:_CEILING_CHOICES]
    if len(choices) < 2:
        return NO_CEILING
    return choices[int(generator.choice(len(choices), size=2, replace=False).max())]


def ceiling_text(ceiling: float) -> str:
    """Return how an instruction names its price ceiling."""
    return "" if ceiling == NO_CEILING else f", and price lower than {ceiling:.2f} dollars"


class GoalBook(Protocol):
    """All goals of one kind, in the order of the data."""

    kind: GoalKind

    def __len__(self) -> int:
        """Number of goals."""
        ...

    def goal(self, number: int, seed: int) -> Goal:
        """Return a goal, its price ceiling drawn under ``seed``."""
        ...


def _goal_for(
    product: Product,
    instruction: str,
    attributes: tuple[str, ...],
    options: dict[str, str] | tuple[str, ...],
    ceiling: float,
    weight: float = 1.0,
) -> Goal:
    return Goal(
        asin=product.asin,
        category=product.category,
        query=product.query,
        name=product.title,
        product_category=product.product_category,
        instruction_text=instruction + ceiling_text(ceiling),
        attributes=attributes,
        price_upper=ceiling,
        goal_options=options,
        weight=weight,
    )


class HumanGoals:
    """One goal per instruction that a person wrote (keeps the GoalBook protocol)."""

    kind: GoalKind = "human"

    def __init__(self, catalogue: Catalogue) -> None:
        """Read the instructions of a catalogue."""
        self._catalogue = catalogue
        self._entries = catalogue.human_entries()

    def __len__(self) -> int:
        """Number of goals."""
        return len(self._entries)

    def goal(self, number: int, seed: int) -> Goal:
        """Return a goal, its price ceiling drawn under ``seed``."""
        entry = self._entries[number]
        product = self._catalogue.product(entry.row)
        generator = np.random.default_rng([seed, _CEILING_STREAM, number])
        ceiling = draw_ceiling(self._catalogue.price(entry.row, seed), generator)
        return _goal_for(product, entry.instruction.strip("."), entry.attributes, entry.options, ceiling)


class SyntheticGoals:
    """Every combination of the options of every product with an instruction (keeps the GoalBook protocol)."""

    kind: GoalKind = "synthetic"

    def __init__(self, catalogue: Catalogue) -> None:
        """Count the goals of a catalogue; none is made before it is asked for."""
        self._catalogue = catalogue
        self._rows, self._starts = catalogue.synthetic_counts()
        self._counts = catalogue.attribute_counts()

    def __len__(self) -> int:
        """Number of goals."""
        return int(self._starts[-1])

    def goal(self, number: int, seed: int) -> Goal:
        """Return a goal, its price ceiling drawn under ``seed``: one for all goals of a product."""
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        row = int(self._rows[place])
        product = self._catalogue.product(row)
        options = _combination(product.options, number - int(self._starts[place]))
        ceiling = draw_ceiling(self._catalogue.price(row, seed), np.random.default_rng([seed, _CEILING_STREAM, row]))
        wanted = ", and ".join(f"{name}: {value}" for name, value in options.items())
        instruction = f"{product.instruction}{f' with {wanted}' if wanted else ''}"
        attributes = product.instruction_attributes
        weight = sum(1 / self._counts[name] for name in attributes) / len(attributes)
        return _goal_for(product, instruction, attributes, options, ceiling, weight)


def _combination(options: Mapping[str, Sequence[str]], number: int) -> dict[str, str]:
    """Return a combination of options by its number; groups by name, the last one changes fastest."""
    chosen: dict[str, str] = {}
    for name in sorted(options, reverse=True):
        number, place = divmod(number, len(options[name]))
        chosen[name] = options[name][place]
    return dict(reversed(chosen.items()))


def open_goals(catalogue: Catalogue, kind: GoalKind) -> GoalBook:
    """Return the goals of a kind."""
    return HumanGoals(catalogue) if kind == "human" else SyntheticGoals(catalogue)


def shuffled(count: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the numbers below ``count`` in WebShop's order: its order with the seed 233."""
    if count > _MERSENNE_LIMIT:
        return np.random.default_rng(seed).permutation(count)
    # Python's own generator, in an instance of its own: only it gives the order that published splits rest on.
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311
    return np.asarray(order, dtype=np.int64)


def goal_order(catalogue: Catalogue, book: GoalBook, seed: int) -> npt.NDArray[np.int64]:
    """Return the order of a catalogue's goals; big ones are drawn once per machine."""
    if len(book) < 100_000:
        return shuffled(len(book), seed)
    name = f"{catalogue.folder.name}-order-{book.kind}-{seed}"

    folder = build_once(
        catalogue.folder.parent, name, lambda work: np.save(work / "order.npy", shuffled(len(book), seed))
    )
    loaded: npt.NDArray[np.int64] = np.load(folder / "order.npy", mmap_mode="r")
    return loaded
