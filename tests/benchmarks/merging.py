"""All of git's work for units that land together, as the driver asks for it, and nothing else.

Units are made from one base; each changes a file, adds one and takes one away in its own folder.
"""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blocks.repository import IntegrationRepository
from tests.benchmarks.processes import spent

UNITS_TOGETHER = 14
"""About how many units a probe lands under load when few of them are bad."""

N_LANDINGS = 4
FILES_PER_FOLDER = 25
GREEN_REF = "refs/heads/green"
NOTES_REF = "refs/notes/missions/merging"
COMMITTER = "committer Somebody <somebody@localhost.invalid> 1700000000 +0000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merging:
    """CPU time of landed units by step, ours and that of children."""

    n_units: int
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def cpu_ms(self) -> float:
        """What a unit costs in all."""
        return 1000 * sum(self.seconds.values()) / self.n_units

    @property
    def shares(self) -> str:
        """What each step of it costs."""
        ms = {name: 1000 * seconds / self.n_units for name, seconds in self.seconds.items()}
        return ", ".join(f"{name} {value:.2f}" for name, value in ms.items())

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add what is done here to a step."""
        before = _cpu_seconds()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + _cpu_seconds() - before


def measure_merging(folder: Path, n_files: int) -> Merging:
    """Land units in a repository of so many files."""
    merging = Merging(n_units=UNITS_TOGETHER * N_LANDINGS)
    repository = IntegrationRepository(folder / "repository.git")
    try:
        _import(repository.path, _base(n_files), unpacked=False)
        _import(repository.path, _units(n_files, merging.n_units), unpacked=True)
        base = repository.refs("refs/heads")["refs/heads/base"]
        heads = [*repository.refs("refs/missions").values()]
        green = base
        for i in range(0, len(heads), UNITS_TOGETHER):
            green = _land(merging, repository, heads[i : i + UNITS_TOGETHER], base, green)
    finally:
        repository.close()
    return merging


def _land(
    merging: Merging, repository: IntegrationRepository, heads: list[str], base: str, green: str
) -> str:
    """Stack heads on green and move it, with the driver's calls; returns where it is then."""
    commits = []
    tip, tree = green, repository.tree_of(green)
    for head in heads:
        with merging.step("merge"):
            merged = repository.merge(tip, head, _message(head), base=base, tree=None)
        if merged.tree == tree:
            raise RuntimeError(f"{head} changed nothing")
        tip, tree = merged.commit, merged.tree
        commits.append(tip)
    with merging.step("check the tree"):
        repository.tree_of(tip)
    with merging.step("move green"):
        repository.move_ref(GREEN_REF, tip, None if green == base else green)
    with merging.step("notes"):
        repository.annotate(NOTES_REF, dict.fromkeys(commits, f"Verified as {tip}"))
    return tip


def _message(head: str) -> str:
    return f"Some title\n\nMission: merging\nUnit: {head[:8]}\nAttempt: 1\nAgent: default\n"


def _cpu_seconds() -> float:
    return spent(resource.RUSAGE_SELF) + spent(resource.RUSAGE_CHILDREN)


def _import(repository: Path, stream: Iterator[str], *, unpacked: bool) -> None:
    """Make commits; a clone has its first ones packed, and those of units one by one."""
    limit = f"fastimport.unpackLimit={10**6 if unpacked else 1}"
    subprocess.run(
        ["git", "-c", limit, f"--git-dir={repository}", "fast-import", "--quiet"],
        input="".join(stream).encode(),
        check=True,
    )


def _base(n_files: int) -> Iterator[str]:
    yield f"commit refs/heads/base\n{COMMITTER}\ndata 0\n"
    for n in range(n_files):
        yield f"M 100644 inline {_path(n)}\n{_data(_text(n))}"


def _units(n_files: int, n_units: int) -> Iterator[str]:
    for unit in range(n_units):
        # Spread over the folders, so that the trees of all of them are written again and again.
        first = unit * n_files // n_units // FILES_PER_FOLDER * FILES_PER_FOLDER
        mine = first + unit % (FILES_PER_FOLDER // 2) * 2
        changed = _text(mine).replace("line 20 ", "changed ")
        yield f"commit refs/missions/unit-{unit:04}\n{COMMITTER}\ndata 0\n"
        yield "from refs/heads/base^0\n"
        yield f"M 100644 inline {_path(mine)}\n{_data(changed)}"
        yield f"M 100644 inline {_path(mine)}.{unit}.new\n{_data(_text(unit + 10**6))}"
        yield f"D {_path(mine + 1)}\n"


def _path(n: int) -> str:
    folder = n // FILES_PER_FOLDER
    return f"src/part{folder // 10}/folder{folder}/module{n}.py"


def _text(n: int) -> str:
    return "".join(f"line {i} of file {n} says {n * i % 97}\n" for i in range(60))


def _data(text: str) -> str:
    return f"data {len(text)}\n{text}\n"
