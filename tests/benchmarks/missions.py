"""One measured mission: `mission run --json` as a child process, its ledger, its CPU and memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

from blocks.commands import run
from flows.ledger.events import (
    AttemptEnded,
    AttemptStarted,
    CandidateStacked,
    Delivered,
    Landed,
    MissionFinished,
    ProbeEnded,
)
from flows.ledger.log import Record, read_ledger
from tests.benchmarks.processes import (
    NOTHING,
    Alone,
    Cpu,
    Ended,
    cpu_of,
    cpu_of_group,
    peak_memory_bytes,
    wait_until_idle,
    watch,
)
from tests.benchmarks.workload import Workload, git_environment

PROJECT = Path(__file__).resolve().parents[2]
GREEN = "mission/green"


class BenchmarkBroken(Exception):
    """A mission did not do its work, so that its times mean nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """The Prefect server that all missions share."""

    group: int
    start_seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A mission that ran: its ledger, and what its processes cost."""

    workload: Workload
    records: Sequence[Record]
    ended: Ended
    at_dispatch: Cpu
    at_finish: Cpu
    peak_memory_at_finish_bytes: int  # before metrics and report are made
    server_cpu_seconds: float

    # -- times, from the ledger ---------------------------------------------------------------

    @property
    def n_units(self) -> int:
        """How many units were planned."""
        return len(self.workload.works)

    @cached_property
    def attempts(self) -> Sequence[tuple[Record, AttemptEnded]]:
        """The records that an attempt ended."""
        return [(r, r.event) for r in self.records if isinstance(r.event, AttemptEnded)]

    @cached_property
    def probes(self) -> Sequence[ProbeEnded]:
        """The probes, that of the base included."""
        return [r.event for r in self.records if isinstance(r.event, ProbeEnded)]

    @cached_property
    def dispatched_at(self) -> float:
        """When the first attempt was started."""
        return self._times(AttemptStarted)[0]

    @cached_property
    def landed_seconds(self) -> float:
        """First dispatch to last landing."""
        return self._times(Landed)[-1] - self.dispatched_at

    @cached_property
    def delivered_seconds(self) -> float:
        """First dispatch to last delivery."""
        return self._times(Delivered)[-1] - self.dispatched_at

    def _times(self, kind: type) -> list[float]:
        return [r.at for r in self.records if isinstance(r.event, kind)]

    @cached_property
    def landing_seconds(self) -> Sequence[float]:
        """For each unit, from its agent's end to `green`."""
        ends = {e.unit: e.agent_ended_at for _, e in self.attempts if e.agent_ended_at}
        landings = ((r.at, r.event.units) for r in self.records if isinstance(r.event, Landed))
        return [at - ends[unit] for at, units in landings for unit in units]

    @cached_property
    def attempt_seconds(self) -> Mapping[str, float]:
        """For each unit, from `attempt.started` to the supervisor's word that the agent ended."""
        starts = {r.event.unit: r.at for r in self.records if isinstance(r.event, AttemptStarted)}
        return {
            e.unit: e.agent_ended_at - starts[e.unit]
            for _, e in self.attempts
            if e.agent_ended_at is not None
        }

    # -- CPU ----------------------------------------------------------------------------------

    def cpu_per_unit(self, agent: Alone, verification: Alone) -> float:
        """CPU seconds a unit: flow with its imports, git, supervisors, server; nobody else's."""
        return (self._ours(agent, verification) + self.server_cpu_seconds) / self.n_units

    def running_cpu_per_unit(self, agent: Alone, verification: Alone) -> float:
        """The same from first dispatch to the mission's end: no start, no closing of the flow."""
        flow = self.at_finish.total - self.at_dispatch.total - self._theirs(agent, verification)
        return (flow + self.server_cpu_seconds) / self.n_units

    def _ours(self, agent: Alone, verification: Alone) -> float:
        return self.ended.cpu_seconds - self._theirs(agent, verification)

    def _theirs(self, agent: Alone, verification: Alone) -> float:
        agents = len(self.attempts) * agent.cpu_seconds
        return agents + len(self.probes) * verification.cpu_seconds

    def cpu_shares(
        self, agent: Alone, verification: Alone, supervisor: Alone
    ) -> Mapping[str, float]:
        """CPU milliseconds a unit by who used them; supervisors as measured alone."""
        n_jobs = len(self.attempts) + len(self.probes)
        theirs = self._theirs(agent, verification)
        supervisors = n_jobs * supervisor.cpu_seconds
        seconds = {
            "flow until first dispatch": self.at_dispatch.total,
            "flow, running": self.at_finish.own - self.at_dispatch.own,
            "flow, after the end": self.ended.cpu.own - self.at_finish.own,
            "supervisors": supervisors,
            "git and sh": self.ended.cpu_seconds
            - self.ended.cpu.own
            - self.at_dispatch.children
            - supervisors
            - theirs,
            "server": self.server_cpu_seconds,
        }
        return {name: 1000 * value / self.n_units for name, value in seconds.items()}

    # -- where the time went ------------------------------------------------------------------

    def wall_shares(self) -> Mapping[str, float]:
        """Mean milliseconds of a unit's way, step by step, and what the slots did meanwhile."""
        starts = {r.event.unit: r.at for r in self.records if isinstance(r.event, AttemptStarted)}
        stacks = {r.event.unit: r.at for r in self.records if isinstance(r.event, CandidateStacked)}
        landings = {
            unit: r.at
            for r in self.records
            if isinstance(r.event, Landed)
            for unit in r.event.units
        }
        rows = [
            {
                "prepare": e.prepare_seconds,
                "submit, launch": (e.agent_ended_at or r.at)
                - e.agent_seconds
                - e.prepare_seconds
                - starts[e.unit],
                "agent": e.agent_seconds,
                "collect": e.collect_seconds,
                "post, record": r.at - (e.agent_ended_at or r.at) - e.collect_seconds,
                "wait, merge": stacks[e.unit] - r.at,
                "verify, land": landings[e.unit] - stacks[e.unit],
            }
            for r, e in self.attempts
        ]
        return {name: 1000 * fmean(row[name] for row in rows) for name in rows[0]} | {
            "slot idle between attempts": 1000 * fmean([*self._gaps()] or [0.0])
        }

    def _gaps(self) -> Iterator[float]:
        """From an attempt's end to the next start in the same slot."""
        slots: dict[int, list[float]] = {}
        where: dict[str, int] = {}
        for record in self.records:
            if isinstance(record.event, AttemptStarted):
                where[record.event.unit] = record.event.slot
                slots.setdefault(record.event.slot, []).append(record.at)
            elif isinstance(record.event, AttemptEnded):
                slots[where[record.event.unit]].append(record.at)
        for times in slots.values():
            yield from (later - sooner for sooner, later in [*pairwise(times)][1::2])

    def summary(self) -> Mapping[str, object]:
        """Plain figures for the JSON file."""
        return {
            "units": self.n_units,
            "slots": self.workload.slots,
            "probes": len(self.probes),
            "records": len(self.records),
            "process_seconds": self.ended.seconds,
            "dispatch_to_landed_seconds": self.landed_seconds,
            "dispatch_to_delivered_seconds": self.delivered_seconds,
            "landing_seconds_median": median(self.landing_seconds),
            "landing_seconds_max": max(self.landing_seconds),
            "flow_with_children_cpu_seconds": self.ended.cpu_seconds,
            "flow_cpu_seconds": self.ended.cpu.own,
            "flow_cpu_seconds_until_dispatch": self.at_dispatch.total,
            "server_cpu_seconds": self.server_cpu_seconds,
            "agents_cpu_seconds_by_their_supervisors": sum(e.cpu_seconds for _, e in self.attempts),
            "verifications_cpu_seconds_by_their_supervisors": sum(
                p.cpu_seconds for p in self.probes
            ),
            "peak_memory_at_finish_bytes": self.peak_memory_at_finish_bytes,
            "peak_memory_bytes": self.ended.peak_memory_bytes,
            "wall_ms": self.wall_shares(),
        }


