"""The live view of a mission in a terminal; plain lines where there is none; JSON for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from flows.ledger.log import Record, encode
from flows.ledger.state import MissionState, Status
from flows.reporting.listeners import Listener
from flows.reporting.narration import narrate, tally

RECENT_LINES = 8
SHOWN_RUNNING = 16


def json_lines(stream: TextIO) -> Listener:
    """Write each record as one JSON object a line, as in the ledger."""

    def write(record: Record) -> None:
        stream.write(encode(record).decode())
        stream.flush()

    return _while_read(write)


def _while_read(write: Listener) -> Listener:
    """Write as long as anybody reads; a mission does not end with its audience."""
    gone: list[bool] = []

    def try_to_write(record: Record) -> None:
        if gone:
            return
        try:
            write(record)
        except BrokenPipeError:
            gone.append(True)

    return try_to_write


def plain_lines(stream: TextIO) -> Listener:
    """Write each record that people care about as one line with the time of day."""

    def write(record: Record) -> None:
        if line := narrate(record.event):
            clock = time.strftime("%H:%M:%S", time.localtime(record.at))
            stream.write(f"{clock}  {line}\n")
            stream.flush()

    return _while_read(write)


@contextmanager
def live_view(state: MissionState) -> Iterator[Listener]:
    """Show a mission as it goes; the lines that tell it scroll above.

    `state` is what the ledger already says; the listener that is given takes in what follows.
    """
    console = Console(file=sys.stdout)
    view = _View(state)
    with Live(view, console=console, refresh_per_second=4, transient=True) as live:

        def listen(record: Record) -> None:
            state.apply(record)
            if line := narrate(record.event):
                clock = time.strftime("%H:%M:%S", time.localtime(record.at))
                live.console.print(Text.assemble((f"{clock}  ", "dim"), line), highlight=False)

        yield listen


class _View:
    """The lower part of the screen: running units, the train, the tally."""

    def __init__(self, state: MissionState) -> None:
        self._state = state

    def __rich__(self) -> RenderableType:
        state = self._state
        return Group(_running(state), _train(state), _foot(state))


def _running(state: MissionState) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    units = state.by_status(Status.RUNNING)
    for ask in [*state.inquiry.asks.values()][:SHOWN_RUNNING]:
        what = f"{ask.purpose} {ask.node}".rstrip()
        table.add_row(Text("▶", "green"), f"{ask.place}/{ask.agent}", what, f"round {ask.round}")
    for unit in units[:SHOWN_RUNNING]:
        attempt = f"attempt {unit.tries}"
        table.add_row(Text("▶", "green"), f"{unit.place}/{unit.slot}", unit.unit.id, attempt)
    return table


def _train(state: MissionState) -> Text:
    train = state.train
    stack = " ← ".join(s.candidate.unit for s in train.landing.stack) or "empty"
    extra = f"  queue {len(train.queue)}" if train.queue else ""
    n_screened = sum(len(line.stack) for line in train.screening.values())
    screened = f"  screened {n_screened}" if n_screened else ""
    aside = f"  set aside {', '.join(train.aside)}" if train.aside else ""
    mending = f"  in repair {', '.join(state.repairs)}" if state.repairs else ""
    probing = f"  probing {len(state.probes)}" if state.probes else ""
    return Text(
        f"train: {stack}{extra}{screened}{aside}{mending}{probing}",
        style="cyan",
        overflow="ellipsis",
    )


def _foot(state: MissionState) -> Text:
    elapsed = time.time() - state.started_at if state.started_at else 0.0
    cost = f"  ${state.cost_usd:.2f}" if state.cost_usd is not None else ""
    green = f"  green {state.green[:12]}" if state.green else ""
    return Text(f"{tally(state.counts)}  {elapsed:.0f} s{cost}{green}", style="bold")


def print_json(value: object) -> None:
    """Print a value as one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
