"""Errors, told apart by what the caller does next.

`Refused`: a verdict on the work or the input; never retried.
`NotNow`: right work, wrong moment; try again later.
`Broken`: our machinery or the machine; nobody's work is to blame.
The docstring of a class is its message; what it is raised with says where and how to mend it.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

TAIL_CHARACTERS = 4_000


class MissionError(Exception):
    """Something in this mission went wrong."""

    def __str__(self) -> str:
        """Render the class's message, then the details it was raised with."""
        message = (self.__doc__ or type(self).__name__).splitlines()[0].rstrip(".")
        details = super().__str__()
        return f"{message}: {details}" if details else message


class Refused(MissionError):
    """The work or the input is not acceptable."""


class SettingsInvalid(Refused):
    """The mission file is not right."""


class PlanInvalid(Refused):
    """The plan is not right."""


class RepositoryUnusable(Refused):
    """The target repository cannot be worked on."""


class CannotMerge(Refused):
    """Two lines of work change the same places.

    `files` are their paths; `hunks` shows each conflict, for whoever is to solve it (may be empty).
    """

    def __init__(self, files: Sequence[str], details: str = "", *, hunks: str = "") -> None:
        super().__init__(details or ", ".join(files))
        self.files, self.hunks = tuple(files), hunks


class CannotDeliver(Refused):
    """The target repository does not take the branch."""


class NotNow(MissionError):
    """This cannot be done at the moment."""


class MissionActive(NotNow):
    """Another mission works on this repository and branch."""


class TargetMoved(NotNow):
    """The branch moved since it was read."""


class OutOfQuota(NotNow):
    """The account of an agent is out of quota."""


class StoreBusy(NotNow):
    """Another process holds the store."""


class Broken(MissionError):
    """Something of ours or the machine's does not work."""


class CommandFailed(Broken):
    """A command failed."""

    def __init__(self, argv: Sequence[str], code: int | None, stdout: bytes, stderr: bytes) -> None:
        super().__init__()
        self.argv, self.code, self.stdout, self.stderr = tuple(argv), code, stdout, stderr

    def __str__(self) -> str:
        """Show command, exit code and the ends of both streams."""
        return (
            f"command failed (exit code {self.code}): {shlex.join(self.argv)}"
            f"\nstdout: {_tail(self.stdout)}\nstderr: {_tail(self.stderr)}"
        )


class StorageFailed(Broken):
    """The disk does not take what has to be kept."""


class BackendUnreachable(Broken):
    """A place where agents run cannot be reached."""


class LedgerDamaged(Broken):
    """The mission's ledger cannot be read."""


class ServerUnavailable(Broken):
    """The Prefect server does not answer."""


def _tail(stream: bytes) -> str:
    text = stream.decode(errors="replace").strip()
    return f"…{text[-TAIL_CHARACTERS:]}" if len(text) > TAIL_CHARACTERS else text or "(empty)"
