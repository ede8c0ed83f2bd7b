"""Why two lines of work do not merge, in words and hunks that whoever solves it can read.

Reads what `git merge-tree --write-tree -z --name-only` prints and the marked files that it wrote.
Source: git-merge-tree(1), "Output".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

HUNKS_CHARACTERS = 6_000
"""How long the hunks of one refused merge may be in all: they go into a prompt and the ledger."""

_LEAST_CHARACTERS = 200
"""What a file is shown with at least; those that are too many for it are only counted."""

T = TypeVar("T")
_File = tuple[str, tuple[str, ...]]  # its path; sentences and hunks

_COUNT_CHARACTERS = 30  # of the line that counts the rest
_ACROSS_LINES = re.DOTALL | re.MULTILINE
_SHOWN_BY_HUNKS = "CONFLICT (contents)"
_LEFT_IN_TREE = re.compile(r"\s+Version \S.* left in tree\b.*", re.DOTALL)
_NOT_SHOWN = "\n… {} characters are left out here …\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The two commits as git was given them, and what a reader calls them."""

    ours: str
    theirs: str
    names: tuple[str, str] = ("what landed", "your change")

    def named(self, text: str) -> str:
        """Replace the commits in git's words by their names."""
        return text.replace(self.ours, self.names[0]).replace(self.theirs, self.names[1])

    def without_suffix(self, path: str) -> str:
        """The path that git moved out of a folder's way by putting a commit at its end."""
        commits = "|".join(map(re.escape, (self.ours, self.theirs)))
        return re.sub(rf"~(?:{commits})(?:_\d+)?$", "", path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One of git's messages, and the paths that it is about."""

    paths: tuple[bytes, ...]
    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeTree:
    """What `merge-tree` prints: the tree with marked files, conflicting paths in it, messages."""

    tree: str
    files: tuple[bytes, ...] = ()
    messages: tuple[Message, ...] = ()


def read_merge_tree(out: bytes) -> MergeTree:
    """Read the output of `git merge-tree --write-tree -z --name-only`."""
    tree, *rest = out.split(b"\0")
    end = rest.index(b"") if b"" in rest else 0
    files = tuple(dict.fromkeys(rest[:end]))
    return MergeTree(
        tree=tree.decode().strip(), files=files, messages=tuple(_messages(rest[end + 1 :]))
    )


def _messages(parts: Sequence[bytes]) -> Iterator[Message]:
    at = 0
    while at < len(parts) and parts[at].isdigit():
        last = at + int(parts[at])
        paths, (kind, text) = parts[at + 1 : last + 1], parts[last + 1 : last + 3]
        yield Message(
            paths=tuple(paths),
            kind=kind.decode(errors="replace"),
            text=text.decode(errors="replace").strip(),
        )
        at = last + 3


def conflicting_files(said: MergeTree, sides: Sides) -> tuple[str, ...]:
    """The paths that conflict, as a person names them."""
    names = (sides.without_suffix(path.decode(errors="replace")) for path in said.files)
    return tuple(dict.fromkeys(names))


def describe_conflicts(
    said: MergeTree,
    contents: Mapping[bytes, bytes],
    sides: Sides,
    *,
    limit: int = HUNKS_CHARACTERS,
) -> str:
    """The conflicts file by file, `limit` characters at most: the path, then hunks or a sentence.

    `contents` are the marked files by path. A hunk's line is where it stands in our version. What
    is too long is cut in the middle; short files and hunks are kept whole for as long as possible.
    """
    files = [_described(path, said, contents.get(path, b""), sides) for path in said.files]
    return _within(limit, files, _file, between="\n\n", noun="files")[:limit]


def _described(path: bytes, said: MergeTree, content: bytes, sides: Sides) -> _File:
    """What is said of a file, below its path."""
    found = [*marked_hunks(content.decode(errors="replace"), sides)]
    about = [m for m in said.messages if path in m.paths and m.kind.startswith("CONFLICT")]
    telling = [m for m in about if m.kind != _SHOWN_BY_HUNKS]
    sentences = [_sentence(m, sides) for m in telling or (() if found else about)]
    name = sides.without_suffix(path.decode(errors="replace"))
    return name.replace("\n", "\\n"), (*dict.fromkeys(sentences), *found)


def _sentence(message: Message, sides: Sides) -> str:
    text = _LEFT_IN_TREE.sub("", message.text.removeprefix("warning: "))
    return sides.named(text)


def marked_hunks(content: str, sides: Sides) -> Iterator[str]:
    """Each conflicting hunk of a marked file, after the line where it stands in our version."""
    ours, theirs = (re.escape(commit) for commit in (sides.ours, sides.theirs))
    marked = re.compile(
        rf"^<{{7}} {ours}(.*?)\r?\n(.*?)^={{7}}\r?\n(.*?)^>{{7}} {theirs}(.*?)\r?$", _ACROSS_LINES
    )
    n_not_ours = 0
    for found in marked.finditer(content):
        line = content.count("\n", 0, found.start()) + 1 - n_not_ours
        n_not_ours += found[0].count("\n") + 1 - found[2].count("\n")
        begin, end = (f"{name}{found[i]}" for name, i in zip(sides.names, (1, 4), strict=True))
        yield f"line {line}:\n<<<<<<< {begin}\n{found[2]}=======\n{found[3]}>>>>>>> {end}"


def _within(
    limit: int, items: Sequence[T], cut: Callable[[T, int], str], *, between: str, noun: str
) -> str:
    """Join items, each cut to its share of the limit; those that it has no room for are counted."""
    sizes = [len(cut(item, sys.maxsize)) for item in items]
    n_shown = _n_shown(sizes, len(between), limit)
    left_out = len(items) - n_shown
    more = [f"… and {left_out} more {noun}"] if left_out else []
    room = limit - len(between) * (n_shown + len(more) - 1) - sum(map(len, more))
    return between.join([*map(cut, items, _shares(sizes[:n_shown], room)), *more])


def _n_shown(sizes: Sequence[int], gap: int, limit: int) -> int:
    if sum(sizes) + gap * (len(sizes) - 1) <= limit:
        return len(sizes)
    needed = accumulate(min(size, _LEAST_CHARACTERS) + gap for size in sizes)
    return max(1, sum(each <= limit - _COUNT_CHARACTERS for each in needed))


def _file(file: _File, limit: int) -> str:
    path, parts = file
    rest = _within(limit - len(path) - 1, parts, _cut, between="\n", noun="hunks")
    return f"{path}\n{rest}"


def _shares(sizes: Sequence[int], limit: int) -> list[int]:
    """Divide a limit among what has these sizes: small ones get all, large ones the same."""
    left, shares = max(limit, 0), [0] * len(sizes)
    for n_done, i in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[i] = min(sizes[i], left // (len(sizes) - n_done))
        left -= shares[i]
    return shares


def _cut(text: str, limit: int) -> str:
    """The beginning and the end of a text that is too long."""
    if len(text) <= limit:
        return text
    gap = _NOT_SHOWN.format(len(text) - limit)
    half = (limit - len(gap)) // 2
    return text[:half] + gap + text[-half:] if half > 0 else text[: max(limit, 0)]
