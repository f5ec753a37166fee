"""The embedded shop: generated on first use, kept in the cache under a hash of what makes it."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from turnwise.envs.retrieval.cache import build_once, cache_root
from turnwise.envs.webshop.catalogue import Catalogue, open_catalogue
from turnwise.envs.webshop.tasksets import Bounds, GoalTasks

PRODUCTS = 1_000
# Of about 2,000 goals, in WebShop's own shuffle.
SPLITS: Bounds = {"test": (0, 200), "val": (200, 400), "train": (400, None)}
_SOURCE = "the embedded shop"
_MADE_BY = (
    "turnwise.envs.retrieval.analysis",
    "turnwise.envs.retrieval.bm25",
    "turnwise.envs.retrieval.bm25_build",
    "turnwise.envs.webshop.catalogue",
    "turnwise.envs.webshop.catalogue_build",
    "turnwise.envs.webshop.draws",
    "turnwise.envs.webshop.embedded",
    "turnwise.envs.webshop.generator",
    "turnwise.envs.webshop.instructions",
    "turnwise.envs.webshop.product",
    "turnwise.envs.webshop.vocabulary",
)


@lru_cache(maxsize=1)
def content_key() -> str:
    """Return the hash under which the embedded shop is kept: of the source that makes it."""
    folder = Path(__file__).parents[1]
    digest = sha256()
    for name in _MADE_BY:
        digest.update((folder.joinpath(*name.split(".")[2:]).with_suffix(".py")).read_bytes())
    digest.update((folder / "webshop" / "vocabulary.yaml").read_bytes())
    return digest.hexdigest()[:24]


def _generate(folder: Path) -> None:
    from turnwise.envs.webshop.catalogue_build import build_catalogue
    from turnwise.envs.webshop.generator import attribute_record, drafts, human_records, product_record
    from turnwise.envs.webshop.product import read_entry, read_product

    made = list(drafts(PRODUCTS))
    human = {
        draft.asin: [
            (record["instruction"], tuple(record["instruction_attributes"]), tuple(record["instruction_options"]))
            for record in human_records(draft)
        ]
        for draft in made
    }
    products = (read_product(product_record(draft), read_entry(attribute_record(draft))) for draft in made)
    build_catalogue((product for product in products if product is not None), folder, human=human)


def embedded_catalogue() -> Catalogue:
    """Open the embedded shop's catalogue, making it on first use."""
    return open_catalogue(build_once(cache_root() / "webshop", f"embedded-{content_key()}", _generate))


@lru_cache(maxsize=8)
def embedded_tasks(split: str) -> GoalTasks:
    """Return the goals of a split (test, val or train; ``synthetic-`` before it for the synthetic ones).

    Raises:
        UnknownNameError: The embedded shop has no such split.
    """
    return GoalTasks(embedded_catalogue(), split, bounds=SPLITS, source=_SOURCE)
