"""Where the socket, the configuration and the state are, the same for daemon and clients.

Environment: ``SEALAGENT_SOCKET``, ``SEALAGENT_CONFIG`` and ``SEALAGENT_STATE_DIR`` override the usual places, which
follow the XDG base directories (on other systems their counterparts).
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["config_files", "policy_files", "socket_path", "state_dir"]


def socket_path() -> Path:
    """Return the path of the agent's Unix socket: ``$XDG_RUNTIME_DIR/sealagent/agent.sock`` unless overridden."""
    if named := os.environ.get("SEALAGENT_SOCKET"):
        return Path(named)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "sealagent" / "agent.sock"
    # A login without a session manager (su, containers) has no runtime directory: the state directory is private too.
    return state_dir() / "run" / "agent.sock"


def state_dir() -> Path:
    """Return the directory of the record and the seal store (mode 0700, made by the daemon)."""
    if named := os.environ.get("SEALAGENT_STATE_DIR"):
        return Path(named)
    from platformdirs import user_state_path

    return user_state_path("sealagent", appauthor=False)


def config_files() -> list[Path]:
    """Return the configuration files to read, the later overriding the earlier: system, then user.

    ``SEALAGENT_CONFIG`` names one file that stands for both.
    """
    if named := os.environ.get("SEALAGENT_CONFIG"):
        return [Path(named)]
    from platformdirs import site_config_path, user_config_path

    return [
        site_config_path("sealagent", appauthor=False) / "agent.toml",
        user_config_path("sealagent", appauthor=False) / "agent.toml",
    ]


def policy_files() -> list[Path]:
    """Return where the policy may be: the system's, which an administrator sets for everybody, before the user's own.

    With ``SEALAGENT_CONFIG`` it is beside that file.
    """
    return [file.with_name("policy.toml") for file in config_files()]
