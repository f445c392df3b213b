"""Atomic writes, and reads that report what is wrong with a file and where."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import json
import logging
import lzma
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePath
from typing import IO, Any

import yaml

from instructalign.errors import DataError, InstructAlignError
from instructalign.file_kinds import COMPRESSED, MARKS, compression_of, unlike_text, unmarked_encoding, whose_place

logger = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 << 20
"""A longer line is no text, and would fill the memory."""

READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What reading damaged compressed data raises."""

ZIP_ERRORS = (zipfile.BadZipFile, RuntimeError, NotImplementedError, UnicodeDecodeError, *READ_ERRORS)
"""What reading damaged or protected zip files raises."""

_SNIFFED = 1 << 12  # bytes at a file's start that show what it is
_told: dict[tuple[str, str], None] = {}  # a run reads its corpora more than once
_MAX_SHOWN = 12  # of a folder's files, how many an error names
_UMASK = os.umask(0o022)  # reading it sets it
os.umask(_UMASK)
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
        readable(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def readable(path: Path) -> None:
    """Gives a file the permissions of other new files: mkstemp and safetensors keep theirs from colleagues."""
    path.chmod(0o666 & ~_UMASK)


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
        temporary.chmod(0o777 & ~_UMASK)
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_existing(out: Path) -> None:
    """Refuses to overwrite what is there.

    Raises:
        InstructAlignError: something is.
    """
    if out.exists():
        raise InstructAlignError(f"{out} already exists; choose another --out, or remove it.")


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
    """One record as a line of JSON, with the line's end; a lone surrogate, which UTF-8 has not, as an escape."""
    return _to_json(record).encode("utf-8", "backslashreplace") + b"\n"


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 text file with their numbers from 1, without line ends.

    Only LF and CRLF end a line: separators such as U+2028, and a CR alone, are text. A byte-order mark is
    left out. Files named `.gz`, `.bz2`, `.xz` or `.zst` are decompressed.

    Raises:
        DataError: the file is missing, damaged, not UTF-8, or has CR line ends; the message names the line.
    """
    with open_bytes(path) as file:
        yield from decode_lines(file, str(path))


def decode_lines(file: Any, name: str) -> Iterator[tuple[int, str]]:
    """The lines of an open binary file as in `read_lines`; `name` is for error messages."""
    number = 0
    try:
        file = as_utf8(file, name)
        for raw in iter(partial(file.readline, MAX_LINE_BYTES + 1), b""):
            number += 1
            line = raw.removesuffix(b"\n").removesuffix(b"\r")
            if number == 1:
                if b"\r" in line and not raw.endswith(b"\n"):
                    raise DataError(
                        f"{name}:1: lines end in CR alone (classic Mac OS). Convert the file first: tr '\\r' '\\n'"
                    )
                line = line.removeprefix(codecs.BOM_UTF8)
            if len(raw) > MAX_LINE_BYTES:
                raise DataError(
                    f"{name}:{number}: a line of more than {MAX_LINE_BYTES >> 20} MiB; is this a text file?"
                )
            yield number, line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _undecodable(name, number if error.encoding == "utf-8" else number + 1, error) from None
    except READ_ERRORS as error:
        raise _damaged(name, number + 1, error) from None


def _undecodable(name: str, line: int, error: UnicodeDecodeError) -> DataError:
    if error.encoding != "utf-8":
        return DataError(
            f"{name}:{line}: begins as {error.encoding.upper()} text, but is damaged ({error.reason}). "
            "Get the file again."
        )
    excel = ".csv" in name.lower()
    advice = "Save it from Excel as CSV UTF-8, or convert it" if excel else "Convert the file first"
    return DataError(
        f"{name}:{line}: not UTF-8 (byte 0x{error.object[error.start]:02x} at column {error.start + 1}). "
        f"{advice}, for example: iconv -f WINDOWS-1252 -t UTF-8"
    )


def _damaged(name: object, line: int, error: Exception) -> DataError:
    return DataError(f"{name}:{line}: the data is damaged or truncated ({error}). Get the file again.")


def as_utf8(file: Any, name: str) -> Any:
    """An open binary file of text, read as UTF-8: one that is marked as UTF-16 or UTF-32 is converted.

    Raises:
        DataError: its beginning shows that it is no text.
    """
    head = file.peek(_SNIFFED)[:_SNIFFED]
    if problem := unlike_text(head):
        raise DataError(f"{name}: {problem}")
    if encoding := unmarked_encoding(head):
        raise DataError(
            f"{name}:1: binary data, or {encoding} without a byte-order mark. If it is text, convert it first: "
            f"iconv -f {encoding} -t UTF-8"
        )
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return io.BufferedReader(_Converted(file, encoding), 1 << 16)
    return file


class _Converted(io.RawIOBase):
    """A file in another encoding as UTF-8."""

    def __init__(self, file: IO[bytes], encoding: str) -> None:
        self._file, self._decoder, self._rest = file, codecs.getincrementaldecoder(encoding)(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = b"more"
        while not self._rest and block:
            block = self._file.read(1 << 16)
            self._rest = self._decoder.decode(block, not block).encode()
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count


@contextmanager
def open_bytes(path: Path) -> Iterator[Any]:
    """Opens a file for reading, decompressing it where its content is compressed, whatever its name ends in.

    Every reader of text opens its files here. What is opened has the method `peek`.

    Raises:
        DataError: the file is missing, a folder, not permitted, or obviously no text, such as a workbook.
    """
    check_file(path)
    named = COMPRESSED.get(path.suffix.lower(), "")
    with ExitStack() as stack:
        file: Any = stack.enter_context(path.open("rb"))
        head = file.peek(_SNIFFED)[:_SNIFFED]
        kind = compression_of(head, named)
        if kind != named and head:
            notice(f"{path}: {f'{kind} data, read as such' if kind else f'not {named} data; read as it is'}.")
        if kind == "zstd":
            import pyarrow

            # pyarrow, which `datasets` brings, reads Zstandard; the standard library does so from Python 3.14 on.
            file = io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), 1 << 16)
        elif kind:
            openers: dict[str, Any] = {"gzip": gzip.open, "bzip2": bz2.open, "xz": lzma.open}
            file = openers[kind](file, "rb")
        elif problem := unlike_text(head + _tail(path)):
            raise DataError(f"{path}: {problem}")
        yield stack.enter_context(file) if kind else file


def _tail(path: Path) -> bytes:
    """The end of a zip file, which lists what is in it; empty for other files."""
    if not path.is_file():  # a pipe
        return b""
    with path.open("rb") as file:
        if file.read(4) != b"PK\3\4":
            return b""
        file.seek(-min(path.stat().st_size, 1 << 16), os.SEEK_END)
        return file.read()


def hidden(path: PurePath) -> bool:
    """Whether a file is none of the user's: its name begins with a dot, or it is a Mac's resource fork."""
    return path.name.startswith(".") or "__MACOSX" in path.parts


def notice(found: str, advice: str = "") -> None:
    """Tells the user, once, how a file is read that is not what it is called or set to be, and what to do."""
    if logger.propagate:  # not while notices are collected
        if (found, advice) in _told:
            return
        _told[found, advice] = None
    logger.warning("%s", f"{found} {advice}".rstrip(), extra={"notice": (found, advice)})


def noticed() -> list[str]:
    """What users of this process have been told of how their files are read, in order."""
    return [found for found, _ in _told]


@contextmanager
def collected_notices() -> Iterator[dict[tuple[str, str], None]]:
    """Collects what `notice` is called with, instead of logging it; each once, in order."""
    collected: dict[tuple[str, str], None] = {}

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            collected[getattr(record, "notice", (record.getMessage(), ""))] = None

    handler, logger.propagate = Collector(), False
    logger.addHandler(handler)
    try:
        yield collected
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def check_file(path: Path) -> None:
    """Refuses a path that is no file that may be read, or that holds something in the file's place.

    Raises:
        DataError: the file is missing, a folder, or not permitted (the message lists what the folder contains); it
            is a Git LFS pointer or a saved error page.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file.")
    if path.exists():
        if not os.access(path, os.R_OK):
            raise DataError(f"{path} cannot be read: permission denied. Check its permissions.")
        if path.is_file():
            with path.open("rb") as file:
                if problem := whose_place(file.read(_SNIFFED)):
                    raise DataError(f"{path}: {problem}")
        return
    parent = path.parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    found = sorted(child.name for child in parent.iterdir()) if parent.is_dir() else []
    place = "This folder" if parent == Path() else parent
    more = f" and {len(found) - _MAX_SHOWN} more" if len(found) > _MAX_SHOWN else ""
    listed = f"contains: {', '.join(found[:_MAX_SHOWN])}{more}" if found else "is empty"
    raise DataError(f"{path} does not exist. {place} {listed}.")


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file with their line numbers; empty lines are skipped.

    A JSON array of objects, and objects over several lines, are read in the same way, as a stream; the numbers are
    then those of the objects.

    Raises:
        DataError: a line or element is not a JSON object; the message names the line.
    """
    with open_bytes(path) as opened:
        try:
            file = as_utf8(opened, str(path))
            head = file.peek(_SNIFFED).removeprefix(codecs.BOM_UTF8).lstrip()
            if head.startswith(b"["):
                notice(f"{path}: a JSON array; its elements are read as the lines of JSON lines are.")
                yield from _json_objects(file, path, "[")
                return
            if _OVER_LINES.match(head):
                notice(f"{path}: JSON objects over several lines; they are read one after another.")
                yield from _json_objects(file, path, "{ or the end")
                return
        except UnicodeDecodeError as error:
            raise _undecodable(str(path), 1, error) from None
        except READ_ERRORS as error:
            raise _damaged(path, 1, error) from None
        for number, line in decode_lines(file, str(path)):
            if line.strip():
                yield number, _object(path, number, line)


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    """The object that a line of JSON holds."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{number}: not JSON ({error.msg.removesuffix(' at')} at column {error.colno}). Expected an "
            "object on each line, or one JSON array of objects."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; endless nesting
        raise DataError(f"{path}:{number}: JSON that cannot be parsed ({error}).") from None
    if not isinstance(record, dict):
        raise DataError(f"{path}:{number}: expected a JSON object, found {type(record).__name__}.")
    return record


_OVER_LINES = re.compile(rb"\{[ \t\r]*\n|\{[^\n]*[,\[{][ \t\r]*\n")  # an object does not end there
_SPACE = re.compile(r"[ \t\r\n]*")


def _json_objects(file: IO[bytes], path: Path, expected: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects that do not stand on a line each, numbered from 1, in the memory that the largest takes.

    Args:
        file: what they are read from, as UTF-8.
        path: for error messages.
        expected: `[` for a JSON array; `{ or the end` for objects one after another.
    """
    parse = json.JSONDecoder().raw_decode
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    between = ", or ]" if expected == "[" else expected
    text, at, line, done = "", 0, 1, False  # `line` is that of the text's first character
    block, number = 1 << 16, 0

    def wrong(problem: object, place: int) -> DataError:
        kind = "a JSON array of objects" if between == ", or ]" else "JSON objects"
        return DataError(f"{path}:{line + text.count(chr(10), 0, place)}: not {kind} ({problem}).")

    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr] # it matches nothing, too
        cut = at == len(text)
        if not cut and text[at] == "{" == expected[0]:
            try:
                record, after = parse(text, at)
            except json.JSONDecodeError as error:
                # What is cut off at the end of the text fails there, or as a string that is not closed.
                cut = error.msg.startswith("Unterminated") or error.pos > len(text) - 12
                if not cut or done:
                    raise wrong(error.msg.removesuffix(" at"), error.pos) from None
            except (ValueError, RecursionError) as error:
                raise wrong(error, at) from None
            else:
                number, at, expected, block = number + 1, after, between, 1 << 16
                yield number, record
                continue
        if not cut:
            following = {"[[": "{ or ]", ", or ],": "{", ", or ]]": "the end", "{ or ]]": "the end"}
            if expected + text[at] not in following:
                raise wrong(f"expected {expected}, found {text[at : at + 20]!r}", at)
            expected = following[expected + text[at]]
            at += 1
            continue
        if done:
            if expected.endswith("the end"):
                return
            raise wrong(f"it ends where {expected} is expected", at)
        if len(text) - at > MAX_LINE_BYTES:
            raise wrong(f"an object of more than {MAX_LINE_BYTES >> 20} MiB", at)
        line += text.count("\n", 0, at)
        data = file.read(block)
        done, block = not data, 2 * block
        try:
            text, at = text[at:] + decoder.decode(data, done), 0
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{line + text.count(chr(10), at)}: not UTF-8 after this line ({error.reason}). Convert "
                "the file first, for example: iconv -f WINDOWS-1252 -t UTF-8"
            ) from None


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
