"""What a place can do: run commands, keep small files, supervise jobs, be reached by git."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from blocks.commands import Finished

MIN_PYTHON = (3, 8)
MIN_GIT = (2, 38)
MIN_FREE_BYTES = 2**30
MAX_CLOCK_OFFSET_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One supervised command on a place.

    `directory` is an absolute path on the place, unique per attempt, which holds the job's files.
    `env` is the complete environment: nothing is inherited but a `MISSION_TOKEN` of our own, and
    `argv[0]` is found on its `PATH`. Without `stdin` the command reads from /dev/null. Output past
    the limit keeps its head and tail. `lease` is a counter file on the place: when nobody renews it
    for `lease_seconds`, the job is killed.
    """

    directory: str
    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str]
    stdin: bytes = b""
    timeout_seconds: float
    lease: str | None = None
    lease_seconds: float = 120.0
    log_limit_bytes: int = 64 * 2**20

    def pack(self) -> bytes:
        """Write the description that the supervisor reads: fields separated by NUL.

        Raises:
            ValueError: the job cannot be described so: a NUL, no command, a relative directory.
        """
        if not self.directory.startswith("/"):
            raise ValueError(f"the job's directory is not absolute: {self.directory}")
        return pack(
            self.cwd,
            repr(self.timeout_seconds),
            self.lease or "",
            repr(self.lease_seconds),
            str(self.log_limit_bytes),
            *pack_command(self.argv, self.env),
        )


def pack(*fields: str) -> bytes:
    """Join fields with NUL.

    Raises:
        ValueError: a field holds a NUL.
    """
    for field in fields:
        if "\0" in field:
            raise ValueError(f"a NUL cannot be part of a command: {field!r}")
    return b"\0".join(map(os.fsencode, fields))


def pack_command(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """List the number of arguments, the arguments, and the environment as `NAME=value`.

    Raises:
        ValueError: no command, or a name that cannot be in an environment.
    """
    if not argv or not argv[0]:
        raise ValueError("a command without a name")
    for name in env:
        if not name or "=" in name:
            raise ValueError(f"not a name for an environment: {name!r}")
    return [str(len(argv)), *argv, *(f"{name}={value}" for name, value in env.items())]


class Ending(StrEnum):
    """Why a job is over."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    LEASE_EXPIRED = "lease_expired"
    KILLED = "killed"
    """On our request."""
    NOT_STARTED = "not_started"
    """Command not found or not executable, working directory missing; `detail` says which."""
    LOST = "lost"
    """The supervisor is gone without a result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """How a job ended; CPU and peak memory include all that the command started.

    `exit_code` and `signal` are the command's own; both are None if it never ran or is lost.
    `ended_at` is unix time by the place's clock.
    """

    ending: Ending
    exit_code: int | None
    signal: int | None
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    output_bytes: int
    detail: str = ""
    ended_at: float

    @classmethod
    def parse(cls, text: bytes) -> JobResult:
        """Read a supervisor's `result.json`."""
        fields = json.loads(text)
        return cls(**{**fields, "ending": Ending(fields["ending"])})


Check = tuple[str, bool, str]
"""What was looked at, whether it is good, and what was found."""


@runtime_checkable
class Place(Protocol):
    """A machine on which agents run. All methods may be called from several threads."""

    @property
    def name(self) -> str:
        """`local`, or the host."""

    @property
    def root(self) -> str:
        """Absolute path of the state folder on the place."""

    @property
    def git_environment(self) -> Mapping[str, str]:
        """What git on this machine needs in its environment to reach `git_url`."""

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_seconds: float = 60.0,
        check: bool = True,
    ) -> Finished:
        """Run a short command to its end; `env` replaces the whole environment when given.

        Raises:
            CommandFailed: not started, too late, or (with `check`) not exit code 0.
            BackendUnreachable: the connection is gone; whether the command ran is not known.
        """

    def read(self, path: str) -> bytes:
        """Read a small file.

        Raises:
            FileNotFoundError: there is none.
        """

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a small file in one step; parents are made."""

    def start(self, job: Job) -> None:
        """Start a job under a supervisor that outlives us; return when it is started.

        Idempotent: a directory in which a job was started is left alone.

        Raises:
            CommandFailed: the supervisor itself does not start.
        """

    def wait(self, directory: str, *, timeout_seconds: float | None = None) -> JobResult | None:
        """Block until a job ended, whoever started it; None when that takes too long.

        Raises:
            FileNotFoundError: no job was started there.
            BackendUnreachable: the host did not answer for a long time.
        """

    def kill(self, directory: str) -> None:
        """Have everything of a job killed; `wait` tells when it is done. Idempotent."""

    def tail(self, directory: str, n_bytes: int = 65536) -> bytes:
        """Return the end of a job's output, also while it runs."""

    def renew(self, lease: str) -> None:
        """Count a lease file up."""

    def git_url(self, path: str) -> str:
        """Say how git on this machine reaches a repository there."""

    def remove(self, path: str) -> None:
        """Remove a file or folder below the root; absent is fine.

        Raises:
            ValueError: the path is not below the root.
        """

    def check(self) -> list[Check]:
        """Look for what we need there, for people to read."""

    def close(self) -> None:
        """Let go of connections; jobs go on."""


def judge_survey(found: Mapping[str, str], *, now: float) -> list[Check]:
    """Turn what a place told about itself into rows for people; `now` is our unix time."""
    free = int(found["free_bytes"] or 0)
    offset = float(found["time"]) - now
    return [
        ("python3", _version(found["python"]) >= MIN_PYTHON, found["python"]),
        ("git", _version(found["git"]) >= MIN_GIT, found["git"] or "not found; install git"),
        ("state folder", not found["root"], found["root"] or "writable"),
        ("disk space", free >= MIN_FREE_BYTES, f"{free / 2**30:.1f} GiB free"),
        ("clock", abs(offset) <= MAX_CLOCK_OFFSET_SECONDS, f"{offset:+.1f} s from ours"),
    ]


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"\d+(\.\d+)+", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
