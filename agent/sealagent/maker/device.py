"""The unit's own keys: found by URI on a present token, unlocked through a prompter, each signature verified."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sealagent.clock import Clock
from sealagent.consent.choose import choose_prompter
from sealagent.consent.pinentry import PROGRAMS
from sealagent.consent.prompter import Occasion
from sealagent.consent.source import FdPinSource
from sealagent.errors import SealAgentError
from sealagent.events import Event
from sealagent.hosting import hosted_tokens, operator_table
from sealagent.maker.settings import RoleKey, Settings
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.keys import load_public_key
from sealagent.pki.signatures import SignatureAlgorithm, signing_digest, verify_digest
from sealagent.signing.inventory import is_key_of
from sealagent.signing.mechanisms import algorithm_of, certified_choice
from sealagent.signing.unlock import EnteredPin, Unlocker
from sealdrivers.contract import KeyInfo, Mechanism, TokenContents, TokenInfo, TokenService
from sealdrivers.errors import DriverError, LoginRequired
from sealdrivers.uri import Pkcs11Uri, SkfUri, parse_uri

__all__ = ["Device", "UnitKey", "opened_device"]

MAX_CERTIFICATE_FILE = 1 << 20
"""Octets of a configured certificate file that are read."""

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class UnitKey:
    """A key of the unit with its certificate."""

    info: KeyInfo
    token: TokenInfo
    certificate: Certificate
    mechanism: Mechanism

    @property
    def algorithm(self) -> SignatureAlgorithm:
        return algorithm_of(self.mechanism)

    def as_json(self) -> dict[str, Any]:
        """Return what the register keeps of it."""
        return {
            "key": self.info.uri,
            "mechanism": self.mechanism.value,
            "certificate": {"serial": self.certificate.serial, "sha256": self.certificate.sha256},
        }


class Device:
    """The tokens the maker may use. A token that was unlocked stays so until :meth:`close`."""

    def __init__(self, tokens: TokenService, unlocker: Unlocker, clock: Clock, refused: Sequence[str] = ()) -> None:
        self._tokens = tokens
        self._unlocker = unlocker
        self._clock = clock
        self._always: dict[str, bool] = {}
        """Keys, and whether each of their signatures needs the PIN, as far as their tokens told."""
        self.refused = tuple(refused)
        """A sentence for each configured module that may not be loaded."""

    async def listing(self) -> list[tuple[TokenInfo, TokenContents | DriverError]]:
        """Return every token with what it holds, or why that cannot be read."""
        found: list[tuple[TokenInfo, TokenContents | DriverError]] = []
        for token in await self._tokens.tokens():
            try:
                found.append((token, await self._tokens.contents(token.uri)))
            except DriverError as error:
                found.append((token, error))
        return found

    async def key(self, role: RoleKey) -> UnitKey:
        """Find the key of a role, and its certificate.

        :raises SealAgentError: ``maker_key_not_found``, ``maker_key_ambiguous``, ``certificate_mismatch``,
            ``maker_certificate_missing``, ``mechanism_not_supported``, ``config_invalid`` (the certificate's file).
        """
        found: list[tuple[TokenInfo, KeyInfo, TokenContents]] = []
        for token, contents in await self.listing():
            if isinstance(contents, TokenContents):
                found += [(token, key, contents) for key in contents.keys if _is_meant(role.key, token, key)]
            elif role.key and _is_meant(role.key, token, None):
                raise contents
        if not found:
            lost = f"; {self.refused[0]}" if self.refused else ""
            raise SealAgentError("maker_key_not_found", f"no plugged-in token holds {role.key or 'a key'}{lost}")
        if len(found) > 1:
            uris = [key.uri for _, key, _ in found]
            raise SealAgentError("maker_key_ambiguous", f"{len(found)} keys are there; name one of them", keys=uris)
        ((token, key, contents),) = found
        return UnitKey(key, token, self._certificate(role, key, contents), certified_choice(key))

    def _certificate(self, role: RoleKey, key: KeyInfo, contents: TokenContents) -> Certificate:
        if role.certificate is not None:
            certificate = _certificate_file(role)
            if not is_key_of(certificate, key):
                raise SealAgentError("certificate_mismatch", f"{role.certificate} is not of the key {key.uri}")
            return certificate
        own = [Certificate.from_der(each.der) for each in contents.certificates if each.object_id == key.object_id]
        own = [certificate for certificate in own if is_key_of(certificate, key)]
        if not own:
            message = f"the token shows no certificate of the key {key.uri}; import it, or name its file"
            raise SealAgentError("maker_certificate_missing", message)
        now = self._clock()
        return max(own, key=lambda each: (each.valid_at(now), each.not_after))

    async def unlock(self, key: UnitKey, purpose: str | None = None) -> None:
        """Ask for the PIN now, if need be; the token stays unlocked, so that :meth:`sign` need not ask.

        :param purpose: what the holder is told, e.g. the name of the seal.
        """
        # Left at once: a token is only locked when nobody is inside, and after a worker's death it must be.
        async with self._unlocker.unlocked(key.token, Occasion(None, None, purpose)):
            pass

    async def sign(self, key: UnitKey, message: bytes, purpose: str | None = None) -> bytes:
        """Sign a message on the device, and verify the signature with the certificate's public key.

        :return: DER for SM2 and ECDSA, as long as the modulus for RSA.
        :raises SealAgentError: ``device_signature_wrong``, and what the prompt ends with. :raises DriverError: the
            device's.
        """
        public_key = load_public_key(key.certificate.spki)
        digest = signing_digest(public_key, key.algorithm, message)
        for last in (False, True):
            try:
                signature = await self._sign(key, digest, purpose)
                break
            except LoginRequired:
                # The worker was restarted since the PIN was entered: the holder is asked once more.
                if last:
                    raise
        check = await asyncio.to_thread(verify_digest, public_key, key.algorithm, signature, digest)
        if not check.ok:
            raise SealAgentError(
                "device_signature_wrong", "the device's signature does not verify with the certificate's public key"
            )
        return signature

    async def _sign(self, key: UnitKey, digest: bytes, purpose: str | None) -> bytes:
        async with AsyncExitStack() as stack:
            occasion = Occasion(None, None, purpose)
            await stack.enter_async_context(self._unlocker.unlocked(key.token, occasion))
            entered = EnteredPin(None)
            if await self._always_authenticates(key):
                entered = await stack.enter_async_context(self._unlocker.pin_for_signature(key.token, occasion))
            return await self._tokens.sign(
                key.info.uri, key.mechanism, digest, entered.pin, confirmed_last_try=entered.confirmed_last_try
            )

    async def _always_authenticates(self, key: UnitKey) -> bool:
        """Say whether each signature needs the PIN, which a token tells only while it is unlocked."""
        if key.info.uri not in self._always:
            keys = (await self._tokens.contents(key.token.uri)).keys
            self._always[key.info.uri] = any(each.uri == key.info.uri and each.always_authenticate for each in keys)
        return self._always[key.info.uri]

    async def close(self) -> None:
        """End prompts and workers."""
        self._unlocker.close()
        await self._tokens.close()


@asynccontextmanager
async def opened_device(
    settings: Settings, clock: Clock, environ: Mapping[str, str] = os.environ
) -> AsyncIterator[Device]:
    """Start what the configuration names; nothing is loaded before it is asked for.

    :raises SealAgentError: ``config_invalid``, ``prompt_unavailable``, ``pin_source_refused``.
    """
    tokens, refused = hosted_tokens(
        settings.modules, settings.discovery, settings.timeouts, operator_table().sm2, settings.state_dir
    )
    prompter = choose_prompter(
        settings.pin.source,
        environ,
        programs=(settings.pin.pinentry,) if settings.pin.pinentry else PROGRAMS,
        path=settings.pin.file,
        fd=settings.pin.fd,
        timeout=settings.pin.prompt_seconds,
    )
    unlocker = Unlocker(tokens, prompter, clock, _unheard, idle_seconds=FOREVER, absolute_seconds=FOREVER)
    device = Device(tokens, unlocker, clock, refused)
    try:
        yield device
    finally:
        await device.close()
        if isinstance(prompter, FdPinSource):
            prompter.close()


def _unheard(event: Event) -> None:
    """Nobody listens for events here: a command ends soon, and the status service asks for its PIN once."""


def _certificate_file(role: RoleKey) -> Certificate:
    assert role.certificate is not None
    try:
        with role.certificate.open("rb") as file:
            return load_certificates(file.read(MAX_CERTIFICATE_FILE))[0]
    except (OSError, SealAgentError) as error:
        why = error.strerror if isinstance(error, OSError) else error.message
        raise SealAgentError("config_invalid", f"certificate {role.certificate}: {why}", key="certificate") from error


def _is_meant(text: str, token: TokenInfo, key: KeyInfo | None) -> bool:
    """Say whether a key's URI names this key; without a key, whether it names something on this token."""
    if not text:
        return True
    uri = parse_uri(text)
    if isinstance(uri, Pkcs11Uri):
        on_token = uri.matches_token(token)
        return on_token and (key is None or uri.matches_object("private", key.object_id, key.label))
    if not uri.matches_token(token):
        return False
    if key is None:
        return True
    container = SkfUri.parse(key.uri).container
    return container is not None and uri.matches_container("private", container)
