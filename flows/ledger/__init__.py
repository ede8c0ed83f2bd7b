"""The record of a mission: events, the append-only log, the fold that makes state of them."""

from __future__ import annotations
