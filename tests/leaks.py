"""What a test may leave behind: nothing. Found by what every process of ours carries."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import psutil

TOKEN = b"MISSION_TOKEN="
"""In the environment of everything that a supervisor starts."""


def children() -> set[int]:
    """The processes that this one started and that still run."""
    here = psutil.Process()
    return {c.pid for c in here.children() if c.status() != psutil.STATUS_ZOMBIE}


def jobs_below(folder: Path) -> dict[int, str]:
    """Agents, probes and supervisors that have to do with a folder, with their command lines.

    Others may run missions on this machine, so the token alone does not tell ours.
    """
    needle = os.fsencode(folder)
    return {pid: line for pid in psutil.pids() if (line := _job_line(Path(f"/proc/{pid}"), needle))}


def left_behind(folder: Path, children_before: Collection[int]) -> dict[int, str]:
    """Find the processes of a test that still run, with their command lines."""
    return jobs_below(folder) | dict.fromkeys(children() - {*children_before}, "a child")


def end(pids: Collection[int]) -> None:
    """Kill what a test left behind, so that only this test fails of it."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _job_line(process: Path, needle: bytes) -> str:
    """The command line of a job; empty for any other process."""
    try:
        environment = (process / "environ").read_bytes()
        line = (process / "cmdline").read_bytes()
        where = os.fsencode((process / "cwd").readlink())
    except OSError:
        return ""  # gone, a zombie, or somebody else's
    is_job = TOKEN in environment or (b"supervise" in line and b"run" in line.split(b"\0"))
    is_ours = any(needle in text for text in (environment, line, where))
    return line.replace(b"\0", b" ").decode(errors="replace").strip() if is_job and is_ours else ""
