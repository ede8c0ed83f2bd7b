"""The infrastructure blocks: where agents run, edited in the Prefect UI, named in mission files.

Each concrete block has a field without a default: the server refuses a correct reference to a block
that may be empty (409).
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, field_validator

from blocks.places.hosts import parse_host, places_on
from blocks.places.local import LocalPlace
from blocks.places.place import Check, Place


class WorkerBackend(Block, ABC):
    """One or more places where agents run, and how many at once."""

    slots: int = Field(ge=1, description="How many agents run at once in each place.")
    lease_seconds: float = Field(
        default=120.0,
        gt=0,
        description="Seconds after which a place that hears nothing more ends what runs there.",
    )

    @abstractmethod
    def places(self) -> list[Place]:
        """Return the places, one a host, in the order they were named; nothing is connected yet."""

    def check(self) -> dict[str, list[Check]]:
        """Look for what agents need in every place, by its name: rows for people to read."""
        return {place.name: _checked(place) for place in self.places()}


def _checked(place: Place) -> list[Check]:
    try:
        return place.check()
    finally:
        place.close()


class LocalBackend(WorkerBackend):
    """This machine: the one that runs the mission, or the worker that does.

    Attributes:
        slots: How many agents run at once.
        lease_seconds: Seconds after which agents end when the mission is gone.
        root: Folder for workspaces; absent means a folder in MISSION_HOME.

    Example:
        Load a stored backend and see that it can be used:

        ```python
        from blocks import LocalBackend

        backend = LocalBackend.load("BLOCK_NAME")
        backend.check()
        ```
    """

    _block_type_name: ClassVar[str | None] = "Local Backend"
    _block_type_slug: ClassVar[str | None] = "local-backend"
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://raw.githubusercontent.com/PrefectHQ/prefect/420d0d6a78bb6df1fc18bcf188fdad43c1d22ea9/assets/block-logos/process.png"
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://docs.prefect.io/v3/concepts/blocks"
    )

    root: Path | None = Field(
        default=None,
        description="Folder for workspaces; absent means a folder in MISSION_HOME.",
    )

    def places(self) -> list[Place]:
        """Return the one place of this machine."""
        return [LocalPlace(self.root or default_root())]


class SSHBackend(WorkerBackend):
    """Hosts reached over SSH; keys, names and jumps come from the usual `~/.ssh/config`.

    Attributes:
        hosts: The hosts, as `name`, `user@name` or `user@name:port`.
        slots: How many agents run at once on each host.
        lease_seconds: Seconds after which agents end when the mission cannot be reached.
        root: Folder for workspaces on the hosts; absent means one in the home folder.
        config_file: SSH client configuration; absent means `~/.ssh/config`.
        connect_timeout_seconds: Seconds until a host that does not answer counts as gone.

    Example:
        Load a stored backend and see that every host can be reached:

        ```python
        from blocks import SSHBackend

        backend = SSHBackend.load("BLOCK_NAME")
        backend.check()
        ```
    """

    _block_type_name: ClassVar[str | None] = "SSH Backend"
    _block_type_slug: ClassVar[str | None] = "ssh-backend"
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://raw.githubusercontent.com/PrefectHQ/prefect/a5fb28bddae276a16c9891160189c8cd1bfec84f/assets/block-logos/terminal.png"
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://docs.prefect.io/v3/concepts/blocks"
    )

    hosts: list[str] = Field(
        min_length=1,
        description="The hosts, each as name, user@name or user@name:port.",
    )
    slots: int = Field(default=4, ge=1, description="How many agents run at once on each host.")
    root: str | None = Field(
        default=None,
        description="Folder for workspaces on the hosts; absent means one in the home folder.",
    )
    config_file: Path | None = Field(
        default=None,
        description="SSH client configuration; absent means the one in the home folder.",
    )

    connect_timeout_seconds: float = Field(
        default=10.0, gt=0, description="Seconds until a host that does not answer counts as gone."
    )

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, hosts: list[str]) -> list[str]:
        names = [parse_host(host)[1] for host in hosts]
        if len(set(names)) < len(names):
            raise ValueError("a host is named twice; raise `slots` instead")
        return hosts

    def places(self) -> list[Place]:
        """Return one place a host, in the order they are named."""
        found = places_on(
            self.hosts,
            root=self.root,
            config=self.config_file,
            connect_timeout_seconds=self.connect_timeout_seconds,
        )
        return [*found]


def default_root() -> Path:
    """Return the folder for local workspaces: `places/local` in MISSION_HOME, never a checkout."""
    if home := os.environ.get("MISSION_HOME"):
        return Path(home).expanduser() / "places" / "local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mission" / "places" / "local"
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "mission" / "places" / "local"
