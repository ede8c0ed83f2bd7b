"""Where agents run: places, the supervisor of a job there, and the blocks that configure them."""

from __future__ import annotations
