"""A probe: the verification command on one exact tree, in a clean workspace, and its verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import BackendUnreachable, CommandFailed
from blocks.places.place import Ending, JobResult, Place
from blocks.places.workspaces import Workspace
from blocks.readings import Reading, read_reports
from blocks.verifier import Judgement, Verdict, judge, regression
from flows.landing.environment import Environments
from flows.landing.passes import Passes, pass_of
from flows.ledger.events import ProbeEnded
from flows.running.bench import LOG_TAIL_BYTES, PROBE_JOBS, Bench, describe

OUTPUT_BYTES = 4 * 2**20
SHOWN_FAILING = 50
DETAIL_CHARACTERS = 4_000

_FIND = """
import glob, os, sys
since = float(sys.argv[1])
for pattern in sys.argv[2:]:
    for path in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(path) and os.path.getmtime(path) >= since:
            sys.stdout.write(path + "\\0")
"""
"""Lists the reports that this run wrote: one that was committed proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOrder:
    """What is asked of a probe; `baseline` is the reading of `green`, as a file.

    A `fresh` one is run whatever is known of the tree.
    """

    probe: int
    commit: str
    tree: str = ""
    fresh: bool = True
    place: str
    slot: int
    baseline: str | None
    is_base: bool = False
    may_remove_tests: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The passes that are kept of a repository, and what they were passes in."""

    passes: Passes
    environments: Environments

    def recall(self, order: ProbeOrder, bench: Bench) -> ProbeEnded | None:
        """The pass of the very same tree in the same environment, if it still is one.

        It is held against the `green` of now; what would be worse than that is run again.
        """
        if order.fresh or not order.tree:
            return None
        digest = self.environments.digest(order.place)
        known = self.passes.find(order.tree, digest, time.time())
        if known is None:
            return None
        baseline = read_baseline(order.baseline)
        if regression(known.reading, baseline, order.may_remove_tests):
            return None
        kept = _keep(bench.folder / "readings" / f"{order.probe}.json", known.reading)
        return known.ended(probe=order.probe, place=order.place, reading=kept)

    def keep(self, order: ProbeOrder, bench: Bench, ended: ProbeEnded) -> None:
        """Keep a pass for whoever asks about the same tree again."""
        reading = read_baseline(ended.reading)
        if not order.tree or ended.verdict != Judgement.PASSED:
            return
        digest = self.environments.digest(order.place)
        passed = pass_of(
            ended,
            reading or Reading(),
            tree=order.tree,
            digest=digest,
            at=time.time(),
            mission=bench.mission,
        )
        if passed is not None:
            self.passes.put(passed)


def memory_of(bench: Bench) -> Memory | None:
    """What is kept of a mission's repository; nothing when the mission wants none of it."""
    if not bench.settings.verify.cache:
        return None
    passes = Passes.beside(bench.repository.path)
    return Memory(passes=passes, environments=Environments(bench=bench))


def run_probe(order: ProbeOrder, bench: Bench, memory: Memory | None = None) -> ProbeEnded:
    """Verify a commit's tree; our own troubles become `not a run`, which blames nobody."""
    began = time.monotonic()
    try:
        if memory is not None and (known := memory.recall(order, bench)):
            return known
        ended = _run(order, bench, began)
        if memory is not None:
            memory.keep(order, bench, ended)
    except (CommandFailed, BackendUnreachable, OSError) as error:
        return ProbeEnded(
            probe=order.probe,
            verdict=Judgement.NOT_A_RUN.value,
            reason=str(error)[:DETAIL_CHARACTERS],
            seconds=time.monotonic() - began,
            place=order.place,
        )
    place = bench.places[order.place]
    bench.let_go(bench.job_directory(place, PROBE_JOBS, str(order.probe)))
    return ended


def _run(order: ProbeOrder, bench: Bench, began: float) -> ProbeEnded:
    place, verify = bench.places[order.place], bench.settings.verify
    workspace = bench.workspace(place, "probes", order.slot)
    directory = bench.job_directory(place, PROBE_JOBS, str(order.probe))
    bench.provide(place, order.commit)
    bench.take(workspace, directory)
    workspace.reset(order.commit)
    if trouble := bench.set_up(workspace, directory):
        return ProbeEnded(
            probe=order.probe, verdict=Judgement.RED.value, reason=trouble, place=order.place
        )
    prepared = time.monotonic() - began
    junit = f"{directory}/junit.xml"
    options = verify_options(junit, dict(bench.settings.environment.set))
    result = bench.run_job(
        workspace,
        directory,
        ("sh", "-c", verify.command),
        timeout_seconds=verify.timeout,
        extra=options,
    )
    if result.ending == Ending.NOT_STARTED:
        raise BackendUnreachable(f"{place.name}: the verification {describe(result)}")
    verdict = _verdict(order, bench, workspace, directory, result, junit)
    seconds = (prepared, time.monotonic() - began)
    return _ended(order, bench, directory, result, verdict, seconds)


