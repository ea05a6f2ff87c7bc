"""The socket: HTTP/1.1 and JSON (design §5)."""

from __future__ import annotations
