"""Benchmarks: what is compared runs side by side in one run, so that ratios hold on a noisy machine."""

from __future__ import annotations
