"""Asking others whether certificates and seals are good: services, lists, kept answers."""
