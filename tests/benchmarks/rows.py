"""The rows of the table: which missions they need, what is compared with what, what is wanted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median
from typing import Literal

from flows.planning.plan import Plan, UnitId
from tests.benchmarks.merging import UNITS_TOGETHER, measure_merging
from tests.benchmarks.missions import BenchmarkBroken, Measured, Server, environment, measure
from tests.benchmarks.mutants import run_mutants
from tests.benchmarks.planning import N_QUESTIONS, QUESTION_SECONDS, planning_seconds
from tests.benchmarks.processes import import_memory_bytes, watch
from tests.benchmarks.simulator import plain_bound, simulate
from tests.benchmarks.steps import Baseline, Step, measure_baseline, measure_steps
from tests.benchmarks.verifications import Cell
from tests.benchmarks.workload import (
    Work,
    Workload,
    chain,
    independent,
    random_dag,
)

SLOTS = 8
MEGABYTE = 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table; `wanted` limits the ratio to the reference, or the figure itself.

    It is the most that they may be, or with `at_least` the least.
    """

    work: str
    measured: float
    unit: str
    reference: float | None = None
    wanted: float | None = None
    limits: Literal["ratio", "measured"] = "ratio"
    at_least: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Measured over reference."""
        return self.measured / self.reference if self.reference else None

    @property
    def is_met(self) -> bool | None:
        """Whether it is as wanted; `None` when nothing is."""
        figure = self.ratio if self.limits == "ratio" else self.measured
        if self.wanted is None or figure is None:
            return None
        return figure >= self.wanted if self.at_least else figure <= self.wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is run."""

    units: int = 200
    few: int = 50
    many: int = 500
    links: int = 10
    talkers: int = 20
    tests: int = 20
    culprit_rates: tuple[float, ...] = (0.02, 0.05, 0.10, 0.20, 0.30)
    probe_slots: tuple[int, ...] = (1, 2, 4, 8, 16)
    blocks: int = 10
    arrivals: int = 5_000
    patience_seconds: float = 5.0
    mutants: int = 200


QUICK = Sizes(
    units=20,
    few=10,
    many=20,
    links=3,
    talkers=6,
    tests=5,
    culprit_rates=(0.05, 0.20),
    probe_slots=(1, 4, 16),
    blocks=2,
    arrivals=500,
    patience_seconds=0.4,
    mutants=20,
)


@dataclass(slots=True, kw_only=True)
class Suite:
    """What rows share: a scratch folder, the server, and missions that several rows look at.

    There is no server when no mission is asked for.
    """

    folder: Path
    server: Server | None
    sizes: Sizes
    say: Callable[[str], None]
    missions: dict[str, Measured] = field(default_factory=dict)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    landings: list[Cell] = field(default_factory=list)

    def mission(self, name: str, works: tuple[Work, ...], **options: bool) -> Measured:
        """Run a mission, once per name."""
        if self.server is None:
            raise BenchmarkBroken("a mission needs the server")
        if name not in self.missions:
            self.say(f"mission {name}: {len(works)} units …")
            workload = Workload(folder=self.folder / name, works=works, slots=SLOTS, **options)
            self.missions[name] = measure(workload, self.server)
        return self.missions[name]

    def baseline(self, seconds: float = 0.0, *, with_pytest: bool = False) -> Baseline:
        """What agent and verification cost alone, once per kind."""
        name = "pytest" if with_pytest else f"agent of {seconds:g} s"
        if name not in self.baselines:
            folder = self.folder / f"alone-{name.replace(' ', '-')}"
            self.baselines[name] = measure_baseline(folder, seconds, with_pytest=with_pytest)
        return self.baselines[name]


