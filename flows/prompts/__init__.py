"""What agents are told: a template for each kind of agent, a typed record of what goes into it."""

from __future__ import annotations
