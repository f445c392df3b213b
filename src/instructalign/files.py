"""Atomic writes, and reads that report what is wrong with a file and where."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import yaml

from instructalign.errors import DataError

MAX_LINE_BYTES = 64 << 20
"""A longer line is no text, and would fill the memory."""

READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What reading damaged compressed data raises."""

_MAX_SHOWN = 12  # of a folder's files, how many an error names
_to_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each call


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for writing that appears under its name only when it is complete and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:  # it names the temporary file
        raise type(error)(error.errno, error.strerror, str(path)) from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def copy_folder(source: Path, target: Path, *, link: bool = False) -> None:
    """Copies a folder, all or nothing.

    Args:
        source: the folder.
        target: must not exist yet.
        link: share the files' content (hard links) where the disk can do it: for files that are only ever
            replaced, never written into.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"))

    def link_or_copy(file: str, copy: str) -> None:
        try:
            os.link(file, copy)
        except OSError:  # another disk, or one without links
            shutil.copy2(file, copy)

    try:
        shutil.copytree(
            source, temporary, copy_function=link_or_copy if link else shutil.copy2, dirs_exist_ok=True
        )
        temporary.chmod(0o755)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file, all or nothing."""
    with atomic(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file for people and machines, all or nothing."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: Path, records: Iterable[Any]) -> int:
    """Writes JSON lines, all or nothing, and returns how many."""
    count = 0
    with atomic(path) as file:
        for record in records:
            file.write(json_line(record))
            count += 1
    return count


def json_line(record: Any) -> bytes:
    """One record as a line of JSON, with the line's end."""
    return _to_json(record).encode() + b"\n"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file with their numbers from 1, without line ends.

    Only LF and CRLF end a line: separators such as U+2028, and a CR alone, are text. A byte-order mark is
    left out. Files named `.gz`, `.bz2`, `.xz` or `.zst` are decompressed.

    Raises:
        DataError: the file is missing, damaged, not UTF-8, or has CR line ends; the message names the line.
    """
    with open_bytes(path) as file:
        yield from decode_lines(file, str(path))


def decode_lines(file: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
    """The lines of an open binary file as in `read_lines`; `name` is for error messages."""
    number = 0
    try:
        for raw in iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""):
            number += 1
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                _check_start(name, raw)
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(raw) > MAX_LINE_BYTES:
                raise DataError(
                    f"{name}:{number}: a line of more than {MAX_LINE_BYTES >> 20} MiB; is this a text file?"
                )
            yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}:{number}: not UTF-8 (byte 0x{error.object[error.start]:02x} at column "
            f"{error.start + 1}). Convert the file first, for example: iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    except READ_ERRORS as error:
        raise DataError(
            f"{name}:{number + 1}: the data is damaged or truncated ({error}). Get the file again."
        ) from None


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading, decompressing it by the ending of its name; every reader of text opens it here.

    Raises:
        DataError: the file is missing, a folder, or not permitted.
    """
    check_file(path)
    ending = path.suffix.lower()
    if ending == ".zst":
        import pyarrow

        # pyarrow, which `datasets` brings, reads Zstandard; the standard library does so from Python 3.14 on.
        file: Any = io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), 1 << 16)
    else:
        openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
        file = openers.get(ending, open)(path, "rb")
    with file:
        yield file


def check_file(path: Path) -> None:
    """Refuses a path that is no file that may be read.

    Raises:
        DataError: the file is missing, a folder, or not permitted; the message lists what the folder contains.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file.")
    if path.exists():
        if os.access(path, os.R_OK):
            return
        raise DataError(f"{path} cannot be read: permission denied. Check its permissions.")
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    found = sorted(child.name for child in parent.iterdir()) if parent.is_dir() else []
    place = "This folder" if parent == Path() else parent
    more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    listed = f"contains: {', '.join(found[:_MAX_SHOWN])}{more}" if found else "is empty"
    raise DataError(f"{path} does not exist. {place} {listed}.")


def _check_start(name: str, line: bytes) -> None:
    """Refuses a file whose first line shows that it is no UTF-8 text with LF or CRLF line ends."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(f"{name}:1: UTF-16 or UTF-32, not UTF-8. Convert the file first: iconv -f UTF-16 -t UTF-8")
    if b"\r" in line.rstrip(b"\r\n") and not line.endswith(b"\n"):
        raise DataError(
            f"{name}:1: lines end in CR alone (classic Mac OS). Convert the file first: tr '\\r' '\\n'"
        )


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers; empty lines are skipped.

    Raises:
        DataError: a line is not a JSON object; the message names the line.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}:{number}: not JSON ({error.msg.removesuffix(' at')} at column {error.colno})."
            ) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits; endless nesting
            raise DataError(f"{path}:{number}: JSON that cannot be parsed ({error}).") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: expected a JSON object, found {type(record).__name__}.")
        yield number, record


def read_object(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """The object (mapping) in a JSON or YAML file; empty where there is no such file.

    Args:
        path: the file.
        parse: `json.loads`, `yaml.safe_load` or the like.

    Raises:
        DataError: the file cannot be parsed, or contains something else.
    """
    if not path.is_file():
        return {}
    try:
        value = parse(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise DataError(
            f"{path}: cannot be parsed: {' '.join(str(error).split())}. Restore an intact copy of the file, or "
            "leave its folder out."
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected an object of keys and values, found {type(value).__name__}.")
    return value


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def text_hash(value: Any) -> str:
    """The SHA-256 of a JSON-serialisable value, independent of the order of keys."""
    return sha256(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


def format_bytes(count: float) -> str:
    """A number of bytes for people, with three digits: `3.25 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB"
