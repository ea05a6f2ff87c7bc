"""A conformance report on one driver library: PKCS#11 (2.40) or SKF (GM/T 0016).

Each section of the report runs in a process of its own, so that a library that crashes or hangs in one of them shows
as a finding and the others still run. The PIN, if there is one, is offered once; nothing is ever written to a device.
"""
