"""OCSP: responses made with the openssl command line, judged as RFC 6960 says; SM2, RSA and ECDSA."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core, ocsp
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from pki_parts import odd_certificate
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response

from revocation_parts import (
    NO_CHECK,
    OTHER_ID,
    Answer,
    Holder,
    Revoked,
    World,
    access,
    certify,
    make_ocsp_response,
    make_world,
    points,
)
from sample_seals import oid, tlv
from sealagent.pki.certificates import Certificate
from sealagent.pki.chain import Algorithms, Signatures, as_anchor, finish
from sealagent.pki.crl import read_crl
from sealagent.pki.ocsp import MAX_OCSP_OCTETS, MAX_URLS, build_ocsp_request, crl_urls, ocsp_urls
from sealagent.pki.revinfo import CLOCK_TOLERANCE, WITHOUT_END, judge_ocsp
from sealagent.pki.revocation import CertificateState, CertificateStatus
from testbed.openssl import KEY_TYPES, SM2_ID, KeyType, new_key, run

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
KINDS = ["sm2", "rsa-2048", "p-256"]
GOOD, REVOKED, UNKNOWN = CertificateState


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], World]:
    return cache(lambda kind: make_world(tmp_path_factory.mktemp(kind), kind, NOW))


@pytest.fixture(scope="module", params=KINDS)
def world(request: pytest.FixtureRequest, worlds: Callable[[str], World]) -> World:
    return worlds(request.param)


@pytest.fixture(scope="module")
def sm2(worlds: Callable[[str], World]) -> World:
    return worlds("sm2")


@pytest.fixture(scope="module")
def rsa(worlds: Callable[[str], World]) -> World:
    return worlds("rsa-2048")


def judge(world: World, response: bytes, now: datetime = NOW, **options: Any) -> CertificateStatus:
    return judge_ocsp(response, world.chain, now, **options)


def refused(status: CertificateStatus, *words: str) -> bool:
    """Say whether nothing is known, for a reason with these words, and nothing else is claimed."""
    bare = CertificateStatus(UNKNOWN, detail=status.detail)
    return status == bare and bool(status.detail) and all(word in status.detail for word in words)


# Answers that count


@pytest.mark.parametrize("by_key", [False, True], ids=["by-name", "by-key"])
def test_good_by_a_responder_that_the_ca_named(world: World, by_key: bool) -> None:
    response = world.response(by_key=by_key)
    assert judge(world, response) == CertificateStatus(
        GOOD, source="ocsp", produced_at=NOW - MINUTE, next_update=NOW + HOUR, evidence=response
    )


@pytest.mark.parametrize("by_key", [False, True], ids=["by-name", "by-key"])
def test_good_by_the_ca_itself(world: World, by_key: bool) -> None:
    assert judge(world, world.response(signer=world.ca, by_key=by_key)).state is GOOD


@pytest.mark.parametrize("at", [NOW - 30 * DAY, NOW, NOW + 30 * DAY], ids=["before", "now", "later"])
def test_revoked_whenever_that_is(world: World, at: datetime) -> None:
    """The caller compares with the moment that matters, so a revocation after it is told as well."""
    response = world.response(world.answer("revoked", revoked_at=at, reason="key_compromise"))
    status = judge(world, response)
    assert (status.state, status.revoked_at, status.reason) == (REVOKED, at, "key_compromise")
    assert (status.evidence, status.produced_at, status.detail) == (response, NOW - MINUTE, "")


@pytest.mark.parametrize("reason", [None, "certificate_hold", "cessation_of_operation"])
def test_reasons_of_revocation(sm2: World, reason: str | None) -> None:
    status = judge(sm2, sm2.response(sm2.answer("revoked", reason=reason)))
    assert (status.state, status.reason) == (REVOKED, reason or "unspecified")


def test_a_responder_that_does_not_know_the_certificate(world: World) -> None:
    """A signed answer all the same: who gets it knows that asking again would not help."""
    response = world.response(world.answer("unknown"))
    status = judge(world, response)
    assert (status.state, status.evidence, status.produced_at) == (UNKNOWN, response, NOW - MINUTE)
    assert status.detail == "the responder does not know the certificate"


def test_an_intermediate_is_asked_about_at_the_root(sm2: World) -> None:
    responder = sm2.certify("Root responder", sm2.root, purposes=["ocsp_signing"])
    response = make_ocsp_response(responder, sm2.ca, sm2.root, sm2.good())
    assert judge_ocsp(response, sm2.chain[1:], NOW).state is GOOD
    assert refused(judge_ocsp(response, sm2.chain, NOW), "another certificate")


# Requests, and responses that openssl makes alone


@pytest.fixture(scope="module", params=KINDS)
def present(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world of this very moment, which is the only one that openssl's responder knows."""
    folder = tmp_path_factory.mktemp("present")
    made = make_world(folder, request.param, datetime.now(UTC).replace(microsecond=0))
    for name, holder in (("root", made.root), ("ca", made.ca), ("responder", made.responder), ("leaf", made.leaf)):
        (folder / f"{name}.pem").write_bytes(run(["x509", "-inform", "DER", "-outform", "PEM"], holder.der))
    return made


