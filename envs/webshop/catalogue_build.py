"""Writes catalogues: one pass over the data, one over what it wrote; memory is bounded by ids and tables of numbers."""

from __future__ import annotations

import math
import mmap
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np

from turnwise.envs.retrieval.bm25 import digest
from turnwise.envs.retrieval.bm25_build import build
from turnwise.envs.webshop.catalogue import HumanEntry
from turnwise.envs.webshop.product import Product
from turnwise.errors import ConfigError

# Instruction, attributes and options, by ASIN, in the order in which people wrote them.
HumanGoals = Mapping[str, Sequence[tuple[str, tuple[str, ...], tuple[str, ...]]]]


class _Table:
    """Pairs of a hashed value and a row."""

    def __init__(self) -> None:
        self._keys, self._rows = array("Q"), array("i")

    def add(self, value: str, row: int) -> None:
        self._keys.append(digest(value))
        self._rows.append(row)

    def save(self, folder: Path, keys: str, rows: str) -> None:
        found = np.frombuffer(self._keys, dtype=np.uint64)
        order = np.argsort(found, kind="stable")
        np.save(folder / f"{keys}.npy", found[order])
        np.save(folder / f"{rows}.npy", np.frombuffer(self._rows, dtype=np.int32)[order])


class _Pass:
    """The pass over the products: writes them, and notes what can be looked up."""

    def __init__(self, file: IO[bytes], human: HumanGoals) -> None:
        self._file, self._human = file, human
        self._encode = msgspec.msgpack.Encoder().encode
        self._seen: set[int] = set()
        self.offsets = array("q", [0])
        self.names: list[str] = []
        self.asins, self.categories, self.queries, self.attributes = _Table(), _Table(), _Table(), _Table()
        self.written: list[HumanEntry] = []
        self.synthetic_rows, self.synthetic_starts = array("q"), array("q", [0])
        self.attribute_counts: Counter[str] = Counter()

    def run(self, products: Iterable[Product]) -> None:
        for product in products:
            key = digest(product.asin)
            if key in self._seen:  # as in WebShop, the first of several with one ASIN counts
                continue
            self._seen.add(key)
            row = len(self.offsets) - 1
            self._note(product, row)
            self.offsets.append(self.offsets[-1] + self._file.write(self._encode(product)))
            self.names.append(product.asin)

    def _note(self, product: Product, row: int) -> None:
        self.asins.add(product.asin, row)
        self.categories.add(product.category, row)
        self.queries.add(product.query, row)
        for attribute in product.attributes:
            self.attributes.add(attribute, row)
        for instruction, attributes, options in self._human.get(product.asin, ()):
            if attributes:  # WebShop skips instructions that ask for no attribute
                self.written.append(HumanEntry(row, instruction, attributes, options))
        if product.instruction is not None and product.instruction_attributes:
            goals = math.prod(len(values) for values in product.options.values())
            if goals:
                self.synthetic_rows.append(row)
                self.synthetic_starts.append(self.synthetic_starts[-1] + goals)
                for attribute in product.instruction_attributes:
                    self.attribute_counts[attribute] += goals


def build_catalogue(products: Iterable[Product], folder: Path, *, human: HumanGoals | None = None) -> None:
    """Write a catalogue and the search index over it.

    Args:
        products: The products, read once.
        folder: An existing folder.
        human: What people asked for, by ASIN.

    Raises:
        ConfigError: There are no products.
    """
    with (folder / "products.bin").open("wb") as file:
        running = _Pass(file, human or {})
        running.run(products)
    names = running.names
    if not names:
        raise ConfigError("there are no products: the data hold no record with an ASIN of 1 to 10 characters")
    _save(folder, "offsets", np.frombuffer(running.offsets, dtype=np.int64))
    # Anserini, which WebShop searches with, lists equal scores by document id; the index does so by row.
    indexed = np.asarray(sorted(range(len(names)), key=names.__getitem__), dtype=np.int32)
    _save(folder, "indexed", indexed)
    build(_texts(folder, running.offsets, indexed.tolist()), folder=folder / "bm25")
    running.asins.save(folder, "asins", "asin_rows")
    running.categories.save(folder, "category", "category_rows")
    running.queries.save(folder, "query", "query_rows")
    running.attributes.save(folder, "attributes", "attributes_rows")
    _save(folder, "synthetic_rows", np.frombuffer(running.synthetic_rows, dtype=np.int64))
    _save(folder, "synthetic_starts", np.frombuffer(running.synthetic_starts, dtype=np.int64))
    (folder / "human.msgpack").write_bytes(msgspec.msgpack.encode(running.written))
    (folder / "attribute_counts.msgpack").write_bytes(msgspec.msgpack.encode(dict(running.attribute_counts)))


def _save(folder: Path, name: str, values: Any) -> None:
    np.save(folder / f"{name}.npy", values)


def _texts(folder: Path, offsets: Sequence[int], rows: Iterable[int]) -> Iterator[str]:
    decode = msgspec.msgpack.Decoder(Product).decode
    with (folder / "products.bin").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as blob:
        for row in rows:
            yield decode(blob[offsets[row] : offsets[row + 1]]).index_text
