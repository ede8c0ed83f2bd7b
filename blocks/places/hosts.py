"""Hosts as people write them: `name`, `user@name` or `user@name:port`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from blocks.places.ssh import SSHPlace

_WORD = r"[A-Za-z0-9_][\w.-]*"  # never an option
_HOST = re.compile(
    rf"(?:(?P<user>{_WORD})@)?(?P<name>{_WORD}|\[[0-9a-fA-F:.]+\])(?::(?P<port>\d+))?"
)


def parse_host(host: str) -> tuple[str | None, str, int | None]:
    """Split a host into user, name and port.

    Raises:
        ValueError: it is not written as a host is.
    """
    parts = _HOST.fullmatch(host)
    if parts is None:
        raise ValueError(f"{host!r} is not name, user@name or user@name:port")
    port = int(parts["port"]) if parts["port"] else None
    return parts["user"], parts["name"].strip("[]"), port


def places_on(
    hosts: Sequence[str],
    *,
    root: str | None = None,
    config: Path | None = None,
    connect_timeout_seconds: float = 10.0,
) -> list[SSHPlace]:
    """Make one place a host, in the order they are named; nothing is connected yet.

    Raises:
        ValueError: one of them is not written as a host is.
    """
    return [
        SSHPlace(
            name,
            root,
            user=user,
            port=port,
            connect_timeout_seconds=connect_timeout_seconds,
            config=config,
        )
        for user, name, port in map(parse_host, hosts)
    ]
