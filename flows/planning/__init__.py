"""From an objective to a checked DAG of units: plans, plan documents, planners, order of work."""

from __future__ import annotations
