"""Start a command that outlives its starter: its record is on disk before the starter knows it.

Run as a file (`python -I -S launch.py RECORD LOG LOCK_FD COMMAND…`), with the standard library
alone, in a few milliseconds. The process that becomes COMMAND leads a session of its own, is
nobody's child (so it never lingers as a zombie of its starter), and writes RECORD itself. It holds
the starter's lock (`LOCK_FD`) until that is done: a starter that is killed in between leaves no
server that nobody knows of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_STATE, _START_TIME = 0, 19  # in /proc/PID/stat, counted from behind the name


def process_identity(pid: int) -> str:
    """Return what tells this process from a later one with the same number; empty when it is gone.

    A zombie counts as gone.
    Source: proc_pid_stat(5), fields 3 and 22; elsewhere `ps -o lstart=`.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "" if Path("/proc/self").exists() else _identity_from_ps(pid)
    fields = stat.rpartition(")")[2].split()
    return "" if fields[_STATE] in "ZX" else f"{boot}:{fields[_START_TIME]}"


def _identity_from_ps(pid: int) -> str:
    argv = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    text = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    return "" if text.startswith("Z") else text.partition(" ")[2].strip()


def write_record(record: Path, facts: dict[str, object]) -> None:
    """Replace `record` by `facts`, whole or not at all."""
    draft = record.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        json.dump(facts, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(record)


def main(record: str, log: str, lock: str, *command: str) -> None:
    """Become `command`, detached; the standard streams of the caller close once it is recorded."""
    if os.fork():
        os._exit(0)
    os.setsid()
    pid = os.getpid()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    source = os.open(os.devnull, os.O_RDONLY)
    write_record(Path(record), {"pid": pid, "identity": process_identity(pid)})
    for target, stream in enumerate((source, sink, sink)):
        os.dup2(stream, target)
    os.set_inheritable(int(lock), False)
    os.execv(command[0], command)  # noqa: S606 - an argv list, never a shell


if __name__ == "__main__":
    main(*sys.argv[1:])
