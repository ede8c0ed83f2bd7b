"""What people look at while a mission runs and afterwards."""

from __future__ import annotations
