"""Puts the loopback listener for web pages together, where it is configured."""

from __future__ import annotations

import os
import socket
import time

from aiohttp import web

from sealagent.api.content import encoded_length
from sealagent.api.loopback import LoopbackListener
from sealagent.api.pages import Identify, PageRules
from sealagent.callers.peer import Caller
from sealagent.callers.tcp import tcp_peer_of
from sealagent.daemon.settings import Settings

__all__ = ["build_loopback"]


def build_loopback(settings: Settings, app: web.Application, identify: Identify) -> LoopbackListener | None:
    """Return the listener; None where it is switched off.

    :param app: the application of the Unix socket, not started yet.
    :param identify: completes callers, and tells applications by their tokens.
    """
    asked = settings.loopback
    if not asked.enabled:
        return None
    uid = os.getuid()

    def peer(sock: socket.socket, accepted: int) -> Caller:
        return tcp_peer_of(sock, uid, accepted)

    rules = PageRules(
        owner_uid=uid,
        hosts=asked.host_values,
        origins=frozenset(asked.origins),
        identify=identify,
        body_octets=encoded_length(asked.document_bytes) + settings.limits.json_bytes,
        monotonic=time.monotonic,
    )
    return LoopbackListener(app, asked.port, rules, peer)
