"""One attempt at a unit: prompt, workspace, agent, collected commit, outcome."""

from __future__ import annotations