def sleeping(suite: Suite) -> Iterator[Row]:
    """Agents of one second: the wall time over the ideal one, CPU and memory."""
    n, alone = suite.sizes.units, suite.baseline(1.0)
    measured = suite.mission("sleeping", independent(n, 1.0))
    ideal = ceil(n / SLOTS) * alone.agent.seconds + alone.verification.seconds
    yield Row(
        work=f"N={n}, {SLOTS} slots, S=1 s: first dispatch to last delivery",
        measured=measured.delivered_seconds,
        unit="s",
        reference=ideal,
        wanted=1.15,
        note=f"ideal: {ceil(n / SLOTS)} x {alone.agent.seconds:.3f} + "
        f"{alone.verification.seconds:.3f}; {len(measured.probes)} verifications",
    )
    yield _cpu_row(measured, alone, "S=1 s")
    yield _memory_row(measured, "S=1 s")


def instant(suite: Suite) -> Iterator[Row]:
    """Agents that do not sleep: what remains is overhead."""
    n, alone = suite.sizes.units, suite.baseline(0.0)
    measured = suite.mission("instant", independent(n, 0.0))
    yield Row(
        work=f"N={n}, {SLOTS} slots, S=0: wall per unit",
        measured=1000 * measured.delivered_seconds / n,
        unit="ms",
        wanted=100.0,
        limits="measured",
        note=f"agent alone {1000 * alone.agent.seconds:.0f} ms; "
        f"{len(measured.probes)} verifications",
    )
    yield _cpu_row(measured, alone, "S=0")
    yield _memory_row(measured, "S=0")


def _cpu_row(measured: Measured, alone: Baseline, work: str) -> Row:
    shares = measured.cpu_shares(alone.agent, alone.verification, alone.supervisor)
    return Row(
        work=f"N={measured.n_units}, {work}: CPU per unit",
        measured=1000 * measured.cpu_per_unit(alone.agent, alone.verification),
        unit="ms",
        wanted=120.0,
        limits="measured",
        note=", ".join(f"{name} {value:.0f}" for name, value in shares.items()),
    )


def _memory_row(measured: Measured, work: str) -> Row:
    imports = import_memory_bytes("flows.mission", environment(measured.workload))
    return Row(
        work=f"N={measured.n_units}, {work}: peak memory of the flow process",
        measured=measured.ended.peak_memory_bytes / MEGABYTE,
        unit="MB",
        reference=imports / MEGABYTE,
        wanted=180.0,
        limits="measured",
        note="reference: its imports alone; at the mission's end, before metrics and report, "
        f"{measured.peak_memory_at_finish_bytes / MEGABYTE:.0f} MB",
    )


def growth(suite: Suite) -> Iterator[Row]:
    """Whether a unit of a long mission costs more than one of a short mission."""
    few, many, alone = suite.sizes.few, suite.sizes.many, suite.baseline(0.0)
    short = suite.mission("few", independent(few, 0.0))
    long = suite.mission("many", independent(many, 0.0))
    cpu = [1000 * m.running_cpu_per_unit(alone.agent, alone.verification) for m in (long, short)]
    yield Row(
        work=f"CPU per unit at N={many} over N={few}, S=0",
        measured=cpu[0],
        unit="ms",
        reference=cpu[1],
        wanted=1.2,
        note="first dispatch to the end; the flow's start and closing would flatter the long one",
    )
    yield Row(
        work=f"wall per unit at N={many} over N={few}, S=0",
        measured=1000 * long.delivered_seconds / many,
        unit="ms",
        reference=1000 * short.delivered_seconds / few,
        wanted=1.2,
    )


