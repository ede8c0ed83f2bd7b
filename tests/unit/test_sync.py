from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

import pytest

from blocks.metrics import Columns, MemoryStore, Row
from blocks.metrics_sql import parse, statements
from flows.ledger.events import EVENT_TYPES, Event, Landed, MissionFinished, PlanMade, Warned
from flows.ledger.log import Record
from flows.reporting.sync import _LISTS, _TABLES, rows_of
from tests.ledgers import START, landing, records_of, sha, small_mission, verdict


@pytest.fixture(scope="module")
def columns() -> Columns:
    with MemoryStore() as store, store.writing() as writer:
        return writer.columns


def rows(event: Event, columns: Columns) -> list[Row]:
    return list(rows_of("m1", Record(7, START, event), columns))


def test_every_record_is_one_row_of_events_that_says_how_far_a_mission_is(columns: Columns) -> None:
    made = [rows_of("m1", record, columns) for record in records_of(small_mission())]
    events = [[row.values["seq"] for row in each if row.table == "events"] for each in made]
    assert events == [[seq] for seq in range(1, len(made) + 1)]


def test_rows_name_only_columns_that_there_are(columns: Columns) -> None:
    for record in records_of(small_mission()):
        for row in rows_of("m1", record, columns):
            assert row.values.keys() <= columns[row.table].keys(), row


def test_a_landing_is_a_row_and_each_of_its_units_another(columns: Columns) -> None:
    (_, landed) = landing(3, "old", "new", "a", "b")
    _, move, *units = rows(landed, columns)
    assert (move.table, move.values["new_commit"], move.values["n_units"]) == (
        "landings",
        sha("new"),
        2,
    )
    assert [(r.table, r.values["position"], r.values["unit"]) for r in units] == [
        ("landing_units", 0, "a"),
        ("landing_units", 1, "b"),
    ]


def test_counts_of_a_probe_are_rows_with_their_source(columns: Columns) -> None:
    made = [row.values for row in rows(verdict(3), columns) if row.table == "readings"]
    assert [(v["source"], v["name"], v["n"]) for v in made] == [
        ("tests", "passed", 120),
        ("tests", "failed", 0),
        ("findings", "ruff", 3),
    ]


def test_a_unit_that_states_little_is_planned_all_the_same(columns: Columns) -> None:
    plan = PlanMade(round=1, planner="file", units=[{"id": "a"}])
    (values,) = (r.values for r in rows(plan, columns) if r.table == "planned_units")
    assert (values["unit"], values["depends_on"], values["writes"]) == ("a", [], None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAsked(Event):
    """An event of a later version."""

    type: ClassVar[str] = "review.asked"
    question: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LouderWarned(Warned):
    """A known event with a field more."""

    loudness: int


def test_an_event_that_has_no_table_is_kept_whole_beside_its_record(columns: Columns) -> None:
    (row,) = rows(ReviewAsked(question="ship it?"), columns)
    assert row.table == "events"
    assert row.values["type"] == "review.asked"
    assert row.values["other_fields"] == '{"question": "ship it?"}'


def test_a_field_that_has_no_column_is_kept_beside_the_record(
    columns: Columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(_TABLES, LouderWarned, _TABLES[Warned])
    record, warning = rows(LouderWarned(text="hot", loudness=11), columns)
    assert record.values["other_fields"] == '{"loudness": 11}'
    assert warning.values["text"] == "hot"


def test_what_a_known_event_states_has_columns(columns: Columns) -> None:
    """Otherwise nothing is lost, but it hides in `other_fields`: give it a column."""
    hidden: dict[str, set[str]] = {}
    for event_type in EVENT_TYPES.values():
        table, names, _ = _TABLES.get(event_type, ("", {}, None))
        known: Mapping[str, object] = columns.get(table, {})
        if not table:
            continue
        stated = {names.get(f.name, f.name) for f in fields(event_type)}
        rest = stated - known.keys() - {*_LISTS.get(event_type, ())}
        hidden[event_type.type] = rest
    assert {kind: rest for kind, rest in hidden.items() if rest} == {}


def test_a_time_is_utc_to_the_microsecond(columns: Columns) -> None:
    record = Record(1, 1_700_000_000.123456, Landed(old=None, new="n", tree="t", probe=1))
    first = next(rows_of("m1", record, columns))
    assert str(first.values["recorded_at"]) == "2023-11-14 22:13:20.123456"


def test_a_mission_that_cost_nothing_known_has_no_cost_instead_of_none(columns: Columns) -> None:
    end = MissionFinished(stop_reason="stopped", exit_code=130, green=None, counts={}, seconds=1.0)
    _, row = rows(end, columns)
    assert row.values["cost_usd"] is None


def test_statements_are_found_by_name_with_what_they_are_for() -> None:
    text = "preamble\n\n-- one --\n-- First,\n-- of two.\nSELECT 1;\n\n-- two --\nSELECT 2;\n"
    assert [(s.name, s.description, s.sql) for s in parse(text)] == [
        ("one", "First, of two.", "SELECT 1"),
        ("two", "", "SELECT 2"),
    ]


def test_statements_are_called_what_they_create() -> None:
    for kind, file in (("TABLE", "schema"), ("VIEW", "views")):
        for name, statement in statements(file).items():
            assert statement.sql.startswith(f"CREATE {kind} {name} (")
