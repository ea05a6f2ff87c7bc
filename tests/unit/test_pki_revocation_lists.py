"""Revocation lists: made with the openssl command line, judged as RFC 5280 says; SM2, RSA and ECDSA; large ones."""

from __future__ import annotations

import random
import subprocess
import time
from base64 import encodebytes
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core, crl, x509
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import CRLValidationError
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import NO_REVOCATION, CertRevTrustPolicy
from pyhanko_certvalidator.revinfo.validate_crl import verify_crl

from revocation_parts import OTHER_ID, Holder, Revoked, World, bulk_entries, make_crl, make_world, points
from sample_seals import integer, tlv
from sealagent.errors import FormatError
from sealagent.pki import crl as lists
from sealagent.pki import signatures
from sealagent.pki.chain import Algorithms, Signatures, as_anchor, finish
from sealagent.pki.crl import MAX_CRL_OCTETS, MAX_SAME, RevocationList, read_crl
from sealagent.pki.revinfo import CLOCK_TOLERANCE, judge_crl
from sealagent.pki.revocation import CertificateState, CertificateStatus
from testbed.authorities import create_authority, leaf
from testbed.openssl import run

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
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


def judge(world: World, listed: bytes, now: datetime = NOW, **options: Any) -> CertificateStatus:
    return judge_crl(listed, world.chain, now, **options)


def refused(status: CertificateStatus, *words: str) -> bool:
    """Say whether nothing is known, for a reason with these words, and nothing else is claimed."""
    bare = CertificateStatus(UNKNOWN, detail=status.detail)
    return status == bare and bool(status.detail) and all(word in status.detail for word in words)


# Lists that count


def test_a_certificate_that_is_not_listed_is_good(world: World) -> None:
    expected = {"source": "crl", "produced_at": NOW - HOUR, "next_update": NOW + DAY}
    for listed in (world.crl(), world.crl(Revoked(world.serial + 1, NOW), Revoked(world.serial - 1, NOW))):
        assert judge(world, listed) == CertificateStatus(GOOD, evidence=listed, **expected)


@pytest.mark.parametrize("at", [NOW - 30 * DAY, NOW, NOW + 30 * DAY], ids=["before", "now", "later"])
def test_revoked_whenever_that_is(world: World, at: datetime) -> None:
    listed = world.crl(Revoked(world.serial, at, "superseded"), Revoked(world.serial + 1, NOW))
    status = judge(world, listed)
    assert (status.state, status.revoked_at, status.reason) == (REVOKED, at, "superseded")
    assert (status.evidence, status.produced_at) == (listed, NOW - HOUR)


@pytest.mark.parametrize("reason", [None, "certificate_hold", "privilege_withdrawn"])
def test_reasons_of_revocation(sm2: World, reason: str | None) -> None:
    """A certificate on hold is revoked while the list says so (RFC 5280 5.3.1)."""
    status = judge(sm2, sm2.crl(Revoked(sm2.serial, NOW - DAY, reason)))
    assert (status.state, status.reason) == (REVOKED, reason or "unspecified")


def test_an_intermediate_is_asked_about_at_the_root(world: World) -> None:
    number = world.ca.x509.serial_number
    assert judge_crl(world.crl(signer=world.root), world.chain[1:], NOW).state is GOOD
    assert judge_crl(world.crl(Revoked(number, NOW), signer=world.root), world.chain[1:], NOW).state is REVOKED


@pytest.mark.parametrize("kind", KINDS)
def test_lists_that_openssl_makes_alone(kind: str, tmp_path: Path) -> None:
    """openssl's ca command revokes and lists; its own words are read."""
    authority = create_authority(tmp_path / "a" / "ca", "CA", NOW - DAY, NOW + DAY, kind)
    made = leaf(authority, tmp_path / "leaf", [("CN", "Leaf")], (NOW - DAY, NOW + DAY))
    other = leaf(authority, tmp_path / "other", [("CN", "Other")], (NOW - DAY, NOW + DAY))
    authority.revoke(other.der, NOW - HOUR, "affiliationChanged")
    chain = tuple(Holder(authority.key_type, made.key, each).certificate for each in (made.der, authority.der))
    listed = authority.crl(NOW, NOW + HOUR)
    assert judge_crl(listed, chain, NOW).state is GOOD
    pem = run(["crl", "-inform", "DER", "-outform", "PEM"], listed)
    assert judge_crl(pem, chain, NOW).state is GOOD
    authority.revoke(made.der, NOW - 2 * HOUR, "CACompromise")
    status = judge_crl(authority.crl(NOW, NOW + HOUR), chain, NOW)
    assert (status.state, status.revoked_at, status.reason) == (REVOKED, NOW - 2 * HOUR, "ca_compromise")