def dag(suite: Suite) -> Iterator[Row]:
    """A random DAG, over its simulation without overhead and over submitting all at once."""
    works, alone = random_dag(suite.sizes.units), suite.baseline(0.0)
    measured = suite.mission("dag", works)
    lasting = {UnitId(w.unit): w.seconds + alone.agent.seconds for w in works}
    workload, verification = measured.workload, alone.verification.seconds
    simulated = simulate(
        workload.units,
        workload.settings(),
        agent_seconds=lasting,
        verification_seconds=verification,
    )
    plan = Plan(units=workload.units)
    plain, linked = (
        plain_bound(plan, lasting, slots=SLOTS, verification_seconds=v) for v in (0.0, verification)
    )
    work = (
        f"random DAG, {len(works)} units of 0.2-2 s, {SLOTS} slots: first dispatch to last landing"
    )
    yield Row(
        work=work,
        measured=measured.landed_seconds,
        unit="s",
        reference=simulated.seconds,
        wanted=1.10,
        note=f"reference: simulated; max(critical path, work/slots) {plain:.1f} s, "
        f"with a verification per link {linked:.1f} s; verifications {len(measured.probes)}, "
        f"simulated {simulated.n_probes}",
    )
    for n_workers, name in ((len(works), "a thread per unit"), (SLOTS, f"{SLOTS} workers")):
        suite.say(f"the same DAG, all submitted at once, {name} …")
        yield Row(
            work=f"the same, over submitting everything at once ({name})",
            measured=measured.landed_seconds,
            unit="s",
            reference=_all_at_once(suite, works, n_workers),
            wanted=0.9999,
            note="same agents, workspaces, supervisors, train and delivery; no ledger",
        )


def _all_at_once(suite: Suite, works: tuple[Work, ...], n_workers: int) -> float:
    folder = suite.folder / f"all-at-once-{n_workers}"
    workload = Workload(folder=folder, works=works, slots=SLOTS)
    workload.write()
    workload.home.mkdir()
    argv = [sys.executable, "-m", "tests.benchmarks.all_at_once", str(folder), str(n_workers)]
    lines: list[bytes] = []
    ended = watch(argv, environment(workload), folder, on_line=lambda line, _: lines.append(line))
    if ended.code != 0:
        said = (folder / "stderr.log").read_text(errors="replace")
        raise BenchmarkBroken(f"submitting all at once ended with {ended.code}:\n{said[-2000:]}")
    return float(json.loads(lines[-1])["seconds"])


def idle(suite: Suite) -> Iterator[Row]:
    """How soon work is on `green` when the train has nothing else to do."""
    alone = suite.baseline(0.0)
    measured = suite.mission("idle", chain(suite.sizes.links, 0.2))
    seconds = sorted(measured.landing_seconds)
    yield Row(
        work="agent exits to on green, idle train (median)",
        measured=median(seconds),
        unit="s",
        reference=alone.verification.seconds,
        wanted=alone.verification.seconds + 0.5,
        limits="measured",
        note=f"reference: verification alone; {len(seconds)} landings, "
        f"{seconds[0]:.2f} to {seconds[-1]:.2f} s",
    )


def output(suite: Suite) -> Iterator[Row]:
    """Whether an agent that talks a lot is held up by us."""
    works = tuple(
        Work(unit=w.unit, seconds=w.seconds, depends_on=w.depends_on, noise=noise)
        for i, w in enumerate(chain(suite.sizes.talkers, 0.2))
        for noise in [("loud", "quiet")[i % 2]]
    )
    measured = suite.mission("output", works)
    seconds = measured.attempt_seconds
    loud, quiet = (
        median(seconds[w.unit] for w in works if w.noise == noise) for noise in ("loud", "quiet")
    )
    yield Row(
        work="2 MB of output over the same thrown away: dispatch to agent's end (median)",
        measured=loud,
        unit="s",
        reference=quiet,
        wanted=1.05,
        note=f"units alternate in one mission; difference {1000 * (loud - quiet):+.1f} ms",
    )


def with_pytest(suite: Suite) -> Iterator[Row]:
    """A real pytest run as the verification; printed, nothing is wanted."""
    n, alone = suite.sizes.tests, suite.baseline(with_pytest=True)
    measured = suite.mission("pytest", independent(n, 0.0), with_pytest=True)
    ideal = ceil(n / SLOTS) * alone.agent.seconds + alone.verification.seconds
    yield Row(
        work=f"N={n}, {SLOTS} slots, S=0, pytest: first dispatch to last delivery",
        measured=measured.delivered_seconds,
        unit="s",
        reference=ideal,
        note=f"pytest alone {alone.verification.seconds:.2f} s, {len(measured.probes)} runs of it",
    )