def verify_options(junit: str, chosen: dict[str, str]) -> dict[str, str]:
    """Make any pytest below the command write a report to a path outside the workspace."""
    given = chosen.get("PYTEST_ADDOPTS", "")
    return {"PYTEST_ADDOPTS": f"{given} --junitxml={junit} -p no:cacheprovider".strip()}


def _verdict(
    order: ProbeOrder,
    bench: Bench,
    workspace: Workspace,
    directory: str,
    result: JobResult,
    junit: str,
) -> Verdict:
    verify, place = bench.settings.verify, workspace.place
    output = place.tail(directory, OUTPUT_BYTES)
    since = result.ended_at - result.wall_seconds
    own = _reports(workspace, verify.junit, since)
    reading = read_reports(
        output=output,
        junit=[*own, *_one(place, junit)],
        sarif=_reports(workspace, verify.sarif, since),
        coverage=_reports(workspace, verify.coverage, since),
        command=verify.command,
        root=workspace.tree,
    )
    baseline = read_baseline(order.baseline)
    return judge(
        exit_code=result.exit_code,
        signal=result.signal,
        ending=result.ending.value,
        detail=result.detail,
        timeout_seconds=verify.timeout,
        output=output,
        reading=reading,
        expects_junit=bool(verify.junit) and not own,
        baseline=baseline,
        may_remove_tests=order.may_remove_tests,
        allowed_failures=_allowed(verify.allow_red_base, reading if order.is_base else baseline),
    )


def _allowed(allow_red_base: bool, known: Reading | None) -> frozenset[str] | None:
    """On a red base the tests that fail there may go on failing, and no others."""
    return frozenset(known.failing) if allow_red_base and known is not None else None


def read_baseline(path: str | None) -> Reading | None:
    """The reading that an earlier probe left in a file."""
    if path is None or not Path(path).is_file():
        return None
    return Reading.from_json(json.loads(Path(path).read_bytes()))


def _reports(workspace: Workspace, patterns: Sequence[str], since: float) -> list[bytes]:
    """The report files that globs name inside a workspace and that are newer than `since`."""
    if not patterns:
        return []
    argv = ["python3", "-I", "-c", _FIND, repr(since), *patterns]
    found = workspace.place.run(argv, cwd=workspace.tree).stdout.decode().split("\0")
    return [workspace.place.read(f"{workspace.tree}/{path}") for path in found if path]


def _one(place: Place, path: str) -> list[bytes]:
    try:
        return [place.read(path)]
    except FileNotFoundError:
        return []


def _end_of(place: Place, directory: str) -> str:
    tail = place.tail(directory, LOG_TAIL_BYTES).decode(errors="replace").strip()
    return tail[-DETAIL_CHARACTERS:]


def _ended(
    order: ProbeOrder,
    bench: Bench,
    directory: str,
    result: JobResult,
    verdict: Verdict,
    seconds: tuple[float, float],
) -> ProbeEnded:
    reading = verdict.reading
    kinds = [finding.kind for finding in reading.findings]
    return ProbeEnded(
        probe=order.probe,
        verdict=verdict.judgement.value,
        reason=verdict.reason[:DETAIL_CHARACTERS],
        output=""
        if verdict.judgement == Judgement.PASSED
        else _end_of(bench.places[order.place], directory),
        failing=tuple(verdict.failing[:SHOWN_FAILING]),
        exit_code=result.exit_code,
        seconds=seconds[1],
        prepare_seconds=seconds[0],
        cpu_seconds=result.cpu_seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        tests=_counts(reading),
        findings={kind: kinds.count(kind) for kind in sorted(set(kinds))},
        coverage=reading.coverage,
        reading=_keep(bench.folder / "readings" / f"{order.probe}.json", reading),
        log=f"{directory}/output.log",
        place=order.place,
    )


def _counts(reading: Reading) -> dict[str, int]:
    if reading.tests is None:
        return {}
    return {
        "collected": reading.n_collected,
        "passed": reading.n_passed,
        "failed": reading.n_failed,
        "errors": reading.n_errors,
        "skipped": reading.n_skipped,
    }


def _keep(path: Path, reading: Reading) -> str | None:
    """Store a reading that later ones can be compared with; returns where."""
    if not reading.has_tests and not reading.findings:
        return None
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.write_text(json.dumps(reading.to_json(), separators=(",", ":")))
    return str(path)
