"""The metrics store: rows in a DuckDB file that can be made anew at any time.

DuckDB lets one process write a file or many read it, and readers are shut out too. So whoever
writes opens the file for a few short transactions, and whoever reads takes a copy into memory and
lets go at once: nobody who looks on holds up who works.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Self

import duckdb

from blocks.errors import Broken, MissionError, Refused, StoreBusy
from blocks.metrics_sql import schema, schema_digest, statements

Columns = Mapping[str, Mapping[str, str]]
"""For each table its columns, and for each column its type."""

_HOLDER = re.compile(r"Conflicting lock is held in (.+?) \(PID (\d+)\)")
_IN_USE = ("Could not set lock", "different configuration", "nique file handle conflict")
_NO_SPACE = ("No space left", "Disk quota exceeded", "Permission denied", "Read-only file system")
_DAMAGED = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException)


class StoreUnreadable(Broken):
    """The metrics file is missing, damaged, or made by another version."""


class StoreFailed(Broken):
    """DuckDB did not do what was asked of it."""


class NotAStore(Refused):
    """This DuckDB file is not a metrics store."""


class Row(NamedTuple):
    """A row for a table; what `values` does not name is null."""

    table: str
    values: Mapping[str, object]


class Mark(NamedTuple):
    """The last event of a mission that the store holds; `recorded_at` is UTC without a zone."""

    seq: int
    recorded_at: datetime


class Writer:
    """A store that is open for writing; each call is one transaction, kept whole or not at all."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.columns: Columns = _columns(connection)

    def marks(self) -> Mapping[str, Mark]:
        """How far each mission is synced."""
        rows = self._connection.execute(_query("marks")).fetchall()
        return {mission: Mark(seq, recorded_at) for mission, seq, recorded_at in rows}

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows; those that are there already, by their key, are passed over."""
        by_table: dict[str, list[Mapping[str, object]]] = {}
        for row in rows:
            by_table.setdefault(row.table, []).append(row.values)
        with _transaction(self._connection):
            for table, values in by_table.items():
                self._insert(table, values)

    def forget(self, missions: Iterable[str]) -> None:
        """Remove all rows of these missions."""
        gone = list(missions)
        with _transaction(self._connection):
            for table in self.columns:
                self._connection.execute(
                    f"DELETE FROM {table} WHERE mission IN (SELECT unnest(?::VARCHAR[]))",  # noqa: S608 - from our own schema
                    [gone],
                )

    def _insert(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Insert column by column: 100,000 rows take one second, row by row a minute."""
        types = self.columns[table]
        names = ", ".join(types)
        values = ", ".join(f"unnest(?::{kind}[])" for kind in types.values())
        self._connection.execute(
            f"INSERT OR IGNORE INTO {table} ({names}) SELECT {values}",
            [[row.get(name) for row in rows] for name in types],
        )


class MetricsStore:
    """A metrics file; nothing is opened before it is used.

    When it is opened for writing, a file that shows damage is set aside (as `.aside`) and one of
    another schema is emptied: whoever writes fills it again from the ledgers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Hold the file for writing, with the right schema; keep it short.

        Raises:
            StoreBusy: another process holds the file, or the disk does not take it.
            NotAStore: the file holds somebody else's tables.
            StoreUnreadable: it shows damage only now; `set_aside` it and write it anew.
            StoreFailed: DuckDB cannot, for another reason (memory, say).
        """
        with _translated(self.path):
            connection = self._open()
            try:
                yield Writer(connection)
            finally:
                connection.close()

    def set_aside(self) -> None:
        """Move a damaged file out of the way; the last one is kept as `.aside`.

        Raises:
            StoreBusy: the disk does not take it.
        """
        with _translated(self.path):
            if self.path.exists():
                self.path.replace(self.path.with_name(f"{self.path.name}.aside"))
            self.path.with_name(f"{self.path.name}.wal").unlink(missing_ok=True)

    def _open(self) -> duckdb.DuckDBPyConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return _opened(self.path)
        except duckdb.Error as error:
            if not _is_damage(error):
                raise
        self.set_aside()
        return _opened(self.path)


