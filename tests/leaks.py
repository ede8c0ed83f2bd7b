"""What a test may leave behind: nothing. Found by what every process of ours carries."""

from __future__ import annotations

import os
from collections.abc import Collection
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


def left_behind(folder: Path, children_before: Collection[int]) -> list[str]:
    """Say which processes of a test still run."""
    jobs = [f"{pid}: {line}" for pid, line in jobs_below(folder).items()]
    return jobs + [f"child {pid}" for pid in children() - {*children_before}]


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
