"""The demo's target: a small repository with honest lint debt and one fix that breaks a test."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from blocks.commands import run
from blocks.errors import RepositoryUnusable

SOURCES = Path(__file__).with_name("target")
BRANCH = "main"

_WHEN = "2024-03-04T10:00:00+00:00"
_IDENTITY = {
    "GIT_AUTHOR_NAME": "Parcel Post",
    "GIT_AUTHOR_EMAIL": "post@example.org",
    "GIT_AUTHOR_DATE": _WHEN,
    "GIT_COMMITTER_NAME": "Parcel Post",
    "GIT_COMMITTER_EMAIL": "post@example.org",
    "GIT_COMMITTER_DATE": _WHEN,
}
_NOT_SOURCES = shutil.ignore_patterns("__pycache__", ".*_cache", "*.pyc")


def make_target(folder: Path) -> None:
    """Make the target repository in a folder that is absent or empty: one commit on `main`.

    The commit is the same on every machine, whatever git is configured to do there.

    Raises:
        RepositoryUnusable: there is something in the folder already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RepositoryUnusable(f"{folder} is not empty; name a folder that is")
    shutil.copytree(SOURCES, folder, ignore=_NOT_SOURCES, dirs_exist_ok=True)
    for file in folder.rglob("*"):
        file.chmod(0o755 if file.is_dir() else 0o644)
    _git(folder, "init", "--quiet", "--template=", f"--initial-branch={BRANCH}")
    _git(folder, "add", "--all")
    _git(folder, "commit", "--quiet", "--message", "Price parcels, and print what goes with them")


def _git(folder: Path, *arguments: str) -> None:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    silent = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    run(["git", *arguments], cwd=folder, env=inherited | silent | _IDENTITY)
