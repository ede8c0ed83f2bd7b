"""The SQL of the metrics store: named, described statements in `.sql` files.

A statement begins with its name and what it is for; columns of tables and views carry theirs:

    -- landings --
    -- One row: a move of `green`.
    CREATE TABLE landings (
        mission VARCHAR NOT NULL, -- Id of the mission.

What is written there for people is stored in the database too, by `COMMENT ON`.
Source: procrastinate/sql/__init__.py, for queries as named statements in a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

_NAME = re.compile(r"^-- (\w+) --\n", re.MULTILINE)
_DESCRIPTION = re.compile(r"(?:-- .*\n)*")
_COLUMN = re.compile(r"^ +(\w+)\b.*? -- (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A named statement of a `.sql` file and what it is for."""

    name: str
    description: str
    sql: str

    @property
    def columns(self) -> Mapping[str, str]:
        """The columns that a CREATE statement lists, each with its comment."""
        return {found[1]: found[2] for found in _COLUMN.finditer(self.sql.split("\n)")[0])}


@cache
def statements(file: str) -> Mapping[str, Statement]:
    """Read all statements of a file of this folder (its name without `.sql`), in its order."""
    text = Path(__file__).with_name(f"{file}.sql").read_text(encoding="utf-8")
    return {statement.name: statement for statement in parse(text)}


def parse(text: str) -> Iterator[Statement]:
    """Split a `.sql` text into its statements; what stands before the first name is passed over."""
    _, *parts = _NAME.split(text)
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        found = _DESCRIPTION.match(body)
        header = found[0] if found else ""
        description = " ".join(line.removeprefix("-- ") for line in header.splitlines())
        yield Statement(
            name=name, description=description, sql=body[len(header) :].strip().rstrip(";")
        )


def schema() -> Iterator[str]:
    """Give the statements that make an empty database the store, comments included."""
    for kind, file in (("TABLE", "schema"), ("VIEW", "views")):
        for statement in statements(file).values():
            yield statement.sql
            yield from _comments(kind, statement)


def schema_digest() -> str:
    """Name the schema by its text: another text makes other tables."""
    texts = (Path(__file__).with_name(f"{file}.sql").read_bytes() for file in ("schema", "views"))
    return sha256(b"".join(texts)).hexdigest()[:16]


def _comments(kind: str, statement: Statement) -> Iterator[str]:
    yield f"COMMENT ON {kind} {statement.name} IS {_quoted(statement.description)}"
    for column, comment in statement.columns.items():
        yield f"COMMENT ON COLUMN {statement.name}.{column} IS {_quoted(comment)}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
