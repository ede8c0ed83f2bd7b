"""From ledgers to the metrics store: each record becomes rows, by itself, whatever came before.

So it does not matter where a sync began or was killed: rows of a record are added together with the
record's own row in `events`, which says how far a mission is synced.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from blocks.errors import LedgerDamaged, StoreBusy
from blocks.metrics import Columns, Mark, MemoryStore, MetricsStore, Row, StoreUnreadable, Writer
from flows.landing.steps import BASE
from flows.ledger.events import (
    AskEnded,
    AskStarted,
    AttemptEnded,
    AttemptStarted,
    BaseMoved,
    BaseRefused,
    CandidateClashed,
    CandidateConflicted,
    CandidateEjected,
    CandidateEmpty,
    CandidateStacked,
    CulpritCleared,
    CulpritSetAside,
    Delivered,
    DeliveryFailed,
    Event,
    FlakeSeen,
    GreenAdopted,
    Landed,
    LandingIntended,
    MissionFinished,
    MissionInterrupted,
    MissionResumed,
    MissionStarted,
    PlanMade,
    ProbeEnded,
    ProbeStarted,
    RepairEnded,
    RepairStarted,
    ReplanWanted,
    RevertMade,
    RevertRequested,
    ReviewAnswered,
    ReviewRequested,
    RoundEnded,
    RoundJudged,
    RoundStarted,
    StopRequested,
    UnitEnded,
    Warned,
)
from flows.ledger.log import Record, read_ledger

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
"""How long a busy store is waited for."""

_RETRY_SECONDS = 0.05
_BATCH = 20_000
"""Records in a transaction: a few seconds."""

_TAIL_BYTES = 65_536


class Store(Protocol):
    """What can be synced to: a file or memory."""

    def writing(self) -> AbstractContextManager[Writer]:
        """Open it for a few short transactions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a sync did: missions that had something new, new records, and what it could not read."""

    missions: tuple[str, ...] = ()
    n_records: int = 0
    rebuilt: tuple[str, ...] = ()
    forgotten: tuple[str, ...] = ()
    unreadable: Mapping[str, str]


def sync(
    store: Store,
    missions_folder: Path,
    *,
    only: str | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> SyncResult:
    """Bring the store up to the ledgers below `missions_folder`, or up to that of one mission.

    Afterwards it holds what one made anew from the same ledgers holds: a ledger that is gone is
    forgotten (not with `only`), one that is not the one seen before is read again from its start.

    Raises:
        StoreBusy: it was held elsewhere for longer than `patience_seconds`; try again later.
    """
    ledgers = _ledgers(missions_folder, only)
    complete = only is None and missions_folder.is_dir()

    def once() -> SyncResult:
        with store.writing() as writer:
            return _sync(writer, ledgers, forget=complete)

    return _patiently(lambda: _mended(store, once), patience_seconds)


def rebuild(
    store: MetricsStore, missions_folder: Path, *, patience_seconds: float = PATIENCE_SECONDS
) -> SyncResult:
    """Make the file anew from all ledgers, whatever it holds; the old one is kept as `.aside`.

    Raises:
        StoreBusy: it was held elsewhere for longer than `patience_seconds`; try again later.
    """

    def once() -> SyncResult:
        with store.writing():
            pass  # nobody holds it, and it is ours
        store.set_aside()
        return sync(store, missions_folder, patience_seconds=0)

    return _patiently(once, patience_seconds)


def open_for_reading(
    path: Path, missions_folder: Path | None = None, *, only: str | None = None
) -> MemoryStore:
    """Copy a metrics file into memory, brought up to date from the ledgers; the caller closes it.

    Works while a mission writes to the file, and without the file: then from the ledgers alone
    (default: the folder `missions` beside it). Nothing on disk is held or changed.
    """
    store = MemoryStore()
    try:
        store.load(path, only=only)
    except (StoreBusy, StoreUnreadable) as reason:
        logger.info("reading ledgers instead: %s", reason)
        store.connection.close()
        store = MemoryStore()
    with store.writing() as writer:
        _sync(writer, _ledgers(missions_folder or path.parent / "missions", only), forget=False)
    return store


def rows_of(mission: str, record: Record, columns: Columns) -> Iterator[Row]:
    """Give the rows that state one record: its own in `events`, the event's, its lists'."""
    key = {"mission": mission, "seq": record.seq}
    stated = {**key, "recorded_at": _utc(record.at)}
    event = record.event
    table, names, children = _TABLES.get(type(event), _NO_TABLE)
    values = {names.get(f.name, f.name): getattr(event, f.name) for f in fields(event)}
    known = columns.get(table, {})
    listed = {*_LISTS.get(type(event), ()), *known, "mission"}
    others = {name: value for name, value in values.items() if name not in listed}
    yield Row(
        "events", {**stated, "type": event.type, "other_fields": _json(others) if others else None}
    )
    if table:
        own = {name: _value(values[name], kind) for name, kind in known.items() if name in values}
        yield Row(table, {**own, **_derived(event), **stated})
    for child, items in children(event):
        for position, item in enumerate(items):
            yield Row(child, {**item, **key, "position": position})


def _ledgers(missions_folder: Path, only: str | None) -> Mapping[str, Path]:
    found = sorted(missions_folder.glob("*/ledger.jsonl"))
    return {path.parent.name: path for path in found if only in {None, path.parent.name}}


def _patiently(attempt: Callable[[], SyncResult], patience_seconds: float) -> SyncResult:
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            return attempt()
        except StoreBusy:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_SECONDS)


def _mended(store: Store, once: Callable[[], SyncResult]) -> SyncResult:
    """Sync; when damage shows itself only on the way, start over with a new file."""
    try:
        return once()
    except StoreUnreadable as damage:
        if not isinstance(store, MetricsStore):
            raise
        logger.warning("%s; made anew from the ledgers", damage)
    store.set_aside()
    return once()


def _sync(writer: Writer, ledgers: Mapping[str, Path], *, forget: bool) -> SyncResult:
    marks = writer.marks()
    forgotten = tuple(sorted(marks.keys() - ledgers.keys())) if forget else ()
    if forgotten:
        writer.forget(forgotten)
    done: dict[str, int] = {}
    rebuilt: list[str] = []
    unreadable: dict[str, str] = {}
    for mission, path in ledgers.items():
        if mission in marks and _is_current(path, marks[mission]):
            continue
        try:
            records = read_ledger(path)
        except (LedgerDamaged, OSError) as damage:
            unreadable[mission] = str(damage)
            continue
        mark = marks.get(mission)
        if mark is not None and not _continues(records, mark):
            writer.forget([mission])
            rebuilt.append(mission)
            mark = None
        new = records[mark.seq :] if mark else records
        _add(writer, mission, new)
        done[mission] = len(new)
    return SyncResult(
        missions=tuple(mission for mission, n in done.items() if n),
        n_records=sum(done.values()),
        rebuilt=tuple(rebuilt),
        forgotten=forgotten,
        unreadable=unreadable,
    )


def _is_current(path: Path, mark: Mark) -> bool:
    """Whether a ledger ends with what the store holds last: most missions have long ended."""
    try:
        with path.open("rb") as ledger:
            ledger.seek(max(0, ledger.seek(0, os.SEEK_END) - _TAIL_BYTES))
            *_, last, rest = ledger.read().split(b"\n")
        line = json.loads(last)
        return rest == b"" and (line["seq"], _utc(line["at"])) == mark
    except (OSError, ValueError, TypeError, KeyError):
        return False  # reading all of it says what there is to say


def _continues(records: Sequence[Record], mark: Mark) -> bool:
    """Whether these begin with what the store holds: a record that was read can be taken back.

    (By a writer whose disk did not take it, or with the machine's last seconds before a crash.)
    """
    return len(records) >= mark.seq and _utc(records[mark.seq - 1].at) == mark.recorded_at


def _add(writer: Writer, mission: str, records: Sequence[Record]) -> None:
    rest = iter(records)
    while batch := list(islice(rest, _BATCH)):
        writer.add(chain.from_iterable(rows_of(mission, r, writer.columns) for r in batch))


def _derived(event: Event) -> Mapping[str, object]:
    """What a row states besides the event's own fields."""
    match event:
        case ProbeStarted() | Landed() | LandingIntended():
            return {"n_units": sum(unit != BASE for unit in event.units)}
        case Delivered() | DeliveryFailed():
            return {"delivered": isinstance(event, Delivered)}
        case _:
            return {}


def _value(value: Any, kind: str) -> object:
    if kind == "JSON":
        return _json(value)
    if kind == "TIMESTAMP":
        return None if value is None else _utc(value)
    return list(value) if kind.endswith("[]") and value is not None else value


def _json(value: object) -> str:
    return json.dumps(value, default=list, ensure_ascii=False)


def _utc(at: float) -> datetime:
    """Seconds since the epoch as DuckDB keeps them: UTC, without a zone, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


Item = Mapping[str, object]
Children = Callable[[Any], Iterator[tuple[str, list[Item]]]]


def _none(_event: Event) -> Iterator[tuple[str, list[Item]]]:
    return iter(())


def _planned(event: PlanMade) -> Iterator[tuple[str, list[Item]]]:
    yield (
        "planned_units",
        [
            {
                "unit": unit.get("id"),
                "title": unit.get("title"),
                "agent": unit.get("agent"),
                "depends_on": [*(unit.get("depends_on") or ())],
                "writes": None if unit.get("writes") is None else [*unit["writes"]],
                "definition": _json(unit),
            }
            for unit in event.units
        ],
    )
    yield "plan_nodes", [{**node} for node in event.nodes]


def _judged(event: RoundJudged) -> Iterator[tuple[str, list[Item]]]:
    in_round = {"round": event.round}
    signals = event.signals.items()
    yield "round_signals", [{**in_round, "name": name, "signal_value": v} for name, v in signals]
    findings = event.findings.items()
    yield "round_findings", [{**in_round, "kind": kind, "n": n} for kind, n in findings]


def _clashed(event: CandidateConflicted) -> Iterator[tuple[str, list[Item]]]:
    yield "conflict_files", [{"unit": event.unit, "file": file} for file in event.files]


def _flaked(event: FlakeSeen) -> Iterator[tuple[str, list[Item]]]:
    yield "flake_tests", [{"test": test} for test in event.failing]


def _probing(event: ProbeStarted) -> Iterator[tuple[str, list[Item]]]:
    yield "probe_units", [{"probe": event.probe, "unit": unit} for unit in event.units]


def _read(event: ProbeEnded) -> Iterator[tuple[str, list[Item]]]:
    yield (
        "readings",
        [
            {"probe": event.probe, "source": source, "name": name, "n": n}
            for source, counts in (("tests", event.tests), ("findings", event.findings))
            for name, n in counts.items()
        ],
    )


def _landed(event: Landed) -> Iterator[tuple[str, list[Item]]]:
    yield "landing_units", [{"unit": unit} for unit in event.units if unit != BASE]


_COMMIT = {"commit": "commit_id"}
_MOVE = {"old": "old_commit", "new": "new_commit"}
_GREEN = {"green": "green_commit"}
_NO_TABLE: tuple[str, Mapping[str, str], Children] = ("", {}, _none)
_TABLES: Mapping[type[Event], tuple[str, Mapping[str, str], Children]] = {
    MissionStarted: ("mission_starts", {"base": "base_commit", "start": "start_commit"}, _none),
    MissionResumed: ("mission_resumes", {}, _none),
    MissionInterrupted: ("mission_interruptions", {}, _none),
    MissionFinished: ("mission_ends", {**_GREEN, "seconds": "elapsed_seconds"}, _none),
    RoundStarted: ("round_starts", _GREEN, _none),
    RoundEnded: (
        "round_ends",
        {**_GREEN, "landed": "n_landed", "not_landed": "n_not_landed"},
        _none,
    ),
    PlanMade: ("plans", {"seconds": "planning_seconds"}, _planned),
    AskStarted: ("ask_starts", _GREEN, _none),
    AskEnded: ("ask_ends", {}, _none),
    RoundJudged: ("round_judgements", {}, _judged),
    ReplanWanted: ("replans", {"trigger": "trigger_name"}, _none),
    ReviewRequested: ("review_requests", {}, _none),
    ReviewAnswered: ("review_answers", {"by": "answered_by"}, _none),
    AttemptStarted: ("attempt_starts", {"base": "base_commit"}, _none),
    AttemptEnded: ("attempt_ends", {}, _none),
    UnitEnded: ("unit_ends", {}, _none),
    CandidateStacked: ("stackings", _COMMIT, _none),
    CandidateConflicted: ("conflicts", {}, _clashed),
    CandidateEmpty: ("empties", {}, _none),
    CulpritSetAside: ("culprits", _COMMIT, _none),
    CandidateEjected: ("ejections", {}, _none),
    CulpritCleared: ("clearances", {}, _none),
    CandidateClashed: ("clashes", {}, _none),
    BaseMoved: ("base_moves", _COMMIT, _none),
    BaseRefused: ("base_refusals", _COMMIT, _none),
    RepairStarted: ("repairs", {"base": "base_commit"}, _none),
    RepairEnded: ("repair_ends", {}, _none),
    RevertRequested: ("revert_requests", {"by": "requested_by"}, _none),
    RevertMade: ("reverts", _COMMIT, _none),
    FlakeSeen: ("flakes", {}, _flaked),
    ProbeStarted: ("probe_starts", _COMMIT, _probing),
    ProbeEnded: ("probe_ends", {"seconds": "verify_seconds"}, _read),
    LandingIntended: ("landing_intents", _MOVE, _none),
    Landed: ("landings", _MOVE, _landed),
    GreenAdopted: ("adoptions", _MOVE, _none),
    Delivered: ("deliveries", _COMMIT, _none),
    DeliveryFailed: ("deliveries", _COMMIT, _none),
    StopRequested: ("stops", {"by": "requested_by"}, _none),
    Warned: ("warnings", {}, _none),
}
"""For each event its table, its fields that have another name there, and its lists' rows."""

_LISTS: Mapping[type[Event], Sequence[str]] = {
    PlanMade: ("units", "nodes"),
    RoundJudged: ("signals", "findings"),
    CandidateConflicted: ("files",),
    FlakeSeen: ("failing",),
    ProbeStarted: ("units",),
    ProbeEnded: ("tests", "findings"),
    Landed: ("units",),
}
"""Fields that are rows of their own."""
