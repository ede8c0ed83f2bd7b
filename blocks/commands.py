"""The one door to subprocesses on this machine."""

from __future__ import annotations

import logging
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike

from blocks.errors import CommandFailed

logger = logging.getLogger(__name__)

NOT_FOUND = 127
"""The exit code that a shell gives for a command that does not exist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What a command that ended left: `code` is negative for a signal, as in `subprocess`."""

    argv: tuple[str, ...]
    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text, without surrounding white space."""
        return self.stdout.decode(errors="replace").strip()


def run(
    argv: Sequence[str],
    *,
    cwd: str | PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    timeout_seconds: float | None = None,
    check: bool = True,
) -> Finished:
    """Run a short command to its end; `env` replaces the whole environment when given.

    Raises:
        CommandFailed: it could not be started, took too long, or (with `check`) failed.
    """
    logger.debug("%s", shlex.join(argv))
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=env,
            input=stdin,
            capture_output=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        why = f"no end after {timeout_seconds} s".encode()
        raise CommandFailed(argv, None, late.stdout or b"", why) from late
    except OSError as error:
        raise CommandFailed(argv, NOT_FOUND, b"", str(error).encode()) from error
    if check and done.returncode != 0:
        raise CommandFailed(argv, done.returncode, done.stdout, done.stderr)
    return Finished(argv=tuple(argv), code=done.returncode, stdout=done.stdout, stderr=done.stderr)