def database(world: World, status: str = "V\t350101000000Z\t") -> Path:
    """Return the database of openssl's responder with an entry for the leaf."""
    number = f"{world.serial:X}"
    index = world.folder / "index.txt"
    index.write_text(f"{status}\t{'0' * (len(number) % 2)}{number}\tunknown\t/CN=Leaf\n" if status else "")
    return index


def openssl_answers(world: World, index: Path, request: bytes, *options: str) -> bytes:
    folder, kind = world.folder, KEY_TYPES[world.kind]
    (folder / "request.der").write_bytes(request)
    sign = ("-rsigopt", SM2_ID) if world.kind == "sm2" else ()
    run(
        [
            *("ocsp", "-index", index, "-CA", folder / "ca.pem", "-rsigner", folder / "responder.pem"),
            *("-rkey", world.responder.key, "-rmd", kind.digest, *sign, "-ndays", "1", *options),
            *("-reqin", folder / "request.der", "-respout", folder / "response.der"),
        ]
    )
    return (folder / "response.der").read_bytes()


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sm3"])
def test_openssl_answers_our_requests(present: World, digest: Any) -> None:
    leaf, ca, now = present.leaf.certificate, present.ca.certificate, present.now
    nonce = bytes(range(16))
    request = build_ocsp_request(leaf, ca, nonce, digest)
    response = openssl_answers(present, database(present), request)
    status = judge(present, response, now, nonce=nonce)
    assert status.state is GOOD, status.detail
    assert refused(judge(present, response, now, nonce=bytes(16)), "nonce")
    index = database(present, "R\t350101000000Z\t260101120000Z,superseded")
    status = judge(present, openssl_answers(present, index, request, "-resp_key_id"), now, nonce=nonce)
    assert (status.state, status.reason) == (REVOKED, "superseded")
    assert status.revoked_at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    without = build_ocsp_request(leaf, ca, None, digest)
    status = judge(present, openssl_answers(present, database(present, ""), without), now)
    assert (status.state, status.detail) == (UNKNOWN, "the responder does not know the certificate")


def test_openssl_accepts_the_responses_that_tests_make(present: World) -> None:
    """Of SM2 ones openssl's ocsp command says what they are, but has no option for the ID they are verified with."""
    folder = present.folder
    (folder / "made.der").write_bytes(present.response())
    verify = ("-noverify",) if present.kind == "sm2" else ("-CAfile", folder / "root.pem")
    question = ("-issuer", folder / "ca.pem", "-cert", folder / "leaf.pem")
    assert b": good" in run(["ocsp", "-respin", folder / "made.der", *question, *verify])
    (folder / "made.der").write_bytes(present.response(present.answer("revoked", reason="key_compromise")))
    assert b": revoked" in run(["ocsp", "-respin", folder / "made.der", *question, *verify])


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sm3"])
def test_requests_are_those_of_openssl(sm2: World, digest: Any, tmp_path: Path) -> None:
    for name, holder in (("ca", sm2.ca), ("leaf", sm2.leaf)):
        (tmp_path / name).write_bytes(run(["x509", "-inform", "DER", "-outform", "PEM"], holder.der))
    run(
        [
            *("ocsp", f"-{digest}", "-no_nonce", "-issuer", tmp_path / "ca", "-cert", tmp_path / "leaf"),
            *("-reqout", tmp_path / "request"),
        ]
    )
    built = build_ocsp_request(sm2.leaf.certificate, sm2.ca.certificate, None, digest)
    assert built == (tmp_path / "request").read_bytes()


