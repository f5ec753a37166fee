"""Corpora: a list in memory, or a JSONL file of any size read by memory mapping.

The JSONL is that of wiki-18, ``{"id", "contents"}`` where the contents are the title in quotes, a line feed and the
text; ``{"id", "title", "text"}`` and a ``url`` are read as well, and ``sentences`` (a list) where somebody marked them.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import numpy as np
import numpy.typing as npt

from turnwise.envs.retrieval.cache import build_once, cache_root
from turnwise.envs.retrieval.interface import Document, split_sentences
from turnwise.errors import ConfigError

# RFC 2606 reserves .example: documents without an address of their own get one that nobody can own.
DEFAULT_URL = "https://corpus.example/doc/"


def default_url(document_id: str) -> str:
    """Return the address that a document without one gets."""
    return DEFAULT_URL + quote(document_id, safe="")


def folded(title: str) -> str:
    """Return a title as titles are compared: case and white space do not count."""
    return " ".join(title.casefold().split())


def read_record(record: dict[str, Any], where: str) -> Document:
    """Turn a record of a corpus file into a document.

    Args:
        record: The decoded JSON object.
        where: Names the record in errors.

    Raises:
        ConfigError: It has no id or no text.
    """
    document_id = record.get("id", record.get("_id"))
    if not isinstance(document_id, str | int) or isinstance(document_id, bool):
        raise ConfigError(f"{where}: a document needs an 'id' (text or number), got {document_id!r}")
    title, text = record.get("title"), record.get("text")
    contents = record.get("contents")
    if isinstance(contents, str) and not isinstance(text, str):
        head, _, rest = contents.partition("\n")
        text = rest or head
        title = title or (head.strip().strip('"') if rest else "")
    sentences = record.get("sentences")
    if isinstance(sentences, list) and sentences and all(isinstance(sentence, str) for sentence in sentences):
        lines = tuple(sentences)
    elif isinstance(text, str):
        lines = split_sentences(text)
    else:
        raise ConfigError(f"{where}: a document needs 'contents', 'text' or 'sentences', got {sorted(record)}")
    url = record.get("url")
    name = str(document_id)
    return Document(name, str(title or ""), lines, url if isinstance(url, str) and url else default_url(name))


class ListCorpus:
    """A small corpus in memory (keeps the Corpus protocol)."""

    def __init__(self, documents: Sequence[Document]) -> None:
        """Hold documents; of several with one id, address or title the first is found by it."""
        self._documents = tuple(documents)
        self._rows: dict[str, int] = {}
        for row, document in enumerate(self._documents):
            for key in (document.id, document.url, folded(document.title)):
                self._rows.setdefault(key, row)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._documents)

    def document(self, row: int) -> Document:
        """Return the document of a row."""
        return self._documents[row]

    def find(self, key: str) -> int | None:
        """Return the row of an id, an address or a title (ignoring case), or None."""
        row = self._rows.get(key)
        return self._rows.get(folded(key)) if row is None else row

    def texts(self) -> Iterator[str]:
        """Iterate over title and text of each document."""
        return (f"{document.title} {document.text}" for document in self._documents)


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _keys(document: Document) -> Iterator[str]:
    yield "i" + document.id
    if document.url != default_url(document.id):
        yield "u" + document.url
    if document.title:
        yield "t" + folded(document.title)


class JsonlCorpus:
    """A corpus file that is mapped, not read: processes share its pages (keeps the Corpus protocol)."""

    def __init__(self, path: Path, tables: Path) -> None:
        """Open a file and the tables that :func:`write_tables` made of it."""
        self._path, self._folder = path, tables
        self._offsets: npt.NDArray[np.int64] = np.load(tables / "offsets.npy", mmap_mode="r").view(np.ndarray)
        self._hashes: npt.NDArray[np.uint64] = np.load(tables / "hashes.npy", mmap_mode="r").view(np.ndarray)
        self._hash_rows: npt.NDArray[np.int64] = np.load(tables / "hash_rows.npy", mmap_mode="r").view(np.ndarray)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __reduce__(self) -> tuple[Any, ...]:
        return JsonlCorpus, (self._path, self._folder)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self._offsets) - 1

    def document(self, row: int) -> Document:
        """Return the document of a row."""
        line = self._map[int(self._offsets[row]) : int(self._offsets[row + 1])]
        return read_record(msgspec.json.decode(line), f"{self._path.name} row {row}")

    def find(self, key: str) -> int | None:
        """Return the row of an id, an address or a title (ignoring case), or None."""
        candidates = ["i" + key, "u" + key, "t" + folded(key)]
        for candidate in candidates:
            digest = np.uint64(_digest(candidate))
            place = int(np.searchsorted(self._hashes, digest))
            while place < len(self._hashes) and self._hashes[place] == digest:
                row = int(self._hash_rows[place])
                if candidate in _keys(self.document(row)):
                    return row
                place += 1
        return None if not key.startswith(DEFAULT_URL) else self._by_default_url(key)

    def _by_default_url(self, url: str) -> int | None:
        return self.find(unquote(url[len(DEFAULT_URL) :])) if url != DEFAULT_URL else None

    def texts(self) -> Iterator[str]:
        """Iterate over title and text of each document, from the file's beginning to its end."""
        for row in range(len(self)):
            document = self.document(row)
            yield f"{document.title} {document.text}"


