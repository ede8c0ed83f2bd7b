"""Where agents run: places, the supervisor that watches a job there, and the blocks that configure them."""

from __future__ import annotations
