"""The maker of seals (制章者): the issuing side of a production-management unit (电子印章制作管理单位).

A role of its own with its own process, configuration and keys; the Measures encourage that the making of seals is
apart from signing and verifying. It never runs in the agent's daemon, and neither imports the other.
"""

from __future__ import annotations
