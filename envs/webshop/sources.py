"""WebShop's own data files: found, hashed, and turned into a catalogue once per machine."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from hashlib import blake2b, sha256
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import msgspec

from turnwise.envs.retrieval.cache import build_once, cache_root
from turnwise.envs.retrieval.corpus import file_key
from turnwise.envs.webshop.catalogue import Catalogue, open_catalogue
from turnwise.envs.webshop.catalogue_build import HumanGoals, build_catalogue
from turnwise.envs.webshop.jsonstream import open_bytes, read_entries, read_list
from turnwise.envs.webshop.product import AttributeEntry, Product, read_entry, read_product
from turnwise.envs.webshop.tasksets import GoalTasks
from turnwise.errors import ConfigError

_PRODUCTS, _ATTRIBUTES, _HUMAN = "items_shuffle", "items_ins_v2", "items_human_ins"
_SUFFIXES = (".json", ".json.gz")
# A catalogue is a function of the files and of these modules.
_MADE_BY = (
    "turnwise.envs.retrieval.analysis",
    "turnwise.envs.retrieval.bm25",
    "turnwise.envs.retrieval.bm25_build",
    "turnwise.envs.webshop.catalogue",
    "turnwise.envs.webshop.catalogue_build",
    "turnwise.envs.webshop.product",
    "turnwise.envs.webshop.sources",
)


class ShopFiles(NamedTuple):
    """WebShop's data files.

    Attributes:
        products: ``items_shuffle*.json``.
        attributes: ``items_ins_v2*.json``, or None.
        human: ``items_human_ins*.json``, or None.
    """

    products: Path
    attributes: Path | None
    human: Path | None


def find_files(data: str | Path) -> ShopFiles:
    """Find the data files.

    Args:
        data: A folder that holds them, or the products' file beside which the others lie. All may be gzipped. With
            ``items_shuffle_1000.json`` goes ``items_ins_v2_1000.json`` where there is one.

    Raises:
        ConfigError: There is no products' file, or more than one in the folder.
    """
    path = Path(data).expanduser()
    if path.is_dir():
        found = [file for suffix in _SUFFIXES for file in sorted(path.glob(f"{_PRODUCTS}*{suffix}"))]
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "none"
            raise ConfigError(
                f"{path} must hold one products' file ({_PRODUCTS}*.json or .json.gz), found {names}: "
                "pass the path of the file itself where there are several"
            )
        path = found[0]
    elif not path.is_file():
        raise ConfigError(f"no shop data at {path}: expected a folder with {_PRODUCTS}*.json, or such a file")
    size = path.name.removesuffix(".gz").removesuffix(".json").removeprefix(_PRODUCTS)
    return ShopFiles(path, _beside(path, _ATTRIBUTES, size), _beside(path, _HUMAN, size))


def _beside(path: Path, stem: str, size: str) -> Path | None:
    names = [f"{stem}{part}{suffix}" for part in dict.fromkeys((size, "")) for suffix in _SUFFIXES]
    return next((path.parent / name for name in names if (path.parent / name).is_file()), None)


# -- content hashes --------------------------------------------------------------------------------


def _hash_of(path: Path) -> str:
    """Return the hash of a file's content; one that was hashed before and not written to since is not read again."""
    root = cache_root() / "webshop" / "hashes"
    root.mkdir(parents=True, exist_ok=True)
    note = root / file_key(path)
    try:
        known = note.read_text()
    except OSError:
        known = ""
    if len(known) == 64:
        return known
    hashed = blake2b(digest_size=32)
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                hashed.update(chunk)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    note.write_text(hashed.hexdigest())
    return hashed.hexdigest()


@lru_cache(maxsize=1)
def _made_by() -> str:
    hashed = sha256()
    for name in _MADE_BY:
        hashed.update(Path(import_module(name).__file__ or "").read_bytes())
    return hashed.hexdigest()


def catalogue_key(files: ShopFiles) -> str:
    """Return the name under which the catalogue of some files is kept: a hash of their content."""
    parts = [_made_by(), *("" if path is None else _hash_of(path) for path in files)]
    return sha256("|".join(parts).encode()).hexdigest()[:24]


# -- reading ---------------------------------------------------------------------------------------


def read_products(files: ShopFiles) -> Iterator[Product]:
    """Iterate over the products of the files, each with its attributes; memory grows by the packed attributes.

    Raises:
        ConfigError: A file cannot be read.
    """
    encode = msgspec.msgpack.Encoder().encode
    decode = msgspec.msgpack.Decoder(AttributeEntry).decode
    packed: dict[str, bytes] = {}
    for asin, raw in read_entries(files.attributes) if files.attributes else ():
        if isinstance(raw, dict):
            packed[asin] = encode(read_entry(raw))
    for number, raw in enumerate(read_list(files.products), 1):
        if not isinstance(raw, dict):
            raise ConfigError(f"{files.products}: record {number} is {type(raw).__name__}, expected an object")
        entry = packed.get(str(raw.get("asin")))
        product = read_product(raw, None if entry is None else decode(entry))
        if product is not None:
            yield product


def read_human(path: Path | None) -> HumanGoals:
    """Read ``items_human_ins.json``.

    Raises:
        ConfigError: It cannot be read.
    """
    if path is None:
        return {}
    with open_bytes(path) as file:
        try:
            raw = msgspec.json.decode(file.read(), type=dict[str, list[_Instruction]])
        except (msgspec.DecodeError, OSError, EOFError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
    return {
        asin: [(entry.instruction, entry.instruction_attributes, entry.instruction_options) for entry in entries]
        for asin, entries in raw.items()
    }


class _Instruction(msgspec.Struct):
    """An entry of ``items_human_ins.json``."""

    instruction: str
    instruction_attributes: tuple[str, ...] = ()
    instruction_options: tuple[str, ...] = ()


def load_catalogue(data: str | Path) -> Catalogue:
    """Open the catalogue of some data files; whoever comes first makes it, everybody shares its pages.

    Raises:
        ConfigError: There are no such files, or they hold something else.
    """
    files = find_files(data)

    def make(work: Path) -> None:
        build_catalogue(read_products(files), work, human=read_human(files.human))

    return open_catalogue(build_once(cache_root() / "webshop", catalogue_key(files), make))


def load_tasks(data: str | Path, split: str) -> GoalTasks:
    """Return the goals of a split of some data files.

    Args:
        data: A folder, or the products' file.
        split: Canonical name of the split.

    Raises:
        ConfigError: The data cannot be read, or the split has no goals.
    """
    return _tasks(load_catalogue(data), split, str(data))


@lru_cache(maxsize=16)
def _tasks(catalogue: Catalogue, split: str, source: str) -> GoalTasks:
    return GoalTasks(catalogue, split, source=source)