class MemoryStore:
    """A store in memory, for reading a file without holding it; a context manager."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(":memory:")
        _create(self.connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Give the writer of this store."""
        yield Writer(self.connection)

    def load(self, path: Path, *, only: str | None = None) -> None:
        """Copy what a file holds, or its rows of one mission; it is held no longer than that takes.

        Raises:
            StoreBusy: another process writes to it.
            StoreUnreadable: missing, damaged, or made by another version; nothing was copied.
        """
        if not path.exists():
            raise StoreUnreadable(f"{path} does not exist")
        with _translated(path):
            self.connection.execute(f"ATTACH '{_quoted(path)}' AS held (READ_ONLY)")
            try:
                self._copy(path, only)
            finally:
                self.connection.execute("DETACH held")

    def _copy(self, path: Path, only: str | None) -> None:
        try:
            found = self.connection.execute("SELECT digest FROM held.metrics_schema").fetchall()
        except duckdb.CatalogException as missing:
            raise StoreUnreadable(f"{path} is not a metrics store") from missing
        if found != [(schema_digest(),)]:
            raise StoreUnreadable(f"{path} was made by another version; it is rebuilt by syncing")
        with _transaction(self.connection):
            for table in _columns(self.connection):
                rows = f"FROM held.{table} WHERE $only IS NULL OR mission = $only"
                self.connection.execute(f"INSERT INTO {table} BY NAME {rows}", {"only": only})


def _opened(path: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(str(path))
    try:
        _bring_up_to_date(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _bring_up_to_date(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Create the schema where there is none, and replace another one; rows of that are gone."""
    relations = connection.execute(_query("relations")).fetchall()
    if ("metrics_schema", "TABLE") in relations:
        if connection.execute("FROM metrics_schema").fetchall() == [(schema_digest(),)]:
            return
    elif relations:
        raise NotAStore(f"{path} holds {relations[0][0]}; name another file")
    with _transaction(connection):
        for name, kind in relations:
            connection.execute(f'DROP {kind} "{name}"')
        _create(connection)


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("".join(f"{statement};" for statement in schema()))
    connection.execute("INSERT INTO metrics_schema VALUES (?)", [schema_digest()])


def _columns(connection: duckdb.DuckDBPyConnection) -> Columns:
    """The tables that hold rows of missions."""
    columns: dict[str, dict[str, str]] = {}
    for table, column, kind in connection.execute(_query("columns")).fetchall():
        columns.setdefault(table, {})[column] = kind
    columns.pop("metrics_schema", None)
    return columns


def _query(name: str) -> str:
    return statements("queries")[name].sql


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    except BaseException:
        _roll_back(connection)
        raise
    connection.execute("COMMIT")


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave the transaction, which a failed database may have left already."""
    try:
        connection.execute("ROLLBACK")
    except (duckdb.TransactionException, duckdb.FatalException):
        return


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (duckdb.TransactionException, duckdb.ConstraintException) as clash:
        raise StoreBusy(f"{path}: another thread writes to it") from clash
    except duckdb.Error as error:
        raise _our_error(error, path) from error
    except OSError as error:
        raise StoreBusy(f"{path}: {error.strerror}") from error


def _our_error(error: duckdb.Error, path: Path) -> MissionError:
    text = str(error)
    if holder := _HOLDER.search(text):
        return StoreBusy(f"{path} is held by process {holder[2]} ({Path(holder[1]).name})")
    if any(sign in text for sign in _IN_USE):
        return StoreBusy(f"{path} is open elsewhere")
    if any(sign in text for sign in _NO_SPACE):
        return StoreBusy(f"{path}: {text}")
    return (StoreUnreadable if _is_damage(error) else StoreFailed)(f"{path}: {text}")


def _is_damage(error: duckdb.Error) -> bool:
    """Whether the file itself is the trouble, and not who holds it or the disk."""
    text = str(error)
    if any(sign in text for sign in (*_IN_USE, *_NO_SPACE)):
        return False
    return isinstance(error, _DAMAGED) or type(error) is duckdb.Error


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
