"""Which key and certificate goes with which seal: renewed, doubled, listed by digest, expired."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509

from agent_world import TestAuthority
from host_parts import run
from line_parts import CALLER, Holder, Line, opened_line
from ofd_samples import document_files, pack
from sealagent.consent.prompter import Occasion
from sealagent.documents.ofd.seal import Invisible
from sealagent.errors import SealAgentError
from sealagent.signing.line import DocumentJob
from sealdrivers.errors import TokenNotFound
from softhsm2_fixtures import SoftHsm, SoftToken

SEAL = "测试单位公章"


async def _seal(line: Line, name: str = SEAL) -> bytes:
    """Seal a document and return it."""
    out = io.BytesIO()
    await line.line.seal_document(CALLER, DocumentJob(name, [Invisible()], "a.ofd"), io.BytesIO(_document()), out)
    return out.getvalue()


def _document() -> bytes:
    return pack(document_files())


def _serial(der: bytes) -> int:
    return x509.load_der_x509_certificate(der).serial_number


def _on(tmp_path: Path, token: SoftToken, authority: TestAuthority, scene: Callable[[Line], Awaitable[object]]) -> None:
    async def main() -> None:
        async with opened_line(tmp_path, token, Holder(token.user_pin), authority=authority) as line:
            await scene(line)

    run(main)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_renewed_certificate_beside_the_old_one_leaves_the_old_seal_usable(
    tmp_path: Path, softhsm_token: SoftToken, authority: TestAuthority, version: int, order: tuple[int, int]
) -> None:
    pair = softhsm_token.add_key("ec-p256")
    old, renewed = authority.issue(pair, days=(-300, 10)), authority.issue(pair, days=(-1, 365))
    for number in order:
        softhsm_token.add_certificate((old, renewed)[number])
    softhsm_token.add_data(authority.make_seal([old], version=version), label="seal")

    async def scene(line: Line) -> None:
        await _seal(line)
        certificate = line.ledger.read(1).body["certificate"]
        assert isinstance(certificate, dict)
        assert int(str(certificate["serial"]), 16) == _serial(old)
        [key] = (await line.inventory.snapshot()).keys.values()
        assert key.certificate is not None
        assert int(key.certificate.serial, 16) == _serial(renewed)

    _on(tmp_path, softhsm_token, authority, scene)


def test_a_seal_that_lists_only_a_replaced_certificate_must_be_made_anew(
    tmp_path: Path, softhsm_token: SoftToken, authority: TestAuthority
) -> None:
    pair = softhsm_token.add_key("ec-p256")
    softhsm_token.add_certificate(authority.issue(pair))
    softhsm_token.add_data(authority.make_seal([authority.issue(pair)]), label="seal")

    async def scene(line: Line) -> None:
        with pytest.raises(SealAgentError, match="must be re-made") as refused:
            await _seal(line)
        assert refused.value.code == "seal_outdated"
        assert line.entries() == [("refused", "seal_outdated")]

    _on(tmp_path, softhsm_token, authority, scene)


def test_of_two_listed_certificates_of_a_key_the_one_that_is_good_now_signs(
    tmp_path: Path, softhsm_token: SoftToken, authority: TestAuthority
) -> None:
    pair = softhsm_token.add_key("ec-p256")
    expired, good = authority.issue(pair, days=(-300, -1)), authority.issue(pair)
    for certificate in (expired, good):
        softhsm_token.add_certificate(certificate)
    softhsm_token.add_data(authority.make_seal([expired, good]), label="seal")
    _on(tmp_path, softhsm_token, authority, _seal)


def test_a_certificate_of_another_key_is_not_paired_by_its_identifier(
    tmp_path: Path, softhsm_token: SoftToken, authority: TestAuthority
) -> None:
    softhsm_token.add_key("ec-p256")
    stranger = authority.issue(authority.maker_key)
    softhsm_token.add_certificate(stranger)
    softhsm_token.add_data(authority.make_seal([stranger]), label="seal")

    async def scene(line: Line) -> None:
        [token] = await line.tokens.tokens()
        async with line.unlocker.unlocked(token, Occasion(CALLER)):  # logged in, the token shows its keys for certain
            pass
        assert [key.certificate for key in (await line.inventory.snapshot(fresh=True)).keys.values()] == [None]
        with pytest.raises(SealAgentError, match="no plugged-in token holds a certificate"):
            await _seal(line)

    _on(tmp_path, softhsm_token, authority, scene)


def test_two_seals_of_one_esid_need_the_id_and_one_seal_in_two_places_is_one(
    tmp_path: Path, softhsm_token: SoftToken, authority: TestAuthority
) -> None:
    certificate = authority.issue(softhsm_token.add_key("ec-p256"))
    softhsm_token.add_certificate(certificate)
    first = authority.make_seal([certificate])
    second = authority.make_seal([certificate], name="合同章")
    softhsm_token.add_data(first, label="seal")

    async def scene(line: Line) -> None:
        for der in (first, second):
            line.inventory._store.add(der)
        shown = (await line.inventory.snapshot(fresh=True)).seals
        assert sorted(item.source for item in shown.values()) == ["store", "token"]
        with pytest.raises(SealAgentError) as ambiguous:
            await _seal(line, "11010000000001")
        assert ambiguous.value.code == "seal_ambiguous"
        for item in shown.values():
            await _seal(line, item.seal.id)
        await _seal(line, "合同章")

    _on(tmp_path, softhsm_token, authority, scene)


def test_two_tokens_of_one_label_need_serial_or_id(
    tmp_path: Path, softhsm_token: SoftToken, softhsm: SoftHsm, authority: TestAuthority
) -> None:
    before = set(softhsm.tokens.iterdir())
    command = [str(softhsm.util), "--module", str(softhsm.module), "--init-token", "--free"]
    pins = ["--label", softhsm_token.label, "--so-pin", "so-pin-twin", "--pin", "user-twin"]
    subprocess.run([*command, *pins], check=True, capture_output=True, timeout=30)

    async def scene(line: Line) -> None:
        tokens = (await line.inventory.snapshot()).tokens
        assert len(tokens) == 2
        assert all(token.software for token in tokens.values())
        with pytest.raises(TokenNotFound, match="2 tokens"):
            await line.inventory.token(softhsm_token.label)
        for token in tokens.values():
            assert await line.inventory.token(token.serial) == token

    try:
        _on(tmp_path, softhsm_token, authority, scene)
    finally:
        for made in set(softhsm.tokens.iterdir()) - before:
            shutil.rmtree(made)
