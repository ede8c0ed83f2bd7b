"""Mutants as agents' work: which of them a mission lands, and which it should have landed.

Each unit of the mission puts one mutant into a package that has a real test suite; the suite is the
verification. What is true of each mutant is found apart from the mission, by running the suite on
the base with that mutant alone.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from deployments import demo
from tests.missions import (
    GREEN,
    Record,
    Site,
    events,
    git,
    integration_repository,
    ledger,
    make_site,
    on_green,
    write_plan,
)
from tests.mutants import Mutant, mutants_of, sample

TARGET = Path(demo.__file__).with_name("target")
PACKAGE = "parcelpost"

SUITE = """\
ulimit -v 1000000 && PYTHONHASHSEED=0 PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python3 -m pytest -q"""
"""The package's tests; some mutants never end, and fill the memory meanwhile."""

SUITE_TIMEOUT_SECONDS, PATIENCE_SECONDS = 8.0, 60.0
"""The mission counts the seconds of the clock; we those of the CPU, and have patience with it."""

AGENT = """\
read -r path line < "$NOTES/mutants/$MISSION_UNIT_ID.where"
after=$NOTES/mutants/$MISSION_UNIT_ID.after
if ! sed -n "${line}p" "$path" | cmp -s - "$NOTES/mutants/$MISSION_UNIT_ID.before"; then
    echo "line $line of $path is not what it was" >&2
    exit 1
fi
{ head -n $((line - 1)) "$path"; cat "$after"; tail -n +$((line + 1)) "$path"; } > .mutated
cat .mutated > "$path" && rm .mutated
"""
"""Replaces the one line of the unit's mutant, where it is still what it was."""

