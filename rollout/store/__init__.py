"""The store: a run as a directory of Parquet shards, a journal, a manifest and images."""

from turnwise.rollout.store.errors import StoreError, StoreWarning
from turnwise.rollout.store.jsonl import export_jsonl, import_jsonl, read_jsonl
from turnwise.rollout.store.manifest import check_unused
from turnwise.rollout.store.recordings import read_actions
from turnwise.rollout.store.run_store import RunStore

__all__ = [
    "RunStore",
    "StoreError",
    "StoreWarning",
    "check_unused",
    "export_jsonl",
    "import_jsonl",
    "read_actions",
    "read_jsonl",
]
