"""Patches as git prints them: which lines of which file are new, which are gone.

Read with the counts that each hunk announces, never by what a line looks like: the lines are an
agent's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

NO_BLOB = "0" * 40
"""The id that stands where a file is not there."""

_HUNK = re.compile(rb"@@ -\d+(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_INDEX = re.compile(rb"index ([0-9a-f]{40})\.\.([0-9a-f]{40})")
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_LETTERS |= {b"v": b"\v"}


@dataclass(slots=True, kw_only=True)
class Hunk:
    """A piece of a file: `after` is its text now, from `first_line` on; `added` are line numbers.

    `removed` are the lines that are gone. Line ends are as in the file.
    """

    first_line: int
    after: bytes = b""
    added: set[int] = field(default_factory=set)
    removed: bytes = b""


@dataclass(slots=True, kw_only=True)
class FilePatch:
    """What became of one file; `old` and `new` are blobs, `NO_BLOB` when it is not there.

    Of an `is_opaque` file git shows no lines: it is binary, or larger than what is looked into.
    What is not UTF-8 in a name is shown escaped.
    """

    path: str
    old: str = NO_BLOB
    new: str = NO_BLOB
    is_opaque: bool = False
    hunks: list[Hunk] = field(default_factory=list)


def read_patch(lines: Iterable[bytes]) -> Iterator[FilePatch]:
    """Read `git diff --full-index`, one file after another; texts between files are passed over.

    A file that changed its type, such as to a symbolic link, comes twice.
    Source: git-diff(1), "Generating patch text with -p".
    """
    stream, current = iter(lines), None
    for line in stream:
        if line.startswith(b"diff --git "):
            if current:
                yield current
            current = FilePatch(path=_path(line[len(b"diff --git ") :].rstrip(b"\n")))
        elif current is None:
            continue
        elif found := _HUNK.match(line):
            n_old, first, n_new = (1 if n is None else int(n) for n in found.groups())
            current.hunks.append(_read_hunk(stream, n_old, first, n_new))
        elif found := _INDEX.match(line):
            current.old, current.new = (each.decode() for each in found.groups())
        elif line.startswith(b"Binary files "):
            current.is_opaque = True
    if current:
        yield current


def _read_hunk(stream: Iterator[bytes], n_old: int, first: int, n_new: int) -> Hunk:
    after: list[bytes] = []
    removed: list[bytes] = []
    hunk = Hunk(first_line=first)
    while n_old > 0 or n_new > 0:
        line = next(stream, b"")
        kind, text = line[:1], line[1:]
        if not kind:  # torn off
            break
        if kind == b"\\":  # «No newline at end of file»
            continue
        if kind != b"+":
            n_old -= 1
        if kind == b"-":
            removed.append(text)
            continue
        if kind == b"+":
            hunk.added.add(first + len(after))
        after.append(text)
        n_new -= 1
    hunk.after, hunk.removed = b"".join(after), b"".join(removed)
    return hunk


def _path(names: bytes) -> str:
    """Read `a/NAME b/NAME`, where both names are the same and may be quoted as in C."""
    one = names[: (len(names) - 1) // 2]
    if one.startswith(b'"'):
        one = _ESCAPE.sub(_unescaped, one[1:-1])
    return one.removeprefix(b"a/").decode(errors="backslashreplace")


def _unescaped(found: re.Match[bytes]) -> bytes:
    what = found[1]
    return bytes([int(what, 8)]) if len(what) > 1 else _LETTERS.get(what, what)