def write_tables(path: Path, folder: Path) -> None:
    """Write where each line of a corpus file begins, and which row each id, address and title is.

    The file is read once, line by line; memory grows by 40 bytes a document.

    Raises:
        ConfigError: A line is no document, or there are none.
    """
    offsets, hashes, rows = array("q"), array("Q"), array("q")
    decode, position = msgspec.json.decode, 0
    with path.open("rb") as file:
        for number, line in enumerate(file):
            start, position = position, position + len(line)
            if not line.strip():
                raise ConfigError(f"{path}: line {number + 1} is empty: a corpus has one document per line")
            try:
                record = decode(line)
            except msgspec.DecodeError as error:
                raise ConfigError(f"{path}: line {number + 1} is no JSON: {error}") from None
            if not isinstance(record, dict):
                raise ConfigError(f"{path}: line {number + 1} is no JSON object")
            for key in _keys(read_record(record, f"{path}: line {number + 1}")):
                hashes.append(_digest(key))
                rows.append(len(offsets))
            offsets.append(start)
    if not offsets:
        raise ConfigError(f"{path} holds no documents")
    offsets.append(position)
    found = np.frombuffer(hashes, dtype=np.uint64)
    order = np.argsort(found, kind="stable")
    np.save(folder / "offsets.npy", np.frombuffer(offsets, dtype=np.int64))
    np.save(folder / "hashes.npy", found[order])
    np.save(folder / "hash_rows.npy", np.frombuffer(rows, dtype=np.int64)[order])


def file_key(path: Path) -> str:
    """Return a name for the present content of a file: where it is, its size and when it was written."""
    stat = path.stat()
    return sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:24]


def open_corpus(path: str | Path) -> tuple[JsonlCorpus, Path]:
    """Open a JSONL corpus; its tables are made on first use and kept in the cache.

    Args:
        path: The file.

    Returns:
        The corpus, and a cache folder for indices over it.

    Raises:
        ConfigError: There is no such file, or it holds something else.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"no corpus file at {file}: expected JSONL with 'id' and 'contents' on each line")
    root = cache_root() / "corpora"
    folder = build_once(root, file_key(file), lambda work: write_tables(file, work))
    return JsonlCorpus(file, folder), folder


def write_jsonl(path: Path, documents: Iterable[Document]) -> None:
    """Write documents as a corpus file that this module, Search-R1 and FlashRAG read."""
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as file:
        for document in documents:
            record = {
                "id": document.id,
                "contents": f'"{document.title}"\n{document.text}',
                "url": document.url,
                "sentences": document.sentences,
            }
            file.write(encode(record) + b"\n")
