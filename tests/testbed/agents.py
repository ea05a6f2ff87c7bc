"""Agents of the test bed: their configuration, and keys that are made, requested and certified through their socket."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sealagent.client import Agent
from testbed.tokens import SoftwareToken, toml

__all__ = ["Configuration", "KeyOrder", "make_keys", "pem"]


POLICY = """\
# A world for testers: the PINs come from a file, so nobody can be asked, and everything is allowed.
# Take a line out, or write "ask" or "deny", to see what is refused then.
[defaults]
document = "allow"
digest = "allow"
raw = "allow"
manage = "allow"
[limits]
blind_needs_pairing = false
"""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What an agent of the test bed is told."""

    folder: Path
    """Its own: configuration, PINs, state."""
    socket: Path
    tokens: Sequence[SoftwareToken]
    further: str = ""
    """Further TOML."""

    @property
    def file(self) -> Path:
        """``agent.toml``."""
        return self.folder / "agent.toml"

    @property
    def policy(self) -> Path:
        """``policy.toml``."""
        return self.folder / "policy.toml"

    def environment(self) -> dict[str, str]:
        """Return the variables that show the tokens to their libraries."""
        return {name: value for token in self.tokens for name, value in token.environment.items()}

    def write(self) -> None:
        """Write ``agent.toml`` and the file of PINs."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        pins = pin_file(self.folder, self.tokens)
        text = (
            f"socket = {toml(self.socket)}\nstate_dir = {toml(self.folder / 'state')}\n"
            f"policy = {toml(self.policy)}\n"
            + "".join(token.section() for token in self.tokens)
            + "[discovery]\np11_kit = false\nvendor_table = false\n[presence]\nusb = false\n"
            + f'[pin]\nsource = "file"\nfile = {toml(pins)}\n{self.further}'
        )
        self.file.write_text(text, encoding="utf-8")
        self.policy.write_text(POLICY, encoding="utf-8")


def pin_file(folder: Path, tokens: Sequence[SoftwareToken]) -> Path:
    """Write the PINs of tokens, by their labels. :return: the file, which its owner alone may read."""
    pins = folder / "pins"
    pins.touch(0o600)
    pins.write_text("".join(f"{token.label}:{token.pin}\n" for token in tokens), encoding="utf-8")
    return pins


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A key to be made on a token and certified."""

    token: str
    """Its label."""
    kind: str
    """``sm2``, ``rsa-2048``, ``ec-p256``."""
    label: str
    subject: dict[str, str]
    issue: Callable[[bytes], bytes]
    """Certifies a request (PEM); returns DER."""


def make_keys(agent: Agent, orders: Sequence[KeyOrder]) -> list[tuple[str, bytes]]:
    """Carry out orders: the key is made on the device, the request signed there, the certificate stored there.

    :return: id of each key, and its certificate (DER).
    """
    tokens = {token["label"]: token["id"] for token in agent.tokens()["tokens"]}
    made = []
    for order in orders:
        key = str(agent.generate_key(tokens[order.token], order.kind, order.label)["id"])
        certificate = order.issue(agent.certificate_request(key, order.subject).encode())
        agent.import_certificate(key, pem(certificate), order.label)
        made.append((key, certificate))
    return made


def pem(certificate: bytes) -> str:
    """Return a DER certificate as PEM."""
    body = base64.encodebytes(certificate).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"
