"""SealAgent: a local agent for electronic seals (GB/T 38540, GM/T 0031)."""

from __future__ import annotations

__version__ = "0.1.0"
