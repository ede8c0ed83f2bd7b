"""CPU time and memory of processes, as the kernel counts them.

Who pays for what:

- *The flow process and all that it starts.* `wait4` on the `mission` process gives its CPU time
  with that of every descendant that was waited for: git is waited for by the flow; supervisors are
  children of the flow in sessions of their own, and `LocalPlace` waits for them too; a supervisor
  is the reaper of its agent and of all that the agent left. So one figure holds flow, git,
  supervisors, agents and verifications, and nothing has to be sampled. (A cgroup around a mission
  of 40 units said the same, 8.5572 s.)
- *Agents and verifications* are measured alone, in the same kind of workspace, and taken away from
  that figure as often as they ran.
- *The server* is a process group of its own: `/proc/PID/stat` of all its members before and after.
- *Memory* is `VmHWM` of the flow process alone. `ru_maxrss` would not do: it survives `exec`, so a
  child begins with its parent's.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.1
SETTLED_SHARE = 0.10
SETTLE_WINDOW_SECONDS = 1.0
SETTLE_TIMEOUT_SECONDS = 45.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """CPU seconds, user and system: of a process itself, and of its children that ended."""

    own: float
    children: float

    @property
    def total(self) -> float:
        """Both together."""
        return self.own + self.children


NOTHING = Cpu(own=0.0, children=0.0)


def cpu_of(pid: int) -> Cpu:
    """What a process used so far; nothing when it is gone."""
    fields = _stat(pid)
    if not fields:
        return NOTHING
    user, system, children_user, children_system = (int(f) for f in fields[11:15])
    return Cpu(
        own=(user + system) / TICKS_PER_SECOND,
        children=(children_user + children_system) / TICKS_PER_SECOND,
    )


def cpu_of_group(group: int) -> float:
    """What all living members of a process group used so far, with their ended children."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return sum(cpu_of(pid).total for pid in pids if _group_of(pid) == group)


def peak_memory_bytes(pid: int) -> int:
    """The most memory that a process itself ever held (`VmHWM`); 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    lines = (line.split() for line in text.splitlines() if line.startswith("VmHWM:"))
    return next((int(words[1]) * 1024 for words in lines), 0)


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(") ")[2].split()


def _group_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[2]) if fields else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a watched process ended; `cpu_seconds` with all its descendants that were waited for."""

    code: int
    seconds: float
    cpu_seconds: float
    cpu: Cpu  # the last sample: how the total divides
    peak_memory_bytes: int


def watch(
    argv: Sequence[str],
    env: Mapping[str, str],
    folder: Path,
    *,
    on_line: Callable[[bytes, int], None] = lambda _line, _pid: None,
) -> Ended:
    """Run a command to its end; its standard error goes to `folder/stderr.log`.

    `on_line` gets every line of its output as it comes, and its pid.
    """
    began = time.monotonic()
    with (folder / "stderr.log").open("ab") as errors:
        child = subprocess.Popen(
            argv, env=dict(env), cwd=folder, stdout=subprocess.PIPE, stderr=errors
        )
    sampler = _Sampler(child.pid)
    assert child.stdout is not None
    with child.stdout as lines, sampler:
        for line in lines:
            on_line(line, child.pid)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return Ended(
        code=child.returncode,
        seconds=time.monotonic() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        cpu=sampler.cpu,
        peak_memory_bytes=sampler.peak_memory_bytes,
    )


class _Sampler:
    """Looks at a process now and then: what is there only while it lives."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = Event()
        self._thread = Thread(target=self._work, name="sampler", daemon=True)
        self.cpu = NOTHING
        self.peak_memory_bytes = 0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            cpu, memory = cpu_of(self._pid), peak_memory_bytes(self._pid)
            if memory:  # not a zombie yet
                self.cpu, self.peak_memory_bytes = cpu, memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What a command costs by itself: means of several runs, one after another."""

    seconds: float
    cpu_seconds: float


def alone(runs: Sequence[Callable[[], None]]) -> Alone:
    """Measure calls that start children and wait for them."""
    wall, cpu = time.monotonic(), _children_cpu()
    for run in runs:
        run()
    wall, cpu = time.monotonic() - wall, _children_cpu() - cpu
    return Alone(seconds=wall / len(runs), cpu_seconds=cpu / len(runs))


def _children_cpu() -> float:
    return spent(resource.RUSAGE_CHILDREN)


def spent(who: int) -> float:
    """CPU seconds of this process or its ended children, finer than the ticks of `os.times`."""
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def wait_until_idle(group: int) -> None:
    """Return when a process group has next to nothing to do any more, or after a while."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        before = cpu_of_group(group)
        time.sleep(SETTLE_WINDOW_SECONDS)
        if cpu_of_group(group) - before < SETTLED_SHARE * SETTLE_WINDOW_SECONDS:
            return


def import_memory_bytes(module: str, env: Mapping[str, str]) -> int:
    """What a Python process holds that imported a module and did nothing else."""
    code = (
        f"import {module}\n"
        "lines = open('/proc/self/status').read().splitlines()\n"
        "print(next(x.split()[1] for x in lines if x.startswith('VmHWM:')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(env), capture_output=True, check=True
    )
    return int(done.stdout) * 1024
