"""A mission that needs no account and no network: real lint debt, real tests, one bad fix."""

from __future__ import annotations