def test_a_nonce_has_one_to_32_octets(sm2: World) -> None:
    leaf, ca = sm2.chain[:2]
    for size in (1, 32):
        request = ocsp.OCSPRequest.load(build_ocsp_request(leaf, ca, bytes(size)))
        assert request.nonce_value.native == bytes(size)
    for size in (0, 33):
        with pytest.raises(ValueError, match="nonce"):
            build_ocsp_request(leaf, ca, bytes(size))


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha384", "sha512", "sm3"])
def test_the_issuer_may_be_named_by_any_digest_we_know(sm2: World, digest: str) -> None:
    assert judge(sm2, sm2.response(sm2.good(digest=digest))).state is GOOD
    other = sm2.response(sm2.good(digest=digest, serial=sm2.serial + 1))
    assert refused(judge(sm2, other), "another certificate")


def test_the_issuer_named_by_md5_is_nobody(sm2: World) -> None:
    assert refused(judge(sm2, sm2.response(sm2.good(digest="md5"))), "another certificate")


# Defects of the library that are met in revinfo


def ask_library_alone(world: World, response: bytes) -> None:
    """Judge a response as revinfo would without its workarounds."""
    leaf, issuer = world.leaf.x509, world.ca.x509
    context = ValidationContext(
        trust_roots=[as_anchor(issuer)],
        moment=NOW,
        ocsps=[response],
        algorithm_usage_policy=Algorithms(),  # type: ignore[no-untyped-call]
        signature_validator=Signatures(),
    )
    finish(verify_ocsp_response(leaf, ValidationPath(as_anchor(issuer), [], leaf), context))


def test_a_responder_with_nocheck_is_verified_with_our_signatures(world: World) -> None:
    """The library makes a context of its own for it, which knows no SM2 and fails with another package's error."""
    responder = world.certify("Responder", purposes=["ocsp_signing"], extensions=[NO_CHECK])
    response = world.response(signer=responder)
    ask_library_alone(world, world.response())
    if world.kind == "sm2":
        with pytest.raises(UnsupportedAlgorithm):
            ask_library_alone(world, response)
    else:
        ask_library_alone(world, response)
    assert judge(world, response).state is GOOD
    forged = certify(
        world.folder,
        "Responder",
        world.kind,
        certify(world.folder, "CA", world.kind, ca=True, start=NOW - DAY, end=NOW + DAY, subject=world.ca.x509.subject),
        start=NOW - DAY,
        end=NOW + DAY,
        purposes=["ocsp_signing"],
        extensions=[NO_CHECK],
    )
    assert refused(judge(world, world.response(signer=forged)), "certificate could not be validated")


def test_an_issuer_named_by_sm3_is_found(sm2: World) -> None:
    """The library asks names and keys for a digest attribute, and there is none of this name."""
    response = sm2.response(sm2.good(digest="sm3"))
    with pytest.raises(AttributeError, match="sm3"):
        ask_library_alone(sm2, response)
    assert judge(sm2, response).state is GOOD


# Freshness


@pytest.mark.parametrize(
    ("this_update", "next_update", "fresh"),
    [
        (NOW, NOW, True),
        (NOW - 30 * DAY, NOW + SECOND, True),
        (NOW + CLOCK_TOLERANCE, NOW + HOUR, True),
        (NOW + CLOCK_TOLERANCE + SECOND, NOW + HOUR, False),
        (NOW - HOUR, NOW - CLOCK_TOLERANCE, True),
        (NOW - HOUR, NOW - CLOCK_TOLERANCE - SECOND, False),
        (NOW + DAY, NOW - DAY, False),
        (NOW - WITHOUT_END, None, True),
        (NOW - WITHOUT_END - CLOCK_TOLERANCE - SECOND, None, False),
    ],
)
def test_freshness(sm2: World, this_update: datetime, next_update: datetime | None, fresh: bool) -> None:
    for answer in ("good", "revoked"):
        response = sm2.response(Answer(answer, this_update, next_update, revoked_at=NOW - DAY))
        status = judge(sm2, response)
        assert status.state is CertificateState(answer) if fresh else refused(status, "rec"), status.detail
        assert status.next_update == ((next_update or this_update + WITHOUT_END) if fresh else None)


