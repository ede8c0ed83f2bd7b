"""How it is installed: the managed server, block types, pools and deployments, the demo."""

from __future__ import annotations
