"""Tokens and keys over the socket."""

from __future__ import annotations

import secrets
from typing import Any

from aiohttp import web

from sealagent.api import messages as m
from sealagent.api.answers import once, once_for, signature_json
from sealagent.api.idempotency import Answer
from sealagent.api.routing import CALLER, Route, json_answer, json_response, read_json, services
from sealagent.api.services import Services
from sealagent.consent.prompter import Occasion
from sealagent.errors import FormatError, LimitExceeded, SealAgentError
from sealagent.pki.certificates import Certificate, load_certificates
from sealagent.pki.csr import assemble_request, pem, prepare_request
from sealagent.signing.administration import administered
from sealagent.signing.inventory import AvailableKey, is_key_of
from sealagent.signing.mechanisms import algorithm_of, certified_choice
from sealdrivers.contract import PinState, TokenInfo

__all__ = ["ROUTES"]


def _token(parts: Services, token: TokenInfo) -> dict[str, Any]:
    return {
        "id": token.id,
        "uri": token.uri,
        "label": token.label,
        "serial": token.serial,
        "manufacturer": token.manufacturer,
        "model": token.model,
        "driver": token.driver,
        "module": token.module,
        "software": token.software,
        "login_required": token.login_required,
        "unlocked": parts.unlocker.is_unlocked(token.uri) or not token.login_required,
        "protected_authentication_path": token.protected_authentication_path,
        "write_protected": token.write_protected,
        "pin": _pin(token.pin),
        "admin_pin": _pin(token.admin_pin),
    }


def _pin(pin: PinState) -> dict[str, Any]:
    return {
        "initialized": pin.initialized,
        "tries_left": pin.tries_left,
        "count_low": pin.count_low,
        "final_try": pin.final_try,
        "locked": pin.locked,
        "factory_pin": pin.factory_pin,
    }


def _key(key: AvailableKey) -> dict[str, Any]:
    return {
        "id": key.info.id,
        "uri": key.info.uri,
        "token": key.token.id,
        "label": key.info.label,
        "object_id": key.info.object_id.hex(),
        "type": key.info.type.value,
        "bits": key.info.bits,
        "mechanisms": [mechanism.value for mechanism in key.info.mechanisms],
        "always_authenticate": key.info.always_authenticate,
        "fault": key.info.fault,
        "software": key.token.software,
        "certificate": key.certificate.facts().as_json() if key.certificate else None,
    }


async def list_tokens(request: web.Request) -> web.StreamResponse:
    """``GET /v1/tokens``."""
    parts = services(request)
    snapshot = await parts.inventory.snapshot(fresh=True)
    return json_response(
        {"tokens": [_token(parts, token) for token in snapshot.tokens.values()], "faults": list(snapshot.faults)}
    )


async def lock_token(request: web.Request) -> web.StreamResponse:
    """``POST /v1/tokens/{token}/lock``."""
    parts = services(request)
    token = await parts.inventory.token(request.match_info["token"])
    await parts.unlocker.lock(token.uri)
    return json_response(_token(parts, token))


async def change_pin(request: web.Request) -> web.StreamResponse:
    """``POST /v1/tokens/{token}/pin``: the agent asks the holder; the request carries no PIN."""
    parts = services(request)
    caller = request[CALLER]
    token = await parts.inventory.token(request.match_info["token"])

    async def work() -> Answer:
        async with administered(parts.recorder, caller, "change_pin", token=token.uri) as act:
            await parts.unlocker.change_pin(token, Occasion(caller), act.begin)
        return json_answer(_token(parts, token))

    return await once(request, b"", work)


async def unblock_pin(request: web.Request) -> web.StreamResponse:
    """``POST /v1/tokens/{token}/unblock``: the agent asks for the administrator's PIN and the new one."""
    parts = services(request)
    caller = request[CALLER]
    token = await parts.inventory.token(request.match_info["token"])

    async def work() -> Answer:
        async with administered(parts.recorder, caller, "unblock_pin", token=token.uri) as act:
            await parts.unlocker.unblock_pin(token, Occasion(caller), act.begin)
        parts.inventory.invalidate()
        return json_answer(_token(parts, await parts.inventory.token(token.id)))

    return await once(request, b"", work)


async def list_keys(request: web.Request) -> web.StreamResponse:
    """``GET /v1/keys``."""
    snapshot = await services(request).inventory.snapshot(fresh=True)
    return json_response({"keys": [_key(key) for key in snapshot.keys.values()]})


async def generate_key(request: web.Request) -> web.StreamResponse:
    """``POST /v1/keys``: a new key pair, made on the device."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.KeyGenerateIn)
    token = await parts.inventory.token(asked.token)

    async def work() -> Answer:
        object_id = bytes.fromhex(asked.id) if asked.id else secrets.token_bytes(16)
        named = {"type": asked.type.value, "label": asked.label, "object_id": object_id.hex()}
        shown = Occasion(caller, key=asked.label)
        facts = {"token": token.uri, **named}
        async with parts.management.change(caller, token, "generate_key", facts, shown=shown) as act:
            info = await parts.tokens.generate_key(token.uri, asked.type, asked.label, object_id)
            act.facts["key"] = info.uri
        parts.inventory.invalidate()
        return json_answer(_key(AvailableKey(info, token, None)), status=201)

    return await once(request, octets, work)


async def certificate_request(request: web.Request) -> web.StreamResponse:
    """``POST /v1/keys/{key}/certificate-request``: PKCS#10, signed on the device."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.CertificateRequestIn)
    key = await parts.inventory.key(request.match_info["key"])
    if key.info.public_key is None:
        raise SealAgentError("public_key_unreadable", "the token does not show the key's public half")
    # The request is for the key itself, so a certificate already there must not stand in for its public key.
    bare = AvailableKey(key.info, key.token, None)

    async def work() -> Answer:
        assert key.info.public_key is not None
        subject: dict[str, str] = {name: value for name, value in asked.subject.items()}
        tbs = prepare_request(key.info.public_key, subject)
        signature = await parts.line.sign_request(caller, bare, tbs)
        der = assemble_request(tbs, algorithm_of(certified_choice(key.info)), signature)
        return json_answer({"request": pem("CERTIFICATE REQUEST", der)})

    return await once(request, octets, work)