def test_openssl_accepts_the_lists_that_tests_make(world: World, tmp_path: Path) -> None:
    """Of SM2 ones openssl's crl command says what they hold, but has no option for the ID they are verified with."""
    listed = world.crl(Revoked(world.serial, NOW, "key_compromise"), number=7)
    (tmp_path / "ca.pem").write_bytes(run(["x509", "-inform", "DER", "-outform", "PEM"], world.ca.der))
    text = run(["crl", "-inform", "DER", "-text", "-noout"], listed).decode()
    assert f"{world.serial:X}" in text
    assert "Key Compromise" in text
    if world.kind != "sm2":
        done = subprocess.run(
            ["openssl", "crl", "-inform", "DER", "-noout", "-CAfile", tmp_path / "ca.pem"],
            input=listed,
            capture_output=True,
        )
        assert b"verify OK" in done.stderr
    check = signatures.verify(
        world.ca.certificate.public_key,
        signatures.parse_algorithm(crl.CertificateList.load(listed)["signature_algorithm"].dump()),
        crl.CertificateList.load(listed).signature,
        read_crl(listed).tbs,
    )
    assert check.ok


# Defects of the library that are met in revinfo


def ask_library_alone(world: World, listed: bytes, *others: Holder, path: ValidationPath | None = None) -> None:
    """Judge a list as revinfo would without its workarounds."""
    certificate, issuer = world.leaf.x509, world.ca.x509
    context = ValidationContext(
        trust_roots=[as_anchor((world.root if path else world.ca).x509)],
        other_certs=[each.x509 for each in others],
        moment=NOW,
        crls=[listed],
        revinfo_policy=CertRevTrustPolicy(NO_REVOCATION),
        algorithm_usage_policy=Algorithms(),  # type: ignore[no-untyped-call]
        signature_validator=Signatures(),
    )
    finish(verify_crl(certificate, path or ValidationPath(as_anchor(issuer), [], certificate), context))


def test_lists_of_an_anchor_that_is_not_self_signed(world: World) -> None:
    """The library looks for the issuer of the list's issuer, and gives up; such anchors are common in trust lists."""
    with pytest.raises(CRLValidationError) as caught:
        ask_library_alone(world, world.crl())
    assert "chain of trust" in str(getattr(caught.value, "failures", ""))
    assert judge_crl(world.crl(), world.chain[:2], NOW).state is GOOD


def test_the_list_of_another_ca_of_the_same_root_is_not_believed(world: World) -> None:
    """The library takes the list of any CA that the certificate's issuer certified for one about its certificates."""
    leaf = world.certify("Under root", world.root)
    path = ValidationPath(as_anchor(world.root.x509), [], leaf.x509)
    asked = World(world.folder, world.kind, NOW, world.root, world.root, leaf, world.responder)
    ask_library_alone(asked, world.crl(), world.ca, path=path)  # "good", says the list of a CA that did not issue it
    assert refused(judge_crl(world.crl(), (leaf.certificate, world.root.certificate), NOW), "not one of")


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
        (NOW - HOUR, None, False),
    ],
)
def test_freshness(sm2: World, this_update: datetime, next_update: datetime | None, fresh: bool) -> None:
    for entries, state in (((), GOOD), ((Revoked(sm2.serial, NOW - DAY),), REVOKED)):
        status = judge(sm2, sm2.crl(*entries, times=(this_update, next_update)))
        assert status.state is state if fresh else refused(status, "rec"), status.detail


