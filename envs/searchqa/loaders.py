"""Question files: JSON, JSONL (also gzipped) and Parquet, the format told by their keys."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from turnwise.envs.searchqa.embedded import SPLIT_ALIASES
from turnwise.envs.searchqa.formats import Reader, reader_of
from turnwise.envs.searchqa.tasksets import Question, SearchTasks
from turnwise.errors import ConfigError, MissingExtraError

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz", ".parquet")


def load_questions(data: str, split: str) -> SearchTasks:
    """Load the questions of a split; a process reads each file once.

    Args:
        data: A file, whose questions are all taken, or a folder with one file per split that has the split's name (or
            ``dev`` for val) in its own.
        split: Canonical name of the split.

    Raises:
        ConfigError: There is no such file, or it is in none of the known formats.
    """
    path = question_file(Path(data).expanduser(), split)
    stat = path.stat()
    return _load(path, split, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=8)
def _load(path: Path, split: str, mtime_ns: int, size: int) -> SearchTasks:
    questions: list[Question] = []
    reader: Reader | None = None
    for number, record in enumerate(records(path), 1):
        where = f"{path}: question {number}"
        if not isinstance(record, dict):
            raise ConfigError(f"{where}: expected an object, got {type(record).__name__}")
        reader = reader or reader_of(record, where)
        try:
            questions.append(reader(record, split, where))
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{where}: not in the format of the first question: {error!r}") from error
    return SearchTasks(questions, split=split, source=str(path))


def question_file(path: Path, split: str) -> Path:
    """Return a file as it is, or the file of a split in a folder.

    Raises:
        ConfigError: There is none, or more than one.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ConfigError(f"no question file at {path}: expected {', '.join(_SUFFIXES)} or a folder of them")
    names = [alias for alias, canonical in SPLIT_ALIASES.items() if canonical == split]
    files = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
    fitting = [file for file in files if any(name in file.name.lower() for name in names)]
    if len(fitting) != 1:
        found = ", ".join(file.name for file in (fitting or files)[:10]) or "nothing"
        raise ConfigError(f"{path} must hold one file for the split {split!r} ({' or '.join(names)}): found {found}")
    return fitting[0]


def records(path: Path) -> Iterator[Any]:
    """Iterate over the records of a question file.

    Raises:
        ConfigError: It cannot be decoded.
    """
    if path.suffix == ".parquet":
        yield from _parquet(path)
        return
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            if ".jsonl" in path.suffixes:
                for line in file:
                    if line.strip():
                        yield msgspec.json.decode(line)
                return
            content = msgspec.json.decode(file.read())
    except (msgspec.DecodeError, UnicodeDecodeError, OSError, EOFError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if isinstance(content, dict):
        content = content.get("data", [content])
    if not isinstance(content, list):
        raise ConfigError(f"{path}: expected a list of questions, got {type(content).__name__}")
    yield from content


def _parquet(path: Path) -> Iterator[Any]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "search") from error
    import pyarrow

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
