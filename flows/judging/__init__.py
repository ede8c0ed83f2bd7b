"""From readings to verdicts on a round."""

from __future__ import annotations