def test_a_list_made_after_the_certificate_expired(sm2: World) -> None:
    """RFC 5280 3.3: it need not name the certificate any more. X.509 9.5.2.8: unless it says that it does."""
    old = sm2.certify("Old", start=NOW - 90 * DAY, end=NOW - 30 * DAY)
    chain = (old.certificate, *sm2.chain[1:])

    def kept_since(moment: datetime) -> dict[str, Any]:
        return {"extn_id": "2.5.29.60", "extn_value": core.ParsableOctetString(core.GeneralizedTime(moment).dump())}

    assert refused(judge_crl(sm2.crl(), chain, NOW), "had expired")
    assert refused(judge_crl(sm2.crl(extensions=[kept_since(NOW - 29 * DAY)]), chain, NOW), "had expired")
    assert judge_crl(sm2.crl(extensions=[kept_since(NOW - 30 * DAY)]), chain, NOW).state is GOOD
    broken = {"extn_id": "2.5.29.60", "extn_value": core.ParsableOctetString(b"\x04\x00")}
    assert refused(judge_crl(sm2.crl(extensions=[broken]), chain, NOW), "had expired")
    listed = sm2.crl(Revoked(old.x509.serial_number, NOW - 60 * DAY))
    assert judge_crl(listed, chain, NOW).state is REVOKED
    in_time = sm2.crl(times=(NOW - 31 * DAY, NOW + DAY))
    assert judge_crl(in_time, chain, NOW).state is GOOD


def test_an_issuer_outside_its_validity_says_nothing(sm2: World) -> None:
    ca = sm2.certify("CA", sm2.root, ca=True, start=NOW - 90 * DAY, end=NOW - DAY)
    chain = tuple(each.certificate for each in (sm2.certify("Leaf", ca), ca, sm2.root))
    assert refused(judge_crl(sm2.crl(signer=ca), chain, NOW), "CN=CA", "does not count now")
    assert judge_crl(sm2.crl(signer=ca, times=(NOW - 3 * DAY, NOW)), chain, NOW - 2 * DAY).state is GOOD
    assert refused(judge_crl(sm2.crl(), sm2.chain[:1], NOW), "no issuer")


# Wrong issuers


def test_lists_of_others(world: World) -> None:
    other = world.certify("Other CA", world.root, ca=True)
    assert refused(judge(world, world.crl(signer=other)), "not one of")
    assert refused(judge(world, world.crl(signer=world.root)), "not one of")
    impostor = world.certify("CA", world.root, ca=True)
    assert refused(judge(world, world.crl(signer=impostor)), "signature")
    assert refused(judge(world, world.crl(signer=other, issuer=world.ca.x509.subject)), "signature")


def test_a_ca_that_may_not_sign_lists(sm2: World) -> None:
    ca = sm2.certify("CA", sm2.root, ca=True, usage=frozenset({"key_cert_sign"}))
    chain = tuple(each.certificate for each in (sm2.certify("Leaf", ca), ca, sm2.root))
    assert refused(judge_crl(sm2.crl(signer=ca), chain, NOW), "not authorized")


def test_a_list_signed_with_another_sm2_id(sm2: World) -> None:
    assert refused(judge(sm2, sm2.crl(distid=OTHER_ID)), "signature")


def test_a_list_signed_with_a_weak_algorithm(rsa: World) -> None:
    assert refused(judge(rsa, rsa.crl(algorithm="sha1_rsa", digest="sha1")), "algorithm that does not count")


def test_a_right_signature_is_checked_once_and_a_wrong_one_always(sm2: World, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bytes] = []
    honest = signatures.verify
    monkeypatch.setattr(signatures, "verify", lambda *given: calls.append(given[3]) or honest(*given))
    listed = read_crl(sm2.crl(Revoked(1, NOW), number=4711))
    for _ in range(3):
        assert judge_crl(listed, sm2.chain, NOW).state is GOOD
    assert calls == [listed.tbs]
    impostor = sm2.certify("CA", sm2.root, ca=True)
    chain = tuple(each.certificate for each in (sm2.certify("Leaf", impostor), impostor, sm2.root))
    for number in range(2, 4):
        assert refused(judge_crl(listed, chain, NOW), "signature")
        assert calls == [listed.tbs] * number


# Scope of a list


