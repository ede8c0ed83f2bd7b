"""The merge train: what to merge, probe and eject, and how it lands and is delivered."""

from __future__ import annotations