def test_an_answer_older_than_its_certificate_that_expired(sm2: World) -> None:
    """RFC 6960 2.2: "good" is promised for certificates within their validity; 4.4.4: archiveCutoff goes beyond."""
    leaf = sm2.certify("Old", start=NOW - 90 * DAY, end=NOW - 30 * DAY)
    chain = (leaf.certificate, *sm2.chain[1:])

    def asked(status: str, cutoff: datetime | None = None) -> CertificateStatus:
        extensions = ({"extn_id": "archive_cutoff", "extn_value": core.GeneralizedTime(cutoff)},) if cutoff else ()
        answer = sm2.answer(status, extensions=extensions)
        return judge_ocsp(make_ocsp_response(sm2.responder, leaf, sm2.ca, answer), chain, NOW)

    assert refused(asked("good"), "had expired")
    assert refused(asked("good", NOW - 29 * DAY), "had expired")
    assert asked("good", NOW - 30 * DAY).state is GOOD
    assert asked("revoked").state is REVOKED


@pytest.mark.parametrize(("start", "end"), [(-90, -1), (1, 90)])
def test_an_issuer_outside_its_validity_says_nothing(sm2: World, start: int, end: int) -> None:
    ca = sm2.certify("CA", sm2.root, ca=True, start=NOW + start * DAY, end=NOW + end * DAY)
    leaf = sm2.certify("Leaf", ca)
    chain = tuple(each.certificate for each in (leaf, ca, sm2.root))
    assert refused(judge_ocsp(make_ocsp_response(ca, leaf, ca, sm2.good()), chain, NOW), "CN=CA", "does not count now")


def test_a_pinned_certificate_has_nobody_to_be_asked(sm2: World) -> None:
    assert refused(judge_ocsp(sm2.response(), sm2.chain[:1], NOW), "no issuer")


# Answers to other questions


def test_a_response_about_another_certificate(world: World) -> None:
    assert refused(judge(world, world.response(world.good(serial=world.serial + 1))), "another certificate")


def test_a_response_about_the_same_number_of_another_issuer(sm2: World) -> None:
    ca = sm2.certify("Other CA", sm2.root, ca=True)
    leaf = sm2.certify("Leaf", ca, serial=sm2.serial)
    assert refused(judge(sm2, make_ocsp_response(ca, leaf, ca, sm2.good())), "another certificate")
    same_name = sm2.certify("CA", sm2.root, ca=True)
    leaf = sm2.certify("Leaf", same_name, serial=sm2.serial)
    assert refused(judge(sm2, make_ocsp_response(same_name, leaf, same_name, sm2.good())), "another certificate")


def test_among_several_answers_the_right_one_counts(sm2: World) -> None:
    others = [sm2.answer("revoked", serial=sm2.serial + step) for step in range(1, 20)]
    assert judge(sm2, sm2.response(*others, sm2.good())).state is GOOD
    assert judge(sm2, sm2.response(sm2.good(serial=1), sm2.answer("revoked"), sm2.good(serial=2))).state is REVOKED


def test_two_answers_about_one_certificate_are_none(sm2: World) -> None:
    """The library would take whichever it comes upon first."""
    for answers in ((sm2.good(), sm2.answer("revoked")), (sm2.good(digest="sha256"), sm2.good())):
        assert refused(judge(sm2, sm2.response(*answers)), "2 answers")


@pytest.mark.parametrize(
    ("given", "accepted"), [(b"asked", True), (b"other", False), (b"", False), (None, True)], ids=repr
)
def test_nonces(sm2: World, given: bytes | None, accepted: bool) -> None:
    response = sm2.response(nonce=given)
    status = judge(sm2, response, nonce=b"asked")
    assert status.state is GOOD if accepted else refused(status, "nonce")
    assert judge(sm2, response).state is GOOD


