"""Rows in files: JSON Lines, Parquet, and the folder that Hugging Face ``datasets`` loads from disk.

The folder is written with pyarrow alone, so nothing of Hugging Face has to be installed to export.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnwise.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

_ARROW = "data-00000-of-00001.arrow"


def write_rows(rows: Iterable[Mapping[str, Any]], out: str | Path) -> int:
    """Write rows where the name says how: ``*.jsonl``, ``*.parquet``, else a ``datasets`` folder.

    ``datasets.load_dataset("json", data_files=...)`` and ``load_dataset("parquet", data_files=...)`` read
    the files, ``datasets.load_from_disk`` the folder.

    Args:
        rows: All with the same keys.
        out: File or folder; files are replaced, a folder must not exist.

    Returns:
        The number of rows.

    Raises:
        ConfigError: There are no rows, or the folder exists.
    """
    path = Path(out)
    table = [dict(row) for row in rows]
    if not table:
        raise ConfigError(f"there is nothing to write to {path}: no episode has what was asked for")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        _write_jsonl(table, path)
    elif path.suffix == ".parquet":
        import pyarrow.parquet as pq

        partial = path.with_name(path.name + ".partial")
        pq.write_table(_arrow(table), partial)
        partial.replace(path)
    elif path.suffix in ("", ".dataset"):
        _write_folder(_arrow(table), path)
    else:
        raise ConfigError(f"{path.name!r} is no known kind of file: end it in .jsonl or .parquet, or name a folder")
    return len(table)


def _write_jsonl(table: list[dict[str, Any]], path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        for row in table:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
    partial.replace(path)


def _arrow(table: list[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.Table.from_pylist(table)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ConfigError(f"the rows do not fit one table: {error}") from error


def _write_folder(table: pa.Table, path: Path) -> None:
    import pyarrow as pa

    if path.exists():
        raise ConfigError(f"{path} exists: choose another folder, or remove it first")
    partial = path.with_name(path.name + ".partial")
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir()
    with pa.OSFile(str(partial / _ARROW), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    digest = hashlib.sha256((partial / _ARROW).read_bytes()).hexdigest()
    state: dict[str, Any] = {
        "_data_files": [{"filename": _ARROW}],
        "_fingerprint": digest[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    # Features are those of the Arrow schema where the information names none.
    (partial / "dataset_info.json").write_text(json.dumps({"citation": "", "description": "", "license": ""}))
    (partial / "state.json").write_text(json.dumps(state, indent=2))
    partial.rename(path)
