"""XML read as a stream of start tags, end tags and text, in constant memory, and without its dangers.

An entity declaration is refused (entities can swell a small file to gigabytes, or name other files), and
nothing that a document points to is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from instructalign.errors import DataError
from instructalign.files import DAMAGE, LONGEST_LINE, open_bytes

_BLOCK = 1 << 16


@dataclass(slots=True)
class Event:
    """A piece of a document.

    Attributes:
        kind: `start`, `end` or `text`.
        value: the tag's name without namespace, in lower case; or the text.
        attributes: of a start tag, names without namespace.
    """

    kind: str
    value: str
    attributes: Mapping[str, str]


def read_events(path: Path) -> Iterator[Event]:
    """The tags and texts of a document, in order; compressed files are decompressed.

    Raises:
        DataError: the file is missing, damaged, not XML, or declares an entity; the message names the line.
    """
    events: list[Event] = []
    parser = _parser(path, events)
    silent = 0
    with open_bytes(path) as file:
        done = False
        while not done:
            try:
                block = file.read(_BLOCK)
                done = not block
                parser.Parse(block, done)
            except expat.ExpatError as error:
                raise DataError(
                    f"{path}:{error.lineno}: not XML ({expat.ErrorString(error.code)} at column "
                    f"{error.offset + 1})."
                ) from None
            except LookupError as error:
                raise DataError(f"{path}:1: not XML that can be read ({error}).") from None
            except DAMAGE as error:
                line = parser.CurrentLineNumber
                raise DataError(
                    f"{path}:{line}: the data is damaged or cut off ({error}). Get the file again."
                ) from None
            silent = 0 if any(event.kind != "text" for event in events) else silent + len(block)
            if silent > LONGEST_LINE:
                raise DataError(
                    f"{path}:{parser.CurrentLineNumber}: more than {LONGEST_LINE >> 20} MiB without a tag."
                )
            yield from events
            events.clear()


def _parser(path: Path, events: list[Event]) -> expat.XMLParserType:
    """A parser that puts what it finds at the end of the list, and refuses entities."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    nothing: Mapping[str, str] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        events.append(Event("start", _local(tag), {_local(key): text for key, text in attributes.items()}))

    def refuse(name: str, *_: object) -> None:
        raise DataError(
            f"{path}:{parser.CurrentLineNumber}: the entity {name!r}. Entities are not read, as they can swell "
            "without limit or name other files; replace them by their text."
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: events.append(Event("end", _local(tag), nothing))
    parser.CharacterDataHandler = lambda text: events.append(Event("text", text, nothing))
    parser.EntityDeclHandler = refuse
    parser.SkippedEntityHandler = refuse  # one of a document type that lies elsewhere and is not fetched
    return parser


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