@pytest.mark.parametrize(
    "status", ["malformed_request", "internal_error", "try_later", "sign_required", "unauthorized"]
)
def test_refusals_of_the_responder(sm2: World, status: str) -> None:
    assert refused(judge(sm2, ocsp.OCSPResponse({"response_status": status}).dump()), "does not answer", status)


# Wrong signers


def test_a_stranger_may_not_answer(world: World) -> None:
    stranger = certify(world.folder, "Stranger", world.kind, ca=True, start=NOW - DAY, end=NOW + DAY)
    responder = world.certify("Responder", stranger, purposes=["ocsp_signing"])
    assert refused(judge(world, world.response(signer=responder)), "unauthorized")
    assert refused(judge(world, world.response(signer=stranger, certificates=[stranger])), "unauthorized")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "unauthorized"),
        ({"purposes": ["time_stamping"]}, "unauthorized"),
        ({"purposes": ["ocsp_signing"], "usage": frozenset({"key_encipherment"})}, "unauthorized"),
        ({"purposes": ["ocsp_signing"], "start": NOW - 30 * DAY, "end": NOW - DAY}, "could not be validated"),
        ({"purposes": ["ocsp_signing"], "start": NOW + DAY, "end": NOW + 30 * DAY}, "could not be validated"),
        ({"purposes": ["ocsp_signing"], "distid": OTHER_ID}, "could not be validated"),
        (
            {
                "purposes": ["ocsp_signing"],
                "extensions": [{"extn_id": "1.2.3.4", "critical": True, "extn_value": b"\x05\0"}],
            },
            "could not be validated",
        ),
    ],
    ids=["no-purpose", "other-purpose", "usage", "expired", "not-yet-valid", "sm2-id", "critical"],
)
def test_a_responder_must_be_fit_for_it(sm2: World, options: dict[str, Any], word: str) -> None:
    responder = sm2.certify("Responder", **options)
    assert refused(judge(sm2, sm2.response(signer=responder)), word)


def test_a_responder_may_be_without_key_usage_or_for_any_signature(sm2: World) -> None:
    for usage in (frozenset[str](), frozenset({"non_repudiation"})):
        assert judge(sm2, sm2.response(signer=sm2.certify("R", purposes=["ocsp_signing"], usage=usage))).state is GOOD


def test_a_responder_of_a_ca_below_or_above_may_not_answer(sm2: World) -> None:
    """RFC 6960 4.2.2.2: named by the very CA of the certificate."""
    wide = sm2.certify("Wide", sm2.root, ca=True, start=NOW - 500 * DAY, end=NOW + 500 * DAY)
    below = sm2.certify("Below", wide, ca=True)
    leaf = sm2.certify("Leaf", wide)
    chain = tuple(each.certificate for each in (leaf, wide, sm2.root))
    for issuer, fits in ((wide, True), (below, False), (sm2.root, False)):
        responder = sm2.certify("Responder", issuer, purposes=["ocsp_signing"])
        response = make_ocsp_response(responder, leaf, wide, sm2.good(), certificates=[responder, issuer])
        status = judge_ocsp(response, chain, NOW)
        assert status.state is GOOD if fits else refused(status, "could not be validated"), status.detail


def test_the_certificate_in_question_may_not_answer_for_itself(sm2: World) -> None:
    own = sm2.certify("Own", purposes=["ocsp_signing"])
    chain = (own.certificate, *sm2.chain[1:])
    status = judge_ocsp(make_ocsp_response(own, own, sm2.ca, sm2.good()), chain, NOW)
    assert refused(status, "Recursion")


def test_the_responders_certificate_must_come_along(sm2: World) -> None:
    assert refused(judge(sm2, sm2.response(certificates=[])), "could not be located")
    other = sm2.certify("Other", purposes=["ocsp_signing"])
    assert refused(judge(sm2, sm2.response(certificates=[other])), "could not be located")
    namesake = sm2.certify("Responder", purposes=["ocsp_signing"])
    assert refused(judge(sm2, sm2.response(certificates=[namesake])), "signature")


def test_a_response_signed_with_another_sm2_id(sm2: World) -> None:
    for signer in (sm2.responder, sm2.ca):
        assert refused(judge(sm2, sm2.response(signer=signer, distid=OTHER_ID)), "signature")