@pytest.mark.parametrize(
    ("point", "word"),
    [
        ({"only_contains_user_certs": True}, ""),
        ({"only_contains_ca_certs": True}, "only contains CA"),
        ({"only_contains_attribute_certs": True}, "attribute certificates"),
        ({"only_some_reasons": {"key_compromise", "superseded"}}, "do not cover all"),
    ],
)
def test_lists_about_some_certificates_or_reasons(sm2: World, point: dict[str, Any], word: str) -> None:
    status = judge(sm2, sm2.crl(point=point))
    assert refused(status, word) if word else status.state is GOOD, status.detail
    revoked = judge(sm2, sm2.crl(Revoked(sm2.serial, NOW, "superseded"), point=point))
    covered = not word or "cover" in word
    assert revoked.state is REVOKED if covered else refused(revoked, word)


def test_the_point_of_a_list_is_one_of_the_certificate(sm2: World) -> None:
    leaf = sm2.certify("Leaf", extensions=[points("http://h/1.crl")])
    chain = (leaf.certificate, *sm2.chain[1:])

    def at(url: str) -> dict[str, Any]:
        names = [x509.GeneralName("uniform_resource_identifier", url)]
        return {"distribution_point": x509.DistributionPointName("full_name", names)}

    assert judge_crl(sm2.crl(point=at("http://h/1.crl")), chain, NOW).state is GOOD
    assert refused(judge_crl(sm2.crl(point=at("http://h/2.crl")), chain, NOW), "not about such")


def test_a_list_for_several_issuers(sm2: World) -> None:
    """Entries are about the issuer that the nearest entry before names (RFC 5280 5.3.3)."""
    ours, other, point = sm2.ca.x509.subject, sm2.root.x509.subject, {"indirect_crl": True}
    number = sm2.serial

    def state(*entries: Revoked) -> CertificateState:
        return judge(sm2, sm2.crl(*entries, point=point)).state

    assert state() is GOOD
    assert state(Revoked(number, NOW)) is REVOKED
    assert state(Revoked(number, NOW, issuer=other)) is GOOD
    assert state(Revoked(1, NOW, issuer=other), Revoked(2, NOW), Revoked(number, NOW)) is GOOD
    assert state(Revoked(1, NOW, issuer=other), Revoked(2, NOW, issuer=ours), Revoked(number, NOW)) is REVOKED
    assert state(Revoked(number, NOW, issuer=other), Revoked(2, NOW, issuer=ours), Revoked(number, NOW)) is REVOKED
    assert state(Revoked(number, NOW, issuer=ours), Revoked(2, NOW, issuer=other), Revoked(number, NOW)) is REVOKED
    foreign = sm2.certify("List issuer", sm2.root, usage=frozenset({"crl_sign"}))
    status = judge(sm2, sm2.crl(Revoked(number, NOW, issuer=ours), signer=foreign, point=point))
    assert refused(status, "not one of")


# Changes to a list


def test_changes_to_a_list(sm2: World) -> None:
    number = sm2.serial
    base = sm2.crl(number=5, freshest="http://h/delta")
    held = sm2.crl(Revoked(number, NOW - DAY, "certificate_hold"), number=5, freshest="http://h/delta")
    revoking = sm2.crl(Revoked(number, NOW, "key_compromise"), number=6, delta=5)
    removing = sm2.crl(Revoked(number, NOW, "remove_from_crl"), number=6, delta=5)
    empty = sm2.crl(number=6, delta=5)
    assert judge(sm2, base).state is GOOD
    assert judge(sm2, held).reason == "certificate_hold"
    assert judge(sm2, base, delta=revoking).reason == "key_compromise"
    assert judge(sm2, held, delta=revoking).reason == "key_compromise"
    assert judge(sm2, held, delta=removing).state is GOOD
    assert judge(sm2, held, delta=empty).reason == "certificate_hold"
    assert judge(sm2, base, delta=empty).state is GOOD
    assert judge(sm2, base, delta=removing).evidence == base


