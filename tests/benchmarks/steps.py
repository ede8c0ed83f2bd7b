"""The steps of a unit's way, each alone and one after another: what they cost by themselves."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blocks.places.local import LocalPlace
from blocks.places.workspaces import Workspace
from blocks.repository import IntegrationRepository
from flows.ledger.events import UnitEnded
from flows.ledger.log import Ledger
from flows.running.bench import Bench
from tests.benchmarks.processes import Alone, alone, spent
from tests.benchmarks.workload import Workload, independent

N_RUNS = 10
TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What others' work costs when nothing else goes on, and what a supervisor adds to it."""

    agent: Alone
    verification: Alone
    supervisor: Alone


@contextmanager
def opened_bench(workload: Workload, folder: Path) -> Iterator[tuple[Bench, str]]:
    """A bench of a workload's target as a mission has it, and the commit to start from."""
    repository = IntegrationRepository(folder / "repository.git")
    place = LocalPlace(folder / "place")
    try:
        base = repository.fetch(str(workload.target), ["main"])["main"]
        bench = Bench(
            mission="alone",
            folder=folder,
            repository=repository,
            places={place.name: place},
            settings=workload.settings(),
            key="alone",
        )
        yield bench, base
    finally:
        place.close()
        repository.close()


def measure_baseline(folder: Path, seconds: float, *, with_pytest: bool = False) -> Baseline:
    """Measure an agent that sleeps so long, the verification, and a supervisor, each alone."""
    workload = Workload(
        folder=folder, works=independent(N_RUNS, seconds), slots=1, with_pytest=with_pytest
    )
    workload.write()
    with opened_bench(workload, folder) as (bench, base):
        place = bench.places["local"]
        workspace = bench.workspace(place, "agents", 0)
        workspace.reset(base)
        agents = [_agent(bench, workload, workspace, work.unit) for work in workload.works]
        verify = _command(bench, workspace, ("sh", "-c", workload.verification), {})
        jobs = [_job(bench, workspace, i) for i in range(N_RUNS)]
        return Baseline(
            agent=alone(agents), verification=alone([verify] * 5), supervisor=alone(jobs)
        )


def _agent(bench: Bench, workload: Workload, workspace: Workspace, unit: str) -> Callable[[], None]:
    return _command(bench, workspace, workload.agent_argv, {"MISSION_UNIT_ID": unit})


def _command(
    bench: Bench, workspace: Workspace, argv: tuple[str, ...], extra: Mapping[str, str]
) -> Callable[[], None]:
    env = bench.environment(workspace, extra)
    return lambda: _quietly(argv, env, workspace.tree)


def _quietly(argv: tuple[str, ...], env: Mapping[str, str], cwd: str) -> None:
    subprocess.run(argv, env=dict(env), cwd=cwd, stdout=subprocess.DEVNULL, check=True)


def _job(bench: Bench, workspace: Workspace, number: int) -> Callable[[], None]:
    directory = bench.job_directory(workspace.place, "nothing", str(number))

    def run() -> None:
        bench.run_job(workspace, directory, ("true",), timeout_seconds=TIMEOUT_SECONDS)

    return run


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: means over several runs, CPU with that of children."""

    name: str
    wall_ms: float
    cpu_ms: float
    n_processes: float


def measure_steps(folder: Path) -> list[Step]:
    """Take units along their way one by one, and measure each step of it."""
    workload = Workload(folder=folder, works=independent(N_RUNS, 0.0), slots=1)
    workload.write()
    meter = _Meter()
    with opened_bench(workload, folder) as (bench, base), Ledger(folder / "l.jsonl") as ledger:
        place = bench.places["local"]
        agents, probes = (bench.workspace(place, kind, 0) for kind in ("agents", "probes"))
        for workspace in (agents, probes):
            workspace.reset(base)
        green = base
        for work in workload.works:
            green = _one_way(meter, bench, ledger, workload, work.unit, (agents, probes), green)
    return meter.steps()


def _one_way(
    meter: _Meter,
    bench: Bench,
    ledger: Ledger,
    workload: Workload,
    unit: str,
    workspaces: tuple[Workspace, Workspace],
    green: str,
) -> str:
    """One unit from `green` to `green`; returns where that is then."""
    agents, probes = workspaces
    repository, place = bench.repository, agents.place
    directory, ref = bench.job_directory(place, unit), f"refs/missions/alone/{unit}/1"
    extra = {"MISSION_UNIT_ID": unit}
    argv = workload.agent_argv
    with meter.step("prepare the workspace"):
        agents.reset(green)
    with meter.step("agent under its supervisor"):
        bench.run_job(agents, directory, argv, timeout_seconds=TIMEOUT_SECONDS, extra=extra)
    with meter.step("collect"):
        collected = agents.collect(base=green, ref=ref, message=unit)
    with meter.step("merge on another tip"):
        repository.merge(green, collected.head, unit, base="", tree=collected.tree)
    with meter.step("merge on its own base"):
        merged = repository.merge(green, collected.head, unit, base=green, tree=collected.tree)
    with meter.step("prepare a probe"):
        probes.reset(merged.commit)
    with meter.step("look at a tree, move green"):
        repository.tree_of(merged.commit)
        repository.move_ref(
            "refs/heads/green", merged.commit, repository.resolve("refs/heads/green")
        )
    with meter.step("push"):
        old = repository.resolve("refs/heads/pushed")
        repository.push(str(workload.target), merged.commit, "mission/green", old=old)
    repository.save_ref("refs/heads/pushed", merged.commit)
    with meter.step("one append to the ledger"):
        ledger.append(UnitEnded(unit=unit, status="landed"))
    return merged.commit


class _Meter:
    """Adds up wall and CPU time of named steps, and how many processes were started."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        before = _now()
        yield
        spent = [after - start for after, start in zip(_now(), before, strict=True)]
        sums = self._sums.setdefault(name, [0.0] * (len(spent) + 1))
        self._sums[name] = [a + b for a, b in zip(sums, [*spent, 1.0], strict=True)]

    def steps(self) -> list[Step]:
        return [
            Step(
                name=name,
                wall_ms=1000 * wall / n,
                cpu_ms=1000 * cpu / n,
                n_processes=processes / n,
            )
            for name, (wall, cpu, processes, n) in self._sums.items()
        ]


def _now() -> tuple[float, float, float]:
    cpu = spent(resource.RUSAGE_SELF) + spent(resource.RUSAGE_CHILDREN)
    return time.monotonic(), cpu, _processes_started()


def _processes_started() -> float:
    """Forks on this machine since boot; other programs' are among them, so this is a ceiling."""
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return next((float(x.split()[1]) for x in lines if x.startswith("processes ")), 0.0)