def test_a_response_signed_with_a_weak_algorithm(rsa: World) -> None:
    response = rsa.response(algorithm="sha1_rsa", digest="sha1")
    assert refused(judge(rsa, response), "algorithm that does not count")
    weak = KeyType("rsa-1024", ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"), "sha256", "sha256_rsa")
    new_key(weak, rsa.folder / "weak.pem")
    responder = rsa.certify("Weak", key=Holder(weak, rsa.folder / "weak.pem", b""), purposes=["ocsp_signing"])
    assert refused(judge(rsa, rsa.response(signer=responder)), "algorithm that does not count", "2048")


# Revoked responders


def test_a_revoked_responder_is_not_believed(sm2: World) -> None:
    number = sm2.responder.x509.serial_number
    listed = read_crl(sm2.crl(Revoked(number, NOW - DAY, "key_compromise")))
    empty, old = read_crl(sm2.crl()), read_crl(sm2.crl(times=(NOW - 9 * DAY, NOW - 8 * DAY)))
    assert refused(judge(sm2, sm2.response(), responders=listed), "CN=Responder", "was revoked")
    for each in (empty, old):
        assert judge(sm2, sm2.response(), responders=each).state is GOOD
    assert judge(sm2, sm2.response(signer=sm2.ca), responders=listed).state is GOOD
    revoked = sm2.response(sm2.answer("revoked"))
    assert refused(judge(sm2, revoked, responders=listed), "was revoked")


def test_a_responder_with_nocheck_is_not_asked_about(sm2: World) -> None:
    exempt = sm2.certify("Exempt", purposes=["ocsp_signing"], extensions=[NO_CHECK])
    listed = read_crl(sm2.crl(Revoked(exempt.x509.serial_number, NOW - DAY)))
    assert judge(sm2, sm2.response(signer=exempt), responders=listed).state is GOOD


# Extensions


@pytest.mark.parametrize("where", ["extensions", "single"])
def test_unknown_critical_extensions(sm2: World, where: str) -> None:
    for critical in (False, True):
        strange = {"extn_id": "1.2.3.4", "critical": critical, "extn_value": b"\x05\0"}
        if where == "single":
            response = sm2.response(sm2.good(extensions=(strange,)))
        else:
            response = sm2.response(extensions=[strange])
        status = judge(sm2, response)
        assert refused(status, "1.2.3.4") if critical else status.state is GOOD


# Hostile octets


def test_truncated_and_changed_responses(sm2: World) -> None:
    """Nothing raises; nothing but the untouched signed part is believed."""
    response = sm2.response()
    signed = ocsp.OCSPResponse.load(response).response_data.dump()
    for size in range(0, len(response), 3):
        assert judge(sm2, response[:size]).state is UNKNOWN
    for place in range(0, len(response), 2):
        changed = bytearray(response)
        changed[place] ^= 0x55
        status = judge(sm2, bytes(changed))
        assert status.state is UNKNOWN or (status.state is GOOD and signed in changed), place


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"<html>not found</html>",
        bytes(1000),
        b"\x30\x80\0\0",
        tlv(0x30, tlv(0x0A, b"\0")),
        tlv(0x30, tlv(0x0A, b"\4")),
        tlv(0x30, tlv(0x0A, b"\x7f")),
        tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, tlv(0x30, bytes.fromhex("06022a03"), tlv(4, b"")))),
        tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, tlv(0x30, bytes.fromhex("06092b0601050507300101"), tlv(4, b"")))),
        tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, tlv(0x30, bytes.fromhex("06092b0601050507300101"), tlv(4, b"\x30\0")))),
    ],
)
def test_octets_that_are_no_response(sm2: World, octets: bytes) -> None:
    assert refused(judge(sm2, octets))