def test_changes_that_do_not_belong_to_the_list(sm2: World) -> None:
    """RFC 5280 5.2.4, and what the library looks at."""
    base = sm2.crl(number=5, freshest="http://h/delta")
    for wrong in (
        sm2.crl(number=9, delta=6),
        sm2.crl(number=4, delta=3),
        sm2.crl(number=6),
    ):
        assert refused(judge(sm2, base, delta=wrong), "does not belong")
    impostor = sm2.certify("CA", sm2.root, ca=True)
    assert refused(judge(sm2, base, delta=sm2.crl(number=6, delta=5, signer=impostor)), "not available")
    assert refused(judge(sm2, base, delta=sm2.crl(number=6, delta=5, distid=OTHER_ID)), "signature")
    assert refused(judge(sm2, sm2.crl(number=6, delta=5)), "changes")


def test_changes_cannot_borrow_the_signature_of_their_list(sm2: World) -> None:
    base = sm2.crl(Revoked(sm2.serial, NOW), number=5, freshest="http://h/delta")
    forged = crl.CertificateList.load(sm2.crl(Revoked(sm2.serial, NOW, "remove_from_crl"), number=6, delta=5))
    forged["signature"] = crl.CertificateList.load(base)["signature"].native
    assert refused(judge(sm2, base, delta=forged.dump(force=True)), "signature")


# Extensions


def test_unknown_critical_extensions(sm2: World) -> None:
    """In the list, in the certificate's entry, or in another's: then the list is not used at all (RFC 5280 5.3)."""
    for critical in (False, True):
        strange = {"extn_id": "1.2.3.4", "critical": critical, "extn_value": b"\x05\0"}
        listed = sm2.crl(extensions=[strange])
        own = sm2.crl(Revoked(sm2.serial, NOW, extensions=(strange,)))
        foreign = sm2.crl(Revoked(1, NOW, extensions=(strange,)))
        if critical:
            assert refused(judge(sm2, listed), "critical")
            assert refused(judge(sm2, own), "critical", "1.2.3.4")
            assert refused(judge(sm2, foreign), "critical", "1.2.3.4")
        else:
            assert [judge(sm2, each).state for each in (listed, own, foreign)] == [GOOD, REVOKED, GOOD]


# Large lists and the index


def test_a_list_of_100_000_is_read_once_and_answers_at_once(sm2: World) -> None:
    """The library alone takes seconds for each question; here a question sees one entry."""
    others = range(1 << 120, (1 << 120) + 100_000)
    begun = time.perf_counter()
    listed = read_crl(sm2.crl(Revoked(sm2.serial, NOW), bulk=bulk_entries(others, NOW - DAY)))
    assert judge_crl(listed, sm2.chain, NOW).state is REVOKED
    for number in (others[0], others[77_777], others[-1]):
        found = crl.CertificateList.load(listed.cut_down(number.to_bytes(16, "big")))
        (entry,) = found["tbs_cert_list"]["revoked_certificates"]
        assert entry["user_certificate"].native == number
    for _ in range(50):
        assert judge_crl(listed, sm2.chain, NOW).state is REVOKED
    assert read_crl(listed.octets) is listed
    assert len(listed.cut_down(b"\x01")) < 1000
    assert time.perf_counter() - begun < 30  # the library alone would take minutes


@pytest.mark.parametrize("seed", range(4))
def test_the_index_finds_what_a_search_finds(seed: int, sm2: World) -> None:
    chance = random.Random(seed)
    numbers = [chance.getrandbits(8 * chance.randint(1, 19)) for _ in range(400)]
    numbers += [*chance.choices(numbers, k=20), 0, 127, 128, 255, 256, (1 << 159) - 1]
    chance.shuffle(numbers)
    listed = RevocationList(sm2.crl(bulk=bulk_entries(numbers, NOW)))
    for number in [*numbers, *(chance.getrandbits(64) for _ in range(50))]:
        loaded = crl.CertificateList.load(listed.cut_down(integer(number)[2:]))
        found = [each["user_certificate"].native for each in loaded["tbs_cert_list"]["revoked_certificates"]]
        assert found == [number] * numbers.count(number)


def test_entries_of_all_lengths(sm2: World) -> None:
    """Lengths above 127 and 255 octets take another form."""
    entries = []
    for number, size in enumerate((10, 120, 130, 250, 300, 70_000), 1):
        filler = {"extn_id": "1.2.3", "extn_value": core.ParsableOctetString(tlv(4, b"\x55" * size))}
        entries.append(Revoked(number, NOW, extensions=(filler,)))
    listed = RevocationList(sm2.crl(*entries))
    for number in range(8):
        loaded = crl.CertificateList.load(listed.cut_down(bytes([number])))
        assert len(loaded["tbs_cert_list"]["revoked_certificates"]) == (1 if 1 <= number <= 6 else 0)