def measure(workload: Workload, server: Server) -> Measured:
    """Write a workload, run its mission, wait until the server has digested it.

    Raises:
        BenchmarkBroken: it did not land everything.
    """
    workload.write()
    workload.home.mkdir()
    samples: dict[bytes, Cpu] = {}
    memory: list[int] = [0]

    def look(line: bytes, pid: int) -> None:
        for kind in (b'"type":"attempt.started"', b'"type":"mission.finished"'):
            if kind not in samples and kind in line[:100]:
                samples[kind], memory[0] = cpu_of(pid), peak_memory_bytes(pid)

    wait_until_idle(server.group)
    before = cpu_of_group(server.group)
    argv = [str(Path(sys.executable).with_name("mission")), "run", "mission.toml", "--json"]
    ended = watch(argv, environment(workload), workload.folder, on_line=look)
    wait_until_idle(server.group)
    measured = Measured(
        workload=workload,
        records=_ledger(workload),
        ended=ended,
        at_dispatch=samples.get(b'"type":"attempt.started"', NOTHING),
        at_finish=samples.get(b'"type":"mission.finished"', NOTHING),
        peak_memory_at_finish_bytes=memory[0],
        server_cpu_seconds=cpu_of_group(server.group) - before,
    )
    _insist(measured)
    return measured


def environment(workload: Workload) -> dict[str, str]:
    """This process's environment, with this checkout and a MISSION_HOME of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MISSION_")}
    return kept | {"MISSION_HOME": str(workload.home), "PYTHONPATH": str(PROJECT)}


def _ledger(workload: Workload) -> Sequence[Record]:
    ledgers = [*workload.home.glob("missions/*/ledger.jsonl")]
    if len(ledgers) != 1:
        raise BenchmarkBroken(f"no mission began:\n{_errors(workload)}")
    return read_ledger(ledgers[0])


def _insist(measured: Measured) -> None:
    """See to it that all units landed and were delivered: a fast failure is no result."""
    workload, wanted = measured.workload, len(measured.workload.works)
    last = measured.records[-1].event
    if not isinstance(last, MissionFinished) or measured.ended.code != 0:
        raise BenchmarkBroken(f"exit code {measured.ended.code}:\n{_errors(workload)}")
    if last.counts != {"landed": wanted}:
        raise BenchmarkBroken(f"landed {last.counts}, not all {wanted}: {last.detail}")
    argv = ["git", "rev-list", "--count", f"main..{GREEN}"]
    there = int(run(argv, cwd=workload.target, env=git_environment()).text)
    if there != wanted:
        raise BenchmarkBroken(f"{there} commits on {GREEN}, not {wanted}")


def _errors(workload: Workload) -> str:
    return (workload.folder / "stderr.log").read_text(errors="replace")[-2000:]