def test_nesting_and_size_are_bounded(sm2: World) -> None:
    deep = b""
    for _ in range(10_000):
        deep = tlv(0x30, deep)
    kind = bytes.fromhex("06092b0601050507300101")
    assert refused(judge(sm2, tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, tlv(0x30, kind, tlv(4, deep))))), "nested")
    many = tlv(0x30, tlv(0x05) * 20_000)
    assert refused(judge(sm2, tlv(0x30, tlv(0x0A, b"\0"), tlv(0xA0, tlv(0x30, kind, tlv(4, many))))), "too many")
    assert refused(judge(sm2, bytes(MAX_OCSP_OCTETS + 1)), str(MAX_OCSP_OCTETS))
    assert refused(judge(sm2, bytes(64 << 20)), str(MAX_OCSP_OCTETS))


def test_a_slip_of_ours_is_not_reported_as_bad_evidence(sm2: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from sealagent.pki import revinfo

    def broken(*_: object) -> object:
        raise NameError("a slip of the programmer")

    monkeypatch.setattr(revinfo, "_still_kept", broken)
    with pytest.raises(NameError):
        judge(sm2, sm2.response())


# Where to ask


def test_addresses_in_certificates(sm2: World) -> None:
    bad = ("ldap://a/b", "ftp://a/", "http://", "https://user@host/", "http://a b/", "file:///etc", "http://h:0/")
    good = ("http://ocsp.example/a%20b?x=1", "https://127.0.0.1:8443/ocsp")
    leaf = sm2.certify("Leaf", extensions=[access(*bad, *good), points(*bad, *good)]).certificate
    assert ocsp_urls(leaf) == crl_urls(leaf) == good
    assert ocsp_urls(sm2.chain[0]) == crl_urls(sm2.chain[0]) == ()


def test_addresses_are_few_and_short(sm2: World) -> None:
    many = [f"http://h{number}/" for number in range(50)]
    leaf = sm2.certify("Leaf", extensions=[access(*many, *many), points("http://h/" + "x" * 1024, *many)]).certificate
    assert ocsp_urls(leaf) == crl_urls(leaf) == tuple(many[:MAX_URLS])


def test_points_for_some_reasons_or_of_another_issuer_are_passed_over(sm2: World) -> None:
    from asn1crypto import x509

    names = [x509.GeneralName("directory_name", sm2.root.x509.subject)]
    for more in ({"reasons": x509.ReasonFlags({"key_compromise"})}, {"crl_issuer": names}):
        leaf = sm2.certify("Leaf", extensions=[points("http://h/", **more)]).certificate
        assert crl_urls(leaf) == ()


@pytest.mark.parametrize("kind", ["2.5.29.31", "1.3.6.1.5.5.7.1.1"])
@pytest.mark.parametrize("octets", [b"", b"\xff", b"\x30\x80", tlv(0x30, tlv(0x30, b"\x06\x01")), b"\x04\x01\x41"])
def test_extensions_that_cannot_be_read_hold_no_addresses(kind: str, octets: bytes) -> None:
    extension = tlv(0x30, oid(kind), tlv(0x04, octets))
    leaf = Certificate.from_der(odd_certificate(ec.generate_private_key(ec.SECP256R1()), extensions=(extension,)))
    assert ocsp_urls(leaf) == crl_urls(leaf) == ()


def test_certificates_of_openssl_are_read_alike(sm2: World, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(run(["x509", "-inform", "DER", "-outform", "PEM"], sm2.ca.der))
    (tmp_path / "ext").write_text(
        "authorityInfoAccess=OCSP;URI:http://o.example/x,caIssuers;URI:http://c.example/y\n"
        "crlDistributionPoints=URI:http://l.example/z.crl,URI:ldap://l.example/z\n"
    )
    request = run(["req", "-new", "-key", sm2.leaf.key, "-sm3", "-sigopt", SM2_ID, "-subj", "/CN=x"])
    done = subprocess.run(
        [
            *("openssl", "x509", "-req", "-vfyopt", SM2_ID, "-CA", tmp_path / "ca.pem", "-CAkey", sm2.ca.key),
            *("-set_serial", "9", "-sm3", "-sigopt", SM2_ID, "-extfile", tmp_path / "ext", "-outform", "DER"),
        ],
        input=request,
        capture_output=True,
        check=True,
    )
    made = Certificate.from_der(done.stdout)
    assert ocsp_urls(made) == ("http://o.example/x",)
    assert crl_urls(made) == ("http://l.example/z.crl",)