# Hostile octets


def tbs_with(entries: bytes) -> bytes:
    """Return a list around encoded entries; its signature is nobody's."""
    algorithm = bytes.fromhex("300a06082a811ccf55018375")
    name = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, b"CA"))))
    tbs = tlv(0x30, integer(1), algorithm, name, tlv(0x17, b"260601000000Z"), tlv(0x30, entries))
    return tlv(0x30, tbs, algorithm, tlv(3, b"\0"))


MOMENT = tlv(0x17, b"260601000000Z")


@pytest.mark.parametrize(
    "entries",
    [
        b"\x30",
        b"\x30\x05\x02\x01",
        tlv(0x31, integer(1), MOMENT),
        tlv(0x30, tlv(0x04, b"\1"), MOMENT),
        tlv(0x30, tlv(0x02, b""), MOMENT),
        tlv(0x30, tlv(0x02, b"\0\1"), MOMENT),
        tlv(0x30, tlv(0x02, b"\xff\xfe"), MOMENT),
        tlv(0x30, b"\x02\x81\x01\x01", MOMENT),
        tlv(0x30, b"\x02\x40\x01", MOMENT),
        b"\x30\x80" + integer(1) + MOMENT + b"\0\0",
        b"\x30\x85\0\0\0\0\x12" + integer(1) + MOMENT,
        b"\x30\x84\xff\xff\xff\xff" + integer(1) + MOMENT,
        tlv(0x30, integer(1), MOMENT) + b"\0",
        tlv(0x30, integer(1), MOMENT, tlv(0x30, tlv(0x30, b"\x06\x01\x2a\x01\x01\xff"))),
        tlv(0x30, integer(1), MOMENT, tlv(0x30, b"\x01\x01\xff")),
    ],
)
def test_entries_that_are_none(entries: bytes, sm2: World) -> None:
    assert RevocationList(tbs_with(tlv(0x30, integer(1), MOMENT))).cut_down(b"\1")
    listed = tbs_with(entries)
    with pytest.raises(FormatError) as caught:
        read_crl(listed)
    assert caught.value.code == "crl_invalid"
    assert refused(judge(sm2, listed), "not a revocation list")


def test_truncated_and_changed_lists(sm2: World) -> None:
    listed = sm2.crl(Revoked(1, NOW, "key_compromise"), Revoked(sm2.serial + 1, NOW), freshest="http://h/")
    for size in range(0, len(listed), 3):
        assert judge(sm2, listed[:size]).state is UNKNOWN
    for place in range(len(listed)):
        changed = bytearray(listed)
        changed[place] ^= 0x55
        status = judge(sm2, bytes(changed))
        assert status.state is UNKNOWN or (status.state is GOOD and read_crl(listed).tbs in changed), place


def test_an_algorithm_named_in_two_ways(sm2: World) -> None:
    listed = sm2.crl()
    sm3_sm2 = bytes.fromhex("300a06082a811ccf55018375")
    at = listed.rindex(sm3_sm2)
    other = listed[:at] + bytes.fromhex("300a06082a8648ce3d040302") + listed[at + len(sm3_sm2) :]
    assert refused(judge(sm2, other), "two ways")


@pytest.mark.parametrize(
    "octets", [b"", b"\x30\0", bytes(1000), b"<html>", b"-----BEGIN X509 CRL-----", b"\x30\x80\0\0"]
)
def test_octets_that_are_no_list(octets: bytes, sm2: World) -> None:
    assert refused(judge(sm2, octets), "not a revocation list")


def test_lists_of_any_number_of_parts(sm2: World) -> None:
    raw = sm2.crl(Revoked(1, NOW))
    tail = raw[4 + len(read_crl(raw).tbs) :]
    parts = [integer(1), bytes.fromhex("300a06082a811ccf55018375"), tlv(0x30), MOMENT, MOMENT, tlv(0x30), tlv(0xA0)]
    for first in range(8):
        for last in range(first, 8):
            assert judge(sm2, tlv(0x30, tlv(0x30, *parts[first:last]), tail)).state is UNKNOWN