async def import_certificate(request: web.Request) -> web.StreamResponse:
    """``PUT /v1/keys/{key}/certificate``."""
    parts = services(request)
    caller = request[CALLER]
    asked, octets = await read_json(request, m.ImportCertificateIn)
    key = await parts.inventory.key(request.match_info["key"])
    certificate = _only_certificate(asked.certificate)
    if not is_key_of(certificate, key.info):
        raise SealAgentError("certificate_mismatch", "the certificate's public key is not the key's")

    async def work() -> Answer:
        label = asked.label or key.info.label
        named = {"serial": certificate.serial, "sha256": certificate.sha256}
        shown = Occasion(caller, key=key.info.label)
        facts = {"key": key.info.uri, "certificate": named}
        change = parts.management.change(caller, key.token, "import_certificate", facts, shown=shown, key=key.info.uri)
        async with change:
            await parts.tokens.import_certificate(key.token.uri, certificate.der, label, key.info.object_id)
        parts.inventory.invalidate()
        return json_answer(_key(AvailableKey(key.info, key.token, certificate)))

    return await once(request, octets, work)


def _only_certificate(text: str) -> Certificate:
    found = load_certificates(text.encode())
    if len(found) != 1:
        raise FormatError("certificate_invalid", f"one certificate is expected, {len(found)} were given")
    return found[0]


async def sign_digests(request: web.Request) -> web.StreamResponse:
    """``POST /v1/keys/{key}/signatures``."""
    parts = services(request)
    asked, octets = await read_json(request, m.DigestsIn)
    if len(asked.digests) > parts.limits.digests_per_request:
        raise LimitExceeded("body_too_large", f"a request may hold {parts.limits.digests_per_request} digests")

    async def work() -> Answer:
        signed = await parts.line.sign_digests(
            request[CALLER],
            request.match_info["key"],
            asked.mechanism,
            asked.digests,
            asked.name,
            once=once_for(request, octets),
        )
        return json_answer({"signatures": [signature_json(value, receipt) for value, receipt in signed]})

    return await once(request, octets, work)


ROUTES = (
    Route("GET", "/v1/tokens", list_tokens, "Plugged-in tokens", m.TokensOut),
    Route("POST", "/v1/tokens/{token}/lock", lock_token, "Log out of a token", m.TokenOut, errors=("token_not_found",)),
    Route(
        "POST",
        "/v1/tokens/{token}/pin",
        change_pin,
        "Change a token's PIN; the agent asks the holder for the old and the new one",
        m.TokenOut,
        changes=True,
        errors=("token_not_found", "pin_incorrect", "pin_locked", "pin_last_try", "pin_mismatch", "pin_cancelled"),
    ),
    Route(
        "POST",
        "/v1/tokens/{token}/unblock",
        unblock_pin,
        "Set a new PIN of the user with the administrator's; the agent asks for both",
        m.TokenOut,
        changes=True,
        errors=(
            "token_not_found",
            "admin_pin_incorrect",
            "admin_pin_locked",
            "pin_last_try",
            "pin_rejected",
            "pin_mismatch",
            "pin_cancelled",
            "not_supported",
        ),
    ),
    Route("GET", "/v1/keys", list_keys, "Keys on plugged-in tokens", m.KeysOut),
    Route(
        "POST",
        "/v1/keys",
        generate_key,
        "Generate a key pair on a token",
        m.KeyOut,
        m.KeyGenerateIn,
        changes=True,
        errors=("token_not_found", "object_exists", "mechanism_not_supported", "pin_incorrect"),
    ),
    Route(
        "POST",
        "/v1/keys/{key}/certificate-request",
        certificate_request,
        "Make a PKCS#10 request, signed on the device",
        m.CertificateRequestOut,
        m.CertificateRequestIn,
        changes=True,
        errors=("key_not_found", "public_key_unreadable", "pin_incorrect", "record_failed"),
    ),
    Route(
        "PUT",
        "/v1/keys/{key}/certificate",
        import_certificate,
        "Store a key's certificate on its token",
        m.KeyOut,
        m.ImportCertificateIn,
        changes=True,
        errors=("key_not_found", "certificate_invalid", "certificate_mismatch", "pin_incorrect"),
    ),
    Route(
        "POST",
        "/v1/keys/{key}/signatures",
        sign_digests,
        "Sign digests with a bare key (operation raw of the policy)",
        m.DigestsOut,
        m.DigestsIn,
        changes=True,
        errors=("key_not_found", "use_denied", "digest_invalid", "pin_incorrect", "record_failed"),
    ),
)
