"""What we are connected to: Prefect blocks, each configuration plus one capability.

The block classes are imported when they are first asked for, so that the plain modules of this
package (errors, places, readings) load without Prefect. `prefect block register -m blocks` finds
all that `__all__` names.
"""

from __future__ import annotations

from importlib import import_module

_HOMES = {
    "LocalBackend": "blocks.places.backends",
    "SSHBackend": "blocks.places.backends",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - one list serves both


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'blocks' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
