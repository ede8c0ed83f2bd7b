"""How far a mission is: signals that are measured, and an agent's judgement beside them."""

from __future__ import annotations
