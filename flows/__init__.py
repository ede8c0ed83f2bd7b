"""What happens, in time: the files are the flows, the folders are the parts of a mission."""

from __future__ import annotations
