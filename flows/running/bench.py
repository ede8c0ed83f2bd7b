"""What all attempts and probes of a mission share: places, stores, workspaces, environment."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from pydantic import SecretStr

from blocks.errors import BackendUnreachable, CommandFailed
from blocks.places.place import Ending, Job, JobResult, Place
from blocks.places.workspaces import SYSTEM_PATH, Workspace
from blocks.repository import IntegrationRepository
from flows.settings import Agent, MissionSettings

LOG_TAIL_BYTES = 16_384

PROBE_JOBS, ASK_JOBS, LEASE = ".probes", ".asks", ".lease"
"""What is in a mission's folder on a place beside those of units, whose ids begin otherwise."""

MASK = "[secret]"

SHORTEST_SECRET = 6
"""Characters; what is shorter stands in any text."""

ENDING_SECONDS = 30.0
"""How long what is left of an earlier driver may take to end."""

SETUP, CHECK, PROOF, REVIEW = SUB_JOBS = ("setup", "check", "proof", "review")
"""The jobs that run beside an agent or a verification, in folders below theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A mission's means of work; shared by threads."""

    mission: str
    folder: Path  # the mission's own folder, here
    repository: IntegrationRepository
    places: Mapping[str, Place]
    settings: MissionSettings
    key: str  # names the target repository and its green branch, on every place
    secrets: Mapping[str, SecretStr] = field(default_factory=dict)  # by their references
    is_stopping: Callable[[], bool] = lambda: False
    _let_go: set[str] = field(default_factory=set)
    _killed: set[str] = field(default_factory=set)  # also those that had not begun
    _exported: set[tuple[str, str]] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    def store(self, place: Place) -> str:
        """The git directory that holds the objects on a place."""
        if place.name == "local":
            return str(self.repository.path)
        return f"{place.root}/mirrors/{self.key}.git"

    def workspace(self, place: Place, kind: str, slot: int) -> Workspace:
        """The workspace of a slot; `kind` is `agents` or `probes`, and the two never mix."""
        return Workspace(
            place=place,
            directory=f"{place.root}/workspaces/{self.key}/{kind}/{slot}",
            store=self.store(place),
            keep=tuple(self.settings.verify.keep),
        )

    def job_directory(self, place: Place, *parts: str) -> str:
        """Where a job of this mission lives on a place."""
        return "/".join((place.root, "jobs", self.mission, *parts))

    def kill(self, place: Place, *parts: str) -> None:
        """End a job and those that belong to it; what has not started yet does not start."""
        for job in ((), *((name,) for name in SUB_JOBS)):
            directory = self.job_directory(place, *parts, *job)
            self._killed.add(directory)
            place.kill(directory)

    def take(self, workspace: Workspace, directory: str) -> None:
        """Make a workspace a job's own; what an earlier driver left running there ends first."""
        owner = self.owner(workspace)
        if owner and owner != directory and owner not in self._let_go:
            self._end(workspace.place, owner)
        workspace.place.write(f"{workspace.directory}/owner", directory.encode())

    def owner(self, workspace: Workspace) -> str:
        """The directory of the job that a workspace was last lent to."""
        return _read(workspace.place, f"{workspace.directory}/owner").decode()

    def let_go(self, directory: str) -> None:
        """A job of this driver's has ended, and nothing of it runs in its workspace any more."""
        self._let_go.add(directory)

    def is_under_way(self, place: Place, directory: str) -> bool:
        """Whether a job was started there, by this driver or an earlier one."""
        for name in ("result.json", "pid"):
            try:
                place.read(f"{directory}/{name}")
            except FileNotFoundError:
                continue
            return True
        return False

    def end_checks(self, place: Place, directory: str) -> bool:
        """End what runs beside an agent that has ended; returns whether there was anything."""
        ended = [self._end_one(place, f"{directory}/{job}") for job in (CHECK, PROOF, REVIEW)]
        return any(ended)

    def _end(self, place: Place, directory: str) -> None:
        for name in ("", *(f"/{job}" for job in SUB_JOBS)):
            self._end_one(place, f"{directory}{name}")

    def _end_one(self, place: Place, directory: str) -> bool:
        try:
            place.kill(directory)
            place.wait(directory, timeout_seconds=ENDING_SECONDS)
        except FileNotFoundError:
            return False
        return True

    def lease(self, place: Place) -> str:
        """The counter file that this mission keeps renewing on a place."""
        return self.job_directory(place, LEASE)

    def provide(self, place: Place, commit: str) -> None:
        """See to it that a place's store holds a commit."""
        if place.name == "local":
            return
        with self._lock:
            if (place.name, commit) in self._exported:
                return
            store = self.store(place)
            place.run(["git", "init", "--quiet", "--bare", store])
            place.run(["git", "--git-dir", store, "config", "gc.auto", "0"])
            url = place.git_url(store)
            ref = f"refs/bases/{commit}"
            self.repository.export_commit(url, commit, ref, place.git_environment)
            self._exported.add((place.name, commit))

    def import_ref(self, place: Place, ref: str) -> None:
        """Bring a collected commit from a place into the integration repository."""
        if place.name != "local":
            url = place.git_url(self.store(place))
            self.repository.import_commit(url, ref, place.git_environment)

    def environment(self, workspace: Workspace, extra: Mapping[str, str]) -> dict[str, str]:
        """The whole environment of a command in a workspace: nothing is inherited but by name."""
        chosen = self.settings.environment
        return {
            "PATH": os.pathsep.join([*chosen.path, SYSTEM_PATH]),
            "HOME": workspace.home,
            "TMPDIR": "/tmp",  # noqa: S108 - the place's own
            "LANG": "C.UTF-8",
            **{name: os.environ[name] for name in chosen.pass_ if name in os.environ},
            **chosen.set,
            **extra,
        }

    def secrets_of(self, agent: Agent) -> dict[str, str]:
        """The variables that only this agent gets."""
        return {
            variable: self.secrets[reference].get_secret_value()
            for variable, reference in agent.secrets.items()
        }

    @property
    def known_secrets(self) -> list[str]:
        """The secrets of all agents that are long enough to be told from other text."""
        values = (secret.get_secret_value() for secret in self.secrets.values())
        return [value for value in values if len(value) >= SHORTEST_SECRET]

    def masked(self, told: Any) -> Any:
        """What an agent told, without the secrets of any; plain JSON values, at any depth."""
        if isinstance(told, str):
            for secret in self.known_secrets:
                told = told.replace(secret, MASK)
            return told
        if isinstance(told, Mapping):
            return {self.masked(key): self.masked(value) for key, value in told.items()}
        return [self.masked(each) for each in told] if isinstance(told, list | tuple) else told

    def run_job(
        self,
        workspace: Workspace,
        directory: str,
        argv: tuple[str, ...],
        *,
        timeout_seconds: float,
        stdin: bytes = b"",
        extra: Mapping[str, str] | None = None,
    ) -> JobResult:
        """Run a command in a workspace under a supervisor to its end, or go on waiting for it.

        Raises:
            BackendUnreachable: it was killed before it began.
        """
        place = workspace.place
        if directory in self._killed:
            raise BackendUnreachable(f"{place.name}: it was ended before it began")
        job = Job(
            directory=directory,
            argv=argv,
            cwd=workspace.tree,
            env=self.environment(workspace, extra or {}),
            stdin=stdin,
            timeout_seconds=timeout_seconds,
            lease=self.lease(place),
            lease_seconds=self.settings.backend.lease,
        )
        place.start(job)
        if directory in self._killed:  # in the moment between
            place.kill(directory)
        return self.wait(place, directory)

    def wait(self, place: Place, directory: str) -> JobResult:
        """Wait for a job to end."""
        result = place.wait(directory)
        if result is None:
            raise RuntimeError(f"{directory}: no result without a time limit")
        return result

    def set_up(self, workspace: Workspace, directory: str) -> str:
        """Prepare a workspace, once per setup command and content of its inputs.

        Returns what went wrong, with the end of the output; empty when the workspace is ready.

        Raises:
            BackendUnreachable: it was not run to its end, for which no tree is to blame.
        """
        verify = self.settings.verify
        if not verify.setup:
            return ""
        place, marker = workspace.place, f"{workspace.directory}/setup"
        text = json.dumps([verify.setup, workspace.digest_of(verify.setup_inputs)])
        digest = hashlib.sha256(text.encode()).hexdigest().encode()
        if _read(place, marker) == digest:
            return ""
        argv = ("sh", "-c", verify.setup)
        where = f"{directory}/{SETUP}"
        result = self.run_job(workspace, where, argv, timeout_seconds=verify.timeout)
        if result.ending == Ending.EXITED and result.exit_code == 0:
            place.write(marker, digest)
            return ""
        if result.ending not in {Ending.EXITED, Ending.TIMED_OUT}:
            raise BackendUnreachable(f"{place.name}: setup {describe(result)}")
        tail = place.tail(where, LOG_TAIL_BYTES).decode(errors="replace").strip()
        return f"setup {describe(result)}: {verify.setup}\n{tail}"


def describe(result: JobResult) -> str:
    """Say in a few words how a job ended."""
    match result.ending:
        case Ending.EXITED if result.signal:
            return f"was killed by signal {result.signal}"
        case Ending.EXITED:
            return f"exited with {result.exit_code}"
        case Ending.NOT_STARTED:
            return f"could not be started ({result.detail})"
        case _:
            return f"{result.ending.value.replace('_', ' ')} after {result.wall_seconds:.0f} s"


def _read(place: Place, path: str) -> bytes:
    try:
        return place.read(path)
    except (FileNotFoundError, CommandFailed):
        return b""
