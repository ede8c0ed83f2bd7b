"""Opening documents that hostile code may have written: bounded, and never a crash."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote
from xml.parsers import expat

from blocks.errors import Refused

MAX_DOCUMENT_BYTES = 64 << 20
MAX_OUTPUT_BYTES = 16 << 20
MAX_LINES = 200_000
MAX_LINE_CHARACTERS = 4_000
MAX_TEXT_CHARACTERS = 400
WASTE_CHARACTERS = 32 << 20
NEST_CHARACTERS = 60_000  # what a nest as deep as Python lets it be costs (3.13: 10,000 levels)

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b\n]{0,200}(?:\x07|\x1b\\)")
_DECODER = json.JSONDecoder()
_JSON_START = re.compile(r"^[ \t]*(?=(?:\[\s{0,99})?\{\s{0,99}[\"}])", re.MULTILINE)


class Unreadable(Refused):
    """A report cannot be read."""

    def __str__(self) -> str:
        """Give the reason alone: it is shown beside the report's name."""
        return str(self.args[0]) if self.args else "unknown format"


def walk_xml(
    document: bytes,
    *,
    start: Callable[[str, Mapping[str, str]], None],
    end: Callable[[str], None],
    allow_doctype: bool = False,
) -> None:
    """Call `start` and `end` for each element, in order, without building a tree.

    A document type is refused, and with it all entities. Where it is allowed, since Cobertura's
    and JaCoCo's reports name their DTD, it may still declare nothing, and no DTD is fetched.
    Source: https://docs.python.org/3/library/xml.html#xml-security (billion laughs).

    Raises:
        Unreadable: too large, not well-formed, or it declares what a report has no need for.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise Unreadable(f"larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = _accept_doctype if allow_doctype else _refuse_doctype
    try:
        parser.Parse(document, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise Unreadable(f"not well-formed XML: {error}") from error


def _refuse_doctype(*_declared: object) -> None:
    raise Unreadable("it declares a document type, which reports do not need")


def _accept_doctype(_name: str, _system: object, _public: object, has_subset: object) -> None:
    if has_subset:
        _refuse_doctype()


def load_json(document: bytes) -> object:
    """Return the value in a JSON document.

    Raises:
        Unreadable: too large, nested too deep, or no JSON.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise Unreadable(f"larger than {MAX_DOCUMENT_BYTES >> 20} MiB")
    try:
        value: object = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    return value


def json_values(text: str) -> Iterator[object]:
    """Yield the JSON objects and arrays of objects that begin a line, outermost ones only.

    Linear: when failed attempts have cost `WASTE_CHARACTERS`, the rest of the text is left.
    """
    position, wasted = 0, 0
    while wasted < WASTE_CHARACTERS and (found := _JSON_START.search(text, position)):
        begin = found.end()
        end_of_line = text.find("\n", begin)
        line = text[begin : end_of_line if end_of_line >= 0 else len(text)].rstrip()
        value, length, goes_on = _decode(line, 0)
        wasted += 0 if length else len(line) // 8
        if goes_on:
            value, length, _ = _decode(text, begin)
            # A failure counts the lines before it, for a message that nobody reads: it costs.
            wasted += 0 if length else begin // 16 + len(line) + NEST_CHARACTERS
        position = begin + (length or 1)
        if length:
            yield value


def _decode(text: str, begin: int) -> tuple[object, int, bool]:
    """Return the JSON value there, its length (0: there is none), and whether it was cut off."""
    try:
        value, end = _DECODER.raw_decode(text, begin)
    except json.JSONDecodeError as error:
        return None, 0, error.pos >= len(text)
    except (ValueError, RecursionError):
        # A number of thousands of digits, or a nest.
        return None, 0, False
    return value, end - begin, False


def text_of(output: bytes) -> str:
    """Return the end of an output as text, without colours, each line ended by a newline."""
    text = output[-MAX_OUTPUT_BYTES:].decode(errors="replace")
    return _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


def lines_of(text: str) -> list[str]:
    """Return the last lines of a text that a person could read, without blank ones.

    Lines of more than `MAX_LINE_CHARACTERS` are data, not text.
    """
    lines = (line.rstrip() for line in text.split("\n") if len(line) <= MAX_LINE_CHARACTERS)
    return list(deque(filter(None, lines), maxlen=MAX_LINES))


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return a JSON array, or an empty one for anything else."""
    return value if isinstance(value, list) else []


def as_number(value: object) -> int:
    """Return a whole number that is not negative, or 0 for anything else."""
    return value if type(value) is int and 0 <= value < 1 << 53 else 0


def as_text(value: object, default: str = "") -> str:
    """Return a short text on one line that can be encoded and stored, or the default."""
    if not isinstance(value, str):
        return default
    if len(value) > MAX_TEXT_CHARACTERS:
        value = value[: MAX_TEXT_CHARACTERS - 1] + "…"
    # JSON may hold halves of surrogate pairs, which no file and no terminal takes.
    return " ".join(value.encode(errors="replace").decode(errors="replace").split())


def as_path(value: object, root: str = "") -> str:
    """Return a path or `file:` address as a path relative to `root`, where it is below it."""
    path = as_text(value)
    if path.startswith("file:"):
        path = as_text(unquote(path.removeprefix("file://").removeprefix("file:")))
    prefix = root.rstrip("/") + "/"
    if root and path.startswith(prefix):
        path = path[len(prefix) :]
    return path.removeprefix("./")
