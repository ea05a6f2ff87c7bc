"""Building and running the daemon; the only package that knows every concrete class."""

from __future__ import annotations