def planning(suite: Suite) -> Iterator[Row]:
    """A plan by agents: 31 questions of half a second in a tree of five by five."""
    if suite.server is None:
        raise BenchmarkBroken("a mission needs the server")
    took, least = planning_seconds(suite.folder / "planning")
    yield Row(
        work=f"agent plan: {N_QUESTIONS} questions of {QUESTION_SECONDS} s, 5 x 5, to the plan",
        measured=took,
        unit="s",
        reference=least,
        wanted=3.0,
        limits="measured",
        note="reference: sleeping alone, by the slots of `plan.slots`",
    )


def mutants(suite: Suite) -> Iterator[Row]:
    """Mutants of a real package as agents' work: whether any that its tests kill lands."""
    yield from _mutant_rows(suite, flake_rate=0.0)


def flakes(suite: Suite) -> Iterator[Row]:
    """The same with a test that fails by chance: whether good work is blamed for it."""
    yield from _mutant_rows(suite, flake_rate=0.01)


def _mutant_rows(suite: Suite, *, flake_rate: float) -> Iterator[Row]:
    n, name = suite.sizes.mutants, f"{suite.sizes.mutants} mutants"
    if flake_rate:
        name += f", {flake_rate:.0%} flakes"
    suite.say(f"mission of {name} …")
    found = run_mutants(suite.folder / f"mutants-{flake_rate:g}", n, flake_rate=flake_rate)
    bad = {**found.false_passes, **dict.fromkeys([*found.red_values, *found.strange_content], "")}
    for work, count in (
        ("killed by the tests, on green all the same", len(found.false_passes)),
        ("values of green that are red or hold what did not land", len(bad)),
        ("innocents ejected", len(found.innocents)),
    ):
        yield Row(work=f"{name}: {work}", measured=count, unit="", wanted=0.0, limits="measured")
    yield Row(
        work=f"{name}: landed, of those that the tests let live",
        measured=len(found.landed),
        unit="",
        reference=len(found.survived),
        note=str(found),
    )
    yield Row(
        work=f"{name}: verifications, by landed unit",
        measured=found.n_verifications,
        unit="",
        reference=len(found.landed),
    )
    yield Row(work=f"{name}: the mission's time", measured=found.seconds, unit="s")
    if bad or found.innocents:
        raise BenchmarkBroken(f"{name}: {bad}, innocent: {found.innocents}")


def steps(suite: Suite) -> Iterator[Row]:
    """The steps of a unit's way, each alone; a table of their own."""
    suite.steps = measure_steps(suite.folder / "steps")
    yield Row(
        work="all steps of one unit's way alone: CPU, agent and half a probe's workspace included",
        measured=sum(step.cpu_ms for step in suite.steps),
        unit="ms",
    )


def merging(suite: Suite) -> Iterator[Row]:
    """What git costs for a unit that lands with others, in a small and in a large repository."""
    reference = None
    for n_files in (1_000, 10_000):
        took = measure_merging(suite.folder / f"merging-{n_files}", n_files)
        yield Row(
            work=f"{n_files:,} files, {UNITS_TOGETHER} units landing together: CPU of git per unit",
            measured=took.cpu_ms,
            unit="ms",
            reference=reference,
            wanted=20.0 if reference is None else 2.0,
            limits="measured" if reference is None else "ratio",
            note=took.shares,
        )
        reference = reference or took.cpu_ms


GROUPS: Mapping[str, Callable[[Suite], Iterator[Row]]] = {
    "steps": steps,
    "merging": merging,
    "sleeping": sleeping,
    "instant": instant,
    "growth": growth,
    "dag": dag,
    "idle": idle,
    "output": output,
    "pytest": with_pytest,
    "planning": planning,
    "mutants": mutants,
    "flakes": flakes,
}
"""Groups that look at missions or at a unit's way."""

SERVERLESS = frozenset({"steps", "train", "merging"})
"""Groups that run no mission."""
