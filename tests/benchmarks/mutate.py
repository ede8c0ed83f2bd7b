"""`python -m tests.benchmarks.mutate MODULE TEST…`: mutants of a module that its tests let live.

Each mutant is put into a copy of the repository, in which the tests run as a child process. One
that lives is printed: either no test asks for what it changed, or it changes nothing that matters.
Ctrl-C ends it and prints what is known so far.

    python -m tests.benchmarks.mutate flows/landing/train.py tests/unit/test_train.py --sample 60
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from tests.mutants import Mutant, mutants_of, sample

PROJECT = Path(__file__).resolve().parents[2]
NOT_COPIED = (".*", "__pycache__", "*.egg-info", "bench-results", "build")

PYTEST = ("-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly")
SEED = "--hypothesis-seed=0"
BOUNDED = ("sh", "-c", 'ulimit -v 4000000 && exec "$@"', "sh")
"""A mutant that never ends may fill the memory meanwhile."""

PATIENCE, LEAST_SECONDS, ALONE_SECONDS = 5.0, 20.0, 600.0
"""A mutant may take so many times what the tests take without it, and at least so long."""

BROKEN = "raise RuntimeError('no module')\n"
KILLED, ENDLESS, LIVES, STOPPED = "killed", "did not end", "LIVES", "stopped"


@dataclass(slots=True, kw_only=True)
class Trial:
    """Copies of the repository in which mutants of one module meet the tests."""

    folder: Path
    module: str
    tests: Sequence[str]
    copies: queue.SimpleQueue[Path] = field(default_factory=queue.SimpleQueue)
    _running: set[int] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _is_stopped: bool = False
    _n_runs: int = 0

    def add_copy(self) -> None:
        """Make one more copy: as many tests run at once as there are copies."""
        copy = Path(tempfile.mkdtemp(dir=self.folder)) / "copy"
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
        self.copies.put(copy)

    def verdict(self, text: str, *, timeout_seconds: float) -> str:
        """Run the tests with another text of the module."""
        copy = self.copies.get()
        try:
            self._write(copy / self.module, text)
            shutil.rmtree(copy / ".hypothesis", ignore_errors=True)  # no other mutant's examples
            return self._run(copy, timeout_seconds)
        finally:
            self.copies.put(copy)

    def _write(self, file: Path, text: str) -> None:
        """Write the module with a time of its own, else its bytecode would be taken for current."""
        file.write_text(text)
        with self._lock:
            self._n_runs += 1
            os.utime(file, (self._n_runs, self._n_runs))

    def _run(self, copy: Path, timeout_seconds: float) -> str:
        child = self._start(copy)
        if child is None:
            return STOPPED
        with child:
            try:
                code = child.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                return ENDLESS
            finally:
                with self._lock:
                    self._running.discard(child.pid)
        if self._is_stopped:
            return STOPPED
        return LIVES if code == 0 else KILLED

    def _start(self, copy: Path) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._is_stopped:
                return None
            child = subprocess.Popen(
                [*BOUNDED, sys.executable, *PYTEST, SEED, *self.tests],
                cwd=copy,
                env={**os.environ, "PYTHONPATH": str(copy)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._running.add(child.pid)
            return child

    def stop(self) -> None:
        """End what runs; nothing starts any more."""
        with self._lock:
            self._is_stopped = True
            for pid in self._running:
                with suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)


def run(
    trial: Trial, mutants: Sequence[Mutant], *, jobs: int, timeout_seconds: float
) -> Iterator[tuple[Mutant, str]]:
    """Give the verdict on each mutant as it comes; what is asked for no more is not run."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = {
            pool.submit(trial.verdict, mutant.text, timeout_seconds=timeout_seconds): mutant
            for mutant in mutants
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            trial.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tests on mutants; 1 when one lives, 2 when the tests are of no use for it."""
    options = _parser().parse_args(arguments)
    source = (PROJECT / options.module).read_text()
    mutants = mutants_of(source, options.module)
    chosen = sample(mutants, options.sample or len(mutants), seed=options.seed)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trial = Trial(folder=Path(folder), module=options.module, tests=options.tests)
        for _ in range(options.jobs):
            trial.add_copy()
        began = time.monotonic()
        if trial.verdict(source, timeout_seconds=ALONE_SECONDS) != LIVES:
            _say("the tests fail without any mutant")
            return 2
        alone = time.monotonic() - began
        if trial.verdict(BROKEN, timeout_seconds=ALONE_SECONDS) != KILLED:
            _say("the tests pass without the module: they do not import it")
            return 2
        timeout = options.timeout or max(LEAST_SECONDS, PATIENCE * alone)
        _say(f"{len(chosen)} of {len(mutants)} mutants; the tests alone take {alone:.1f} s")
        verdicts = run(trial, chosen, jobs=options.jobs, timeout_seconds=timeout)
        return _report(verdicts, len(chosen))


def _report(verdicts: Iterator[tuple[Mutant, str]], n_mutants: int) -> int:
    counts: Counter[str] = Counter()
    living: list[Mutant] = []
    try:
        for number, (mutant, verdict) in enumerate(verdicts, start=1):
            counts[verdict] += 1
            living += [mutant] if verdict == LIVES else []
            _say(f"{number:4}/{n_mutants}  {verdict:11}  {mutant}")
    except KeyboardInterrupt:
        _say("stopped")
    for mutant in sorted(living, key=lambda m: (m.line, m.kind)):
        print(mutant)
    print(", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    return 1 if living else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.mutate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("module", metavar="MODULE", help="path of the module to change")
    parser.add_argument("tests", nargs="+", metavar="TEST", help="paths of the tests to run")
    parser.add_argument("--sample", type=int, default=0, help="so many mutants, not all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample (default 0)")
    parser.add_argument("--jobs", type=int, default=2, help="at once (default 2)")
    parser.add_argument("--timeout", type=float, default=0.0, help="seconds for one mutant")
    return parser


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
