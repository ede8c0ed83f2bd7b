"""Tables as text: fitted to the terminal where there is one, one line a row elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from io import StringIO

from flows.prompts.quoting import readable

Cell = str | tuple[str, str]
"""What stands in a table: a text, or a text with the style that a terminal shows it in."""

GAP = "  "


def table(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Write a table; without `heads` it has no first line. Cells are text, never markup."""
    if sys.stdout.isatty():
        return _for_terminal(heads, rows)
    return _plain([*([heads] if heads else []), *rows])


def width() -> int:
    """How many columns a line should have at most."""
    return shutil.get_terminal_size((80, 24)).columns


def shortened(text: str, characters: int) -> str:
    """The first line of a text, or as much of it as there is room for."""
    line = readable(text).strip().partition("\n")[0].rstrip()
    return line if len(line) <= characters else line[: max(characters - 1, 0)] + "…"


def _plain(rows: Sequence[Sequence[Cell]]) -> str:
    texts = [[" ".join(_text(cell).split()) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = (
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in texts
    )
    return "\n".join(line.rstrip() for line in lines)


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _for_terminal(heads: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    from rich.console import Console  # noqa: PLC0415 - pipes and programs do without
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    grid = Table(box=None, padding=(0, len(GAP), 0, 0), show_header=bool(heads), pad_edge=False)
    for position in range(len(rows[0]) if rows else len(heads)):
        grid.add_column(heads[position] if heads else "", overflow="fold", header_style="bold")
    for row in rows:
        grid.add_row(*(Text(cell) if isinstance(cell, str) else Text(*cell) for cell in row))
    console = Console(file=StringIO(), force_terminal=True, width=width())
    with console.capture() as captured:
        console.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
