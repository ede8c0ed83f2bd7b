from __future__ import annotations

import sys
from io import StringIO

import pytest

from flows.reporting.tables import Cell, shortened, table


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_one_line_a_row() -> None:
    rows: list[tuple[Cell, ...]] = [("a", "x" * 200), (("bb", "red"), "two\nlines")]
    assert table(("id", "why"), rows).splitlines() == [
        "id  why",
        f"a   {'x' * 200}",
        "bb  two lines",
    ]


def test_a_terminal_gets_what_fits_into_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    text = table((), [("a", "x" * 60)])
    assert max(map(len, text.splitlines())) <= 40
    assert text.count("x") == 60, "nothing is lost"


def test_cells_are_never_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[red]x[/red]" in table((), [("[red]x[/red]",)])


def test_a_table_without_rows_is_its_heads() -> None:
    assert table(("id", "why"), []) == "id  why"
    assert table((), []) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("first\nsecond", "first"), ("0123456789", "0123456…"), ("", "")],
)
def test_long_texts_are_shortened_to_a_line(text: str, shown: str) -> None:
    assert shortened(text, 8) == shown