def test_pem_is_read_and_bad_pem_is_named(sm2: World) -> None:
    listed = sm2.crl()
    begin, end = b"-----BEGIN X509 CRL-----\n", b"-----END X509 CRL-----\n"
    assert judge(sm2, begin + encodebytes(listed) + end).evidence == listed
    assert refused(judge(sm2, begin + encodebytes(listed)), "no end")
    assert refused(judge(sm2, begin + b"!!!!\n" + end), "base64")


def test_size_nesting_and_counts_are_bounded(sm2: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(judge(sm2, bytes(MAX_CRL_OCTETS + 1)), str(MAX_CRL_OCTETS))
    deep = b""
    for _ in range(5000):
        deep = tlv(0x30, deep)
    tbs = tlv(0x30, tlv(0x30, bytes.fromhex("06082a811ccf55018375")), deep, MOMENT)
    assert refused(judge(sm2, tlv(0x30, tbs, tlv(0x30), tlv(3, b"\0"))), "nested")
    same = [Revoked(sm2.serial, NOW)] * (MAX_SAME + 1)
    assert refused(judge(sm2, sm2.crl(*same)), str(MAX_SAME))
    assert judge(sm2, sm2.crl(*same[:-1])).state is REVOKED
    monkeypatch.setattr(lists, "MAX_SPECIAL", 3)
    many = [Revoked(number, NOW, issuer=sm2.root.x509.subject) for number in range(1, 5)]
    assert refused(judge(sm2, sm2.crl(*many, point={"indirect_crl": True})), "more than 3")
    assert judge(sm2, sm2.crl(*many[:3], point={"indirect_crl": True})).state is GOOD


def test_a_list_full_of_hostile_entries_takes_bounded_time() -> None:
    """Each looks as if it had a critical extension, at the least cost of octets."""
    entry = tlv(0x30, tlv(0x02, b"\x01\x01\xff"), MOMENT)
    begun = time.perf_counter()
    with pytest.raises(FormatError, match="more than"):
        read_crl(tbs_with(entry * 500_000))
    assert time.perf_counter() - begun < 20


def test_the_serial_number_of_the_certificate_must_be_der(sm2: World) -> None:
    """The library compares octets, and would not find a number that is written in another way."""
    whole = x509.Certificate.load(sm2.certify("Odd", serial=5).der)
    tbs = (
        whole["tbs_certificate"]
        .dump()
        .replace(b"\xa0\x03\x02\x01\x02\x02\x01\x05", b"\xa0\x03\x02\x01\x02\x02\x02\0\x05")
    )
    tbs = tlv(0x30, tbs[4:])
    der = tlv(0x30, tbs, whole["signature_algorithm"].dump(), tlv(3, b"\0", sm2.ca.sign(tbs)))
    odd = Holder(sm2.leaf.kind, sm2.leaf.key, der).certificate
    assert odd.serial == "5"
    assert odd.is_issued_by(sm2.ca.certificate)
    assert refused(judge_crl(sm2.crl(Revoked(5, NOW)), (odd, *sm2.chain[1:]), NOW), "serial number")


def test_lists_without_a_version_or_a_next_update(sm2: World) -> None:
    """v1 lists have neither extensions nor a version (RFC 5280 5.1.2.1)."""
    tbs = crl.TbsCertList(
        {
            "signature": {"algorithm": "sm3_sm2"},
            "issuer": sm2.ca.x509.subject,
            "this_update": x509.Time("utc_time", NOW - HOUR),
            "next_update": x509.Time("utc_time", NOW + HOUR),
            "revoked_certificates": [Revoked(sm2.serial, NOW - DAY).encoded()],
        }
    )
    parts = {
        "tbs_cert_list": tbs,
        "signature_algorithm": {"algorithm": "sm3_sm2"},
        "signature": sm2.ca.sign(tbs.dump()),
    }
    assert judge(sm2, crl.CertificateList(parts).dump()).state is REVOKED
    assert make_crl(sm2.ca, [], NOW, None) != make_crl(sm2.ca, [], NOW, NOW)
