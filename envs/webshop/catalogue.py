"""All products of a shop, in files that processes share by memory mapping, and the search over them."""

from __future__ import annotations

import mmap
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.bm25 import Bm25Index, digest, load
from turnwise.envs.webshop.product import DEFAULT_PRICE, Product
from turnwise.errors import ConfigError, unknown_name

SEARCH_RESULTS = 50  # the most that a search returns, as in WebShop
_KEPT_PRODUCTS = 4096  # decoded products that a process keeps
_KEPT_SEARCHES = 1024
_KEPT_LISTS = 64
_decode = msgspec.msgpack.Decoder(Product).decode

Rows = tuple[int, ...]


class HumanEntry(msgspec.Struct, frozen=True, array_like=True):
    """An instruction that a person wrote for a product.

    Attributes:
        row: The product's row.
        instruction: What the person asks for.
        attributes: The attributes it asks for.
        options: The options it asks for.
    """

    row: int
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


class Catalogue:
    """The products of a shop by row, by ASIN and by search; rows are in the order of the data."""

    def __init__(self, folder: Path) -> None:
        """Open what :func:`~turnwise.envs.webshop.catalogue_build.build_catalogue` wrote.

        Raises:
            ConfigError: The folder holds no catalogue.
        """
        self.folder = folder
        self._offsets = _map(folder / "offsets.npy")
        self._asins, self._asin_rows = _map(folder / "asins.npy"), _map(folder / "asin_rows.npy")
        with (folder / "products.bin").open("rb") as file:
            self._blob = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._index: Bm25Index = load(folder / "bm25")
        self._indexed = _map(folder / "indexed.npy")
        self._product = lru_cache(maxsize=_KEPT_PRODUCTS)(self._read)
        self._found = lru_cache(maxsize=_KEPT_SEARCHES)(self._rank)
        self._listed = lru_cache(maxsize=_KEPT_LISTS)(self._look_up)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_catalogue, (self.folder,)

    def __len__(self) -> int:
        """Number of products."""
        return len(self._offsets) - 1

    # -- products ----------------------------------------------------------------------------------

    def product(self, row: int) -> Product:
        """Return the product of a row."""
        return self._product(row)

    def _read(self, row: int) -> Product:
        return _decode(self._blob[int(self._offsets[row]) : int(self._offsets[row + 1])])

    def find(self, asin: str) -> int | None:
        """Return the row of an ASIN, or None."""
        key = np.uint64(digest(asin))
        place = int(np.searchsorted(self._asins, key))
        while place < len(self._asins) and self._asins[place] == key:
            row = int(self._asin_rows[place])
            if self.product(row).asin == asin:
                return row
            place += 1
        return None

    def row(self, asin: str) -> int:
        """Return the row of an ASIN.

        Raises:
            UnknownNameError: The shop does not sell it.
        """
        found = self.find(asin)
        if found is None:
            raise unknown_name("product", asin, (self.product(row).asin for row in range(min(len(self), 1000))))
        return found

    def price(self, row: int, seed: int) -> float:
        """Return what a product costs; a range of prices is drawn from under ``seed``, the same in every process."""
        product = self.product(row)
        if not product.prices:
            return DEFAULT_PRICE
        if len(product.prices) == 1:
            return product.prices[0]
        low, high = product.prices
        return low + (high - low) * float(np.random.default_rng([seed, digest(product.asin)]).random())

    # -- search ------------------------------------------------------------------------------------

    def search(self, text: str) -> Rows:
        """Return the at most 50 best products for some words, best first, as WebShop's Lucene ranks them."""
        return self._found(text)

    def _rank(self, text: str) -> Rows:
        return tuple(int(self._indexed[hit.row]) for hit in self._index.rank([text], SEARCH_RESULTS)[0])

    def sample(self, generator: np.random.Generator) -> Rows:
        """Return 50 different products, or all there are, in random order."""
        count = min(SEARCH_RESULTS, len(self))
        return tuple(generator.choice(len(self), size=count, replace=False).tolist())

    def with_field(self, field: str, value: str) -> Rows:
        """Return all products with a value, in order.

        Args:
            field: ``"category"``, ``"query"`` or ``"attributes"``.
            value: The value, or one of the attributes.
        """
        return self._listed(field, value)

    def _look_up(self, field: str, value: str) -> Rows:
        keys, rows = _map(self.folder / f"{field}.npy"), _map(self.folder / f"{field}_rows.npy")
        key = np.uint64(digest(value))
        first, last = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
        return tuple(np.unique(rows[first:last]).tolist())

    # -- goals -------------------------------------------------------------------------------------

    def human_entries(self) -> list[HumanEntry]:
        """Return the instructions that people wrote, in the order of their products."""
        return msgspec.msgpack.decode((self.folder / "human.msgpack").read_bytes(), type=list[HumanEntry])

    def synthetic_counts(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the rows with an instruction of their own, and where the goals of each begin (one more at the end)."""
        return _map(self.folder / "synthetic_rows.npy"), _map(self.folder / "synthetic_starts.npy")

    def attribute_counts(self) -> dict[str, int]:
        """Return how many synthetic goals ask for each attribute."""
        return msgspec.msgpack.decode((self.folder / "attribute_counts.msgpack").read_bytes(), type=dict[str, int])


@lru_cache(maxsize=8)
def open_catalogue(folder: Path) -> Catalogue:
    """Open a catalogue; a process opens each of them once."""
    return Catalogue(folder)


def _map(path: Path) -> npt.NDArray[Any]:
    try:
        mapped = np.load(path, mmap_mode="r")
    except ValueError:  # an array without elements cannot be mapped
        return np.asarray(np.load(path))
    except OSError as error:
        raise ConfigError(f"no catalogue at {path.parent}: {error}") from error
    return np.asarray(mapped).view(np.ndarray)
