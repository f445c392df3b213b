"""XML as a stream of start tags, end tags and text, in constant memory and without its dangers.

An entity declaration is refused (entities can expand a small file to gigabytes, or read other files), and
nothing that a document points to is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from instructalign.errors import DataError
from instructalign.files import MAX_LINE_BYTES, READ_ERRORS, open_bytes

_BLOCK = 1 << 16


@dataclass(slots=True)
class XmlEvent:
    """A piece of a document.

    Attributes:
        kind: `start`, `end` or `text`.
        value: the tag's name without namespace, in lower case; or the text.
        attributes: of a start tag, names without namespace.
        line: of a start tag, where it is.
    """

    kind: str
    value: str
    attributes: Mapping[str, str]
    line: int = 0


def read_events(path: Path) -> Iterator[XmlEvent]:
    """The tags and texts of a document, in order; compressed files are decompressed.

    Raises:
        DataError: the file is missing, damaged, not XML, or declares an entity; the message names the line.
    """
    events: list[XmlEvent] = []
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
            except READ_ERRORS as error:
                line = parser.CurrentLineNumber
                raise DataError(
                    f"{path}:{line}: the data is damaged or truncated ({error}). Get the file again."
                ) from None
            silent = 0 if any(event.kind != "text" for event in events) else silent + len(block)
            if silent > MAX_LINE_BYTES:
                raise DataError(
                    f"{path}:{parser.CurrentLineNumber}: more than {MAX_LINE_BYTES >> 20} MiB without a tag."
                )
            yield from events
            events.clear()


def read_document(path: Path, *roots: str) -> Iterator[XmlEvent]:
    """The tags and texts of a document of one of these kinds; `roots` are names of the outermost element.

    Raises:
        DataError: as `read_events`, and where the document is of another kind.
    """
    opened = False
    for event in read_events(path):
        if not opened and event.kind == "start":
            if event.value not in roots:
                raise DataError(f"{path}: the document is <{event.value}>, not <{roots[0]}>.")
            opened = True
        yield event


def is_line_break(attributes: Mapping[str, str]) -> bool:
    """Whether an inline code of TMX or XLIFF (by its type) is a break of line, column or page: it parts words."""
    kinds = (attributes.get(key, "") for key in ("type", "ctype", "subtype"))
    return any(kind.rpartition(":")[2] in ("lb", "cb", "pb") for kind in kinds)


def _parser(path: Path, events: list[XmlEvent]) -> expat.XMLParserType:
    """A parser that appends what it finds to the list, and refuses entities."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    nothing: Mapping[str, str] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        local = {_local(key): text for key, text in attributes.items()}
        events.append(XmlEvent("start", _local(tag), local, parser.CurrentLineNumber))

    def refuse(name: str, *_: object) -> None:
        raise DataError(
            f"{path}:{parser.CurrentLineNumber}: the entity {name!r}. Entities are not read, as they can expand "
            "without limit or read other files; replace them by their text."
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: events.append(XmlEvent("end", _local(tag), nothing))
    parser.CharacterDataHandler = lambda text: events.append(XmlEvent("text", text, nothing))
    parser.EntityDeclHandler = refuse
    parser.SkippedEntityHandler = refuse  # one of an external document type, which is not fetched
    return parser


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
