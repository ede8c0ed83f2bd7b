"""A rehearsal: what a mission would work with, on this machine, in a folder that goes away again.

`mission plan` and `mission init` ask the very code that a mission runs, on the target's commits;
nothing of it stays, and the target is only read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blocks.commands import run
from blocks.errors import CommandFailed
from blocks.places.local import LocalPlace
from blocks.repository import IntegrationRepository
from flows.opening import Target, survey
from flows.running.bench import Bench
from flows.secrets import fetch_secrets
from flows.settings import MissionSettings

LEASE_SECONDS = 86_400.0
"""Nobody renews a rehearsal's lease; its jobs end by their time limits."""

_KEY = "rehearsal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A target in a throw-away repository, and a place to run commands on its commits."""

    folder: Path
    repository: IntegrationRepository
    place: LocalPlace
    target: Target

    def bench(self, settings: MissionSettings, *, runs_agents: bool = False) -> Bench:
        """What attempts, probes and planners work with, under these settings.

        Raises:
            SettingsInvalid: agents are to run, and a secret of theirs is not there.
        """
        backend = settings.backend.model_copy(update={"lease": LEASE_SECONDS})
        return Bench(
            mission=_KEY,
            folder=self.folder,
            repository=self.repository,
            places={self.place.name: self.place},
            settings=settings.model_copy(update={"backend": backend}),
            key=_KEY,
            secrets=fetch_secrets(settings) if runs_agents else {},
        )


@contextmanager
def rehearsed(settings: MissionSettings) -> Iterator[Rehearsal]:
    """Open the target that settings name for a rehearsal; ends what still runs when it is left.

    Raises:
        RepositoryUnusable, CannotMerge: as when a mission is opened.
    """
    with tempfile.TemporaryDirectory(prefix="mission-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        repository = IntegrationRepository(folder / "target.git")
        place = LocalPlace(folder / "place")
        try:
            _borrow_objects(repository, settings.repository.url)
            target = survey(settings, repository, restart_green=False)
            yield Rehearsal(folder=folder, repository=repository, place=place, target=target)
        finally:
            _end_jobs(place)
            repository.close()


def _borrow_objects(repository: IntegrationRepository, url: str) -> None:
    """Let a target on this machine lend its objects, so that nothing is copied."""
    if not Path(url).is_dir():
        return
    where = ("rev-parse", "--path-format=absolute", "--git-path", "objects")
    try:
        objects = run(["git", "-C", url, *where]).text
    except CommandFailed:
        return  # no repository: the survey says so in its own words
    (repository.path / "objects" / "info" / "alternates").write_text(f"{objects}\n")


def _end_jobs(place: LocalPlace) -> None:
    """End what an interrupted rehearsal left running; harmless for what has ended."""
    for started in Path(place.root).glob("jobs/**/pid"):
        place.kill(str(started.parent))
        place.wait(str(started.parent))
    place.close()
