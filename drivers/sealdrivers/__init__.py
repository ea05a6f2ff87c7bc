"""Drivers for the devices that hold seal keys. Nothing in here knows the agent."""

from __future__ import annotations
