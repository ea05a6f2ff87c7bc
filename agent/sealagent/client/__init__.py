"""The Python SDK: :class:`Agent` talks to the local agent over its Unix socket.

>>> with Agent() as agent:                                              # doctest: +SKIP
...     sealed = agent.seal_document("contract.ofd", seal="某某公司合同专用章", placements=[at(1, 120, 200)])
...     sealed.save("contract-sealed.ofd")
"""

from __future__ import annotations

from sealagent.client.agent import Agent, Sealed, Signed, at, invisible, riding
from sealagent.client.applications import read_token_file, save_token
from sealagent.client.errors import AgentError, AgentUnreachable

__all__ = [
    "Agent",
    "AgentError",
    "AgentUnreachable",
    "Sealed",
    "Signed",
    "at",
    "invisible",
    "read_token_file",
    "riding",
    "save_token",
]
