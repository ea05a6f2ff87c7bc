"""The line of one request: resolve, check, authorize, unlock, record intent, sign, verify, record, release."""

from __future__ import annotations
