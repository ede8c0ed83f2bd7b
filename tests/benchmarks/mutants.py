"""A mission whose agents make mutants of a real package, and what it let through."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.missions import BenchmarkBroken
from tests.false_passes import Findings, Package, judge, make_mutant_site, survivors
from tests.missions import mission

SEED = 1
MISSION_SECONDS = 3600.0
EXIT_NOT_ALL = 1


def run_mutants(folder: Path, n_mutants: int, *, flake_rate: float) -> Findings:
    """Run a mission of mutants; then run the suite on each of them alone and on all of green.

    Raises:
        BenchmarkBroken: the mission did not come to its end.
    """
    package = Package(with_flaky_test=bool(flake_rate))
    mutants = package.mutants(n_mutants, seed=SEED)
    site = make_mutant_site(folder / "site", package, mutants, flake_rate=flake_rate)
    ran = mission(site, timeout_seconds=MISSION_SECONDS)
    if ran.code != EXIT_NOT_ALL:
        raise BenchmarkBroken(f"exit code {ran.code}:\n{ran.err[-2000:]}")
    return judge(site, package, mutants, survivors(folder / "truth", package, mutants))
