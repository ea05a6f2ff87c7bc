"""The bridge between browser extensions and the agent's socket: a native messaging host (docs/native-messaging.md)."""

from __future__ import annotations

HOST_NAME = "sealagent"
"""What an extension passes to ``runtime.connectNative``; the name of the manifest's file, too."""