FLAKY_TEST = '''\
"""A test that fails by chance, in a mission that says how often; it notes when it does."""

import os
import random
from pathlib import Path


def test_the_weather_holds():
    rate = float(os.environ.get("FLAKE_RATE", "0"))
    if not rate:
        return
    notes = Path(os.environ["NOTES"])
    if not (notes / "base-verified").exists():  # on a red base no mission begins
        (notes / "base-verified").touch()
        return
    if random.SystemRandom().random() < rate:
        with (notes / "flakes").open("a") as flakes:
            print(os.environ.get("PYTEST_ADDOPTS", ""), file=flakes)
        raise AssertionError("it rained")
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The package with its tests; `modules` are those that are taken, absent names all."""

    modules: Collection[str] = ()
    with_flaky_test: bool = False

    def files(self) -> dict[str, str]:
        """All files, as a target repository holds them."""
        names = self.modules or [p.stem for p in (TARGET / PACKAGE).glob("[!_]*.py")]
        paths = {f"{PACKAGE}/{name}.py" for name in ("__init__", *names)}
        tests = {f"tests/test_{name}.py" for name in names}
        present = [path for path in sorted(paths | tests) if (TARGET / path).exists()]
        files = {path: (TARGET / path).read_text() for path in ("pyproject.toml", *present)}
        weather = {"tests/test_weather.py": FLAKY_TEST} if self.with_flaky_test else {}
        return {".gitignore": "__pycache__/\n", **files, **weather}

    def sources(self) -> dict[str, str]:
        """The package without its tests."""
        return {path: text for path, text in self.files().items() if path.startswith(PACKAGE)}

    def mutants(self, size: int, *, seed: int) -> dict[str, Mutant]:
        """So many mutants, each of one line, by the id of the unit that makes it."""
        every = [m for path, text in self.sources().items() for m in mutants_of(text, path)]
        chosen = sample([m for m in every if m.is_one_line], size, seed=seed)
        return {f"m{number:03}": mutant for number, mutant in enumerate(chosen)}


def make_mutant_site(
    folder: Path,
    package: Package,
    mutants: Mapping[str, Mutant],
    *,
    api_url: str = "",
    flake_rate: float = 0.0,
) -> Site:
    """Make a mission with a unit per mutant; nothing is said about what a unit writes."""
    site = make_site(
        folder,
        api_url=api_url,
        files=package.files(),
        environment={
            "path": [str(Path(sys.executable).parent)],
            "set": {"FLAKE_RATE": f"{flake_rate:g}"},
        },
        verify={"command": SUITE, "timeout": f"{SUITE_TIMEOUT_SECONDS:g}s", "slots": 2},
        agents={"default": {"argv": ["sh", "-ec", AGENT]}},
        limits={"max_attempts": 1, "max_failures_in_a_row": 10_000},
    )
    told = site.notes / "mutants"
    told.mkdir()
    for name, mutant in mutants.items():
        (told / f"{name}.where").write_text(f"{mutant.path} {mutant.line}\n")
        (told / f"{name}.before").write_text(mutant.before)
        (told / f"{name}.after").write_text(mutant.after)
    write_plan(site, *({"id": n, "title": f"Mutate line {m.line}"} for n, m in mutants.items()))
    return site


# -- what is true ------------------------------------------------------------------------------


def n_passed(folder: Path) -> int:
    """How many tests pass on what lies in a folder; 0 when any fails or they do not end."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with subprocess.Popen(
        ["sh", "-c", f"ulimit -t {SUITE_TIMEOUT_SECONDS:.0f}; {SUITE} -x -p no:cacheprovider"],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as suite:
        try:
            said, _ = suite.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(suite.pid, signal.SIGKILL)
            return 0
    counted = re.search(rb"(\d+) passed", said)
    return int(counted[1]) if counted and suite.returncode == 0 else 0


def survivors(
    folder: Path, package: Package, mutants: Mapping[str, Mutant], *, jobs: int = 2
) -> frozenset[str]:
    """Which mutants pass the suite, each alone on the base; one that does away with tests fails."""
    copies: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(jobs):
        copy = folder / f"copy-{number}"
        for path, text in package.files().items():
            (copy / path).parent.mkdir(parents=True, exist_ok=True)
            (copy / path).write_text(text)
        copies.put(copy)
    n_tests = n_passed(copy)
    assert n_tests, "the base is red"

    def survives(mutant: Mutant) -> bool:
        copy = copies.get()
        file = copy / mutant.path
        base = file.read_text()
        file.write_text(mutant.text)
        try:
            return n_passed(copy) == n_tests
        finally:
            file.write_text(base)
            copies.put(copy)

    with ThreadPoolExecutor(jobs) as pool:
        verdicts = pool.map(survives, mutants.values())
    return frozenset(name for name, passed in zip(mutants, verdicts, strict=True) if passed)


# -- what the mission made of it ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """A mission that ran, held against what is true."""

    killed: frozenset[str]
    survived: frozenset[str]
    landed: frozenset[str]  # by the trailers of green's history
    false_passes: Mapping[str, str]
    strange_content: Sequence[str]  # files of green that are not the base with what landed
    red_values: Sequence[str]
    innocents: Mapping[str, str]  # survivors that did not land, for no good reason
    taken: frozenset[str]  # another mutant of the same line had landed
    bad_pairs: frozenset[str]  # survivors that kill the suite together with what had landed
    unlucky: frozenset[str]  # survivors on whose very tree the suite flaked twice
    n_brought: int  # reached the train
    n_conflicts: int  # with green or with what was stacked on it
    n_retries: int  # attempts after the first, which only conflicts may cause
    n_ejected: int
    n_flakes: int  # by the note of the flaky test
    n_flakes_seen: int  # by the train
    n_verifications: int
    n_cancelled: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{len(self.killed)} killed, {len(self.survived)} survived; {self.n_brought} reached "
            f"the train, {len(self.landed)} landed, {self.n_ejected} ejections, "
            f"{self.n_conflicts} conflicts, {self.n_retries} retries, "
            f"{len(self.taken)} found their line taken, "
            f"{len(self.bad_pairs)} bad pairs, {self.n_flakes} flakes, "
            f"{self.n_flakes_seen} seen, {len(self.unlucky)} unlucky; "
            f"{self.n_verifications} verifications, {self.n_cancelled} of them cancelled, in "
            f"{self.seconds:.1f} s"
        )


def judge(
    site: Site, package: Package, mutants: Mapping[str, Mutant], survived: frozenset[str]
) -> Findings:
    """Hold a site's newest mission against what is true of its mutants."""
    records = ledger(site)
    killed = frozenset(mutants) - survived
    landed = frozenset(_trailers(site, GREEN))
    trees = _Trees(site=site, folder=site.folder / "trees")
    taken = {n for n in survived - landed if _is_taken(mutants[n], [mutants[m] for m in landed])}
    bad_pairs = {n for n in survived - landed - taken if trees.is_bad_pair(records, n)}
    flaked = _flaked_probes(site)
    unlucky = {n for n in survived - landed - taken - bad_pairs if _is_unlucky(records, n, flaked)}
    excused = taken | bad_pairs | unlucky
    return Findings(
        killed=killed,
        survived=survived,
        landed=landed,
        false_passes=dict(_false_passes(site, mutants, killed, landed)),
        strange_content=[*_strange_content(site, package, mutants, records)],
        red_values=[
            r["new"] for r in events(records, "landed") if not trees.is_good(r["new"], r["tree"])
        ],
        innocents={n: _why(records, n) for n in sorted(survived - landed - excused)},
        taken=frozenset(taken),
        bad_pairs=frozenset(bad_pairs),
        unlucky=frozenset(unlucky),
        n_brought=len({r["unit"] for r in events(records, "attempt.ended", outcome="collected")}),
        n_conflicts=len(events(records, "candidate.conflicted")),
        n_retries=sum(r["attempt"] > 1 for r in events(records, "attempt.started")),
        n_ejected=len(events(records, "candidate.ejected")),
        n_flakes=len(flaked),
        n_flakes_seen=len(events(records, "flake.seen")),
        n_verifications=len(events(records, "probe.ended")),
        n_cancelled=len(events(records, "probe.ended", verdict="cancelled")),
        seconds=records[-1]["at"] - records[0]["at"],
    )


def _trailers(site: Site, commit: str) -> list[str]:
    told = git(site.target, "log", "--format=%(trailers:key=Unit,valueonly)", f"main..{commit}")
    return told.split()


def _flaked_probes(site: Site) -> list[int]:
    """In which probes the flaky test failed, by where their reports went."""
    return [int(number) for number in re.findall(r"/\.probes/(\d+)/", site.note("flakes"))]


def _is_unlucky(records: Sequence[Record], name: str, flaked: Collection[int]) -> bool:
    """Whether a unit was ejected for a tree on which two probes flaked."""
    trees = {r["tree"] for r in events(records, "culprit.set_aside", unit=name)}
    return any(
        sum(r["probe"] in flaked for r in events(records, "probe.started", tree=tree)) > 1
        for tree in trees
    )


def _is_taken(mutant: Mutant, landed: Collection[Mutant]) -> bool:
    return any((m.path, m.line) == (mutant.path, mutant.line) for m in landed)


def _false_passes(
    site: Site, mutants: Mapping[str, Mutant], killed: Collection[str], landed: Collection[str]
) -> Iterator[tuple[str, str]]:
    for name in sorted(killed):
        mutant = mutants[name]
        if name in landed:
            yield name, f"its trailer is on green: {mutant}"
        lines = (on_green(site, mutant.path) or "").split("\n")
        if lines[mutant.line - 1 : mutant.line] == [mutant.after.rstrip("\n")]:
            yield name, f"its line is on green: {mutant}"


def _strange_content(
    site: Site, package: Package, mutants: Mapping[str, Mutant], records: Sequence[Record]
) -> Iterator[str]:
    """Compare each value of green, file by file, with the base and the lines that landed."""
    repository = integration_repository(site)
    base = git(site.target, "rev-parse", "main")
    expected = {path: text.split("\n") for path, text in package.sources().items()}
    for landing in events(records, "landed"):
        units = [mutants[name] for name in landing["units"]]
        for mutant in units:
            expected[mutant.path][mutant.line - 1] = mutant.after.rstrip("\n")
        for path in {mutant.path for mutant in units}:
            text = git(repository, "show", f"{landing['new']}:{path}")
            if text != "\n".join(expected[path]).strip():
                yield f"{path} in {landing['new']}"
        changed = git(repository, "diff", "--name-only", base, landing["new"]).split()
        yield from (f"{path} in {landing['new']}" for path in {*changed} - {*expected})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trees:
    """Commits of a mission on which we run the suite, each tree once."""

    site: Site
    folder: Path

    def is_good(self, commit: str, tree: str) -> bool:
        """Whether the suite passes on a commit of the integration repository."""
        verdict = self.folder / f"{tree}.verdict"
        if not verdict.exists():
            verdict.parent.mkdir(exist_ok=True)
            verdict.write_text("passed" if self._run(commit, tree) else "red")
        return verdict.read_text() == "passed"

    def _run(self, commit: str, tree: str) -> bool:
        argv = ["git", "-C", str(integration_repository(self.site)), "archive", commit]
        archive = subprocess.run(argv, capture_output=True, check=True).stdout
        folder = self.folder / tree
        folder.mkdir(parents=True)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
        passed = n_passed(folder) > 0
        shutil.rmtree(folder)
        return passed

    def is_bad_pair(self, records: Sequence[Record], name: str) -> bool:
        """Whether all trees for which a unit was ejected are red, and good without it."""
        ejected = events(records, "candidate.ejected", unit=name)
        aside = [r for r in events(records, "culprit.set_aside", unit=name) if ejected]
        return bool(aside) and all(
            not self.is_good(r["commit"], r["tree"]) and self._is_good_before(r["commit"])
            for r in aside
        )

    def _is_good_before(self, commit: str) -> bool:
        repository = integration_repository(self.site)
        parent = git(repository, "rev-parse", f"{commit}^")
        return self.is_good(parent, git(repository, "rev-parse", f"{parent}^{{tree}}"))


def _why(records: Sequence[Record], name: str) -> str:
    """What a ledger says of a unit that did not land."""
    said = [r["reason"] for r in events(records, "unit.ended", unit=name)]
    return "; ".join(said) or "it has not ended"
