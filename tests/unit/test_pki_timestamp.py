"""Time-stamp tokens: those of OpenSSL and of SM2 authorities are good; what is wrong with one has its own answer."""

from __future__ import annotations

import random
import time as clock
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cms_parts import algorithm, attribute, named, signed_data, signer_info, usual_attributes
from sample_seals import Identity, Kind, authority, identity, integer, oid, openssl, tlv
from sealagent.pki import oids
from sealagent.pki.certificates import Certificate
from sealagent.pki.der import DerError
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.pki.timestamp import MAX_TOKEN, TokenJudgement, TokenState, judge_token, read_token
from sealagent.pki.trust import TrustClass, TrustEntry, TrustRole, TrustSource, TrustStore
from timestamp_parts import OpensslAuthority, hashed, make_token, time_stamper, tst_info

KINDS: tuple[Kind, ...] = ("sm2", "rsa", "p256")
COVERED = b"a signature value"
START = datetime.now(UTC).replace(microsecond=0)
TIME = START + timedelta(days=1)
"""genTime of the tokens made here: after the certificates begin."""
NOW = START + timedelta(days=2)

GOOD, BAD, UNTRUSTED, UNSUPPORTED = TokenState.GOOD, TokenState.BAD, TokenState.UNTRUSTED, TokenState.UNSUPPORTED


@dataclass(frozen=True)
class World:
    """An authority and the CA above it."""

    folder: Path
    ca: Identity
    tsa: Identity

    def trust(self) -> TrustStore:
        return TrustStore((certificate(self.ca),))

    def token(self, **parts: Any) -> bytes:
        return make_token(parts.pop("tsa", self.tsa), COVERED, parts.pop("time", TIME), **parts)

    def other(self, name: str, **options: str) -> Identity:
        """Make another authority below the CA."""
        return time_stamper(self.folder, self.tsa.kind, name, ca=self.ca, **options)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, World]:
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(f"tsa-{kind}")
        ca = authority(folder, kind, "ca")
        made[kind] = World(folder, ca, time_stamper(folder, kind, "tsa", ca=ca))
    return made


@pytest.fixture(params=KINDS)
def any_world(request: pytest.FixtureRequest, worlds: dict[Kind, World]) -> World:
    return worlds[request.param]


@pytest.fixture(scope="module")
def world(worlds: dict[Kind, World]) -> World:
    """The one with SM2 keys."""
    return worlds["sm2"]


def certificate(who: Identity) -> Certificate:
    return Certificate.from_der(who.der)


@dataclass
class Answers:
    """A source of revocation that says of each certificate what it was told, and remembers what it was asked."""

    known: dict[str, CertificateStatus] = field(default_factory=dict)
    """By subject."""
    asked: list[tuple[list[str], datetime, datetime]] = field(default_factory=list)

    def status(self, chain: Sequence[Certificate], at: datetime, now: datetime) -> CertificateStatus:
        self.asked.append(([each.subject for each in chain], at, now))
        return self.known.get(chain[0].subject, CertificateStatus(CertificateState.GOOD))


def judged(
    data: bytes,
    trust: World | TrustStore,
    covered: bytes | None = COVERED,
    revocation: Answers | None = None,
    now: datetime = NOW,
) -> TokenJudgement:
    store = trust.trust() if isinstance(trust, World) else trust
    return judge_token(data, covered, store, revocation or Answers(), now)


def notes(judgement: TokenJudgement) -> list[str]:
    return [note.code for note in judgement.notes]


def bad(data: bytes, trust: World | TrustStore, **options: Any) -> str:
    """Return why a token is bad."""
    judgement = judged(data, trust, **options)
    assert judgement.state is BAD, judgement.detail
    return judgement.detail


# --- good ones ---


@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize(("digest", "ess"), [("sha256", "sha256"), ("sha512", "sha384"), ("sha384", "sha1")])
def test_tokens_of_openssl(worlds: dict[Kind, World], kind: Kind, digest: str, ess: str) -> None:
    """With accuracy, ordering, nonce, tsa and a genTime in milliseconds."""
    world = worlds[kind]
    data = OpensslAuthority(world.tsa, ess).token(COVERED, digest)
    found = judged(data, world)
    assert (found.state, found.detail, found.notes) == (GOOD, "", ())
    assert found.tsa == certificate(world.tsa)
    assert found.entry == TrustEntry(certificate(world.ca))
    assert found.time is not None
    assert abs(found.time - datetime.now(UTC)) < timedelta(minutes=5)


def test_openssl_accepts_the_tokens_made_here(worlds: dict[Kind, World]) -> None:
    """So what is tried below is wrong only where it says so."""
    for kind in ("rsa", "p256"):
        world = worlds[kind]
        place = world.tsa.key.parent
        (place / "covered").write_bytes(COVERED)
        (place / "token").write_bytes(world.token())
        verify = ("ts", "-verify", "-token_in", "-in", place / "token", "-data", place / "covered")
        assert b"OK" in openssl(*verify, "-CAfile", world.ca.pem)


@pytest.mark.parametrize("outer", [oids.CMS_SIGNED_DATA, oids.GM_SIGNED_DATA])
def test_tokens_of_either_standard(any_world: World, outer: str) -> None:
    found = judged(any_world.token(kind=outer), any_world)
    assert (found.state, found.detail, found.time, found.notes) == (GOOD, "", TIME, ())
    assert found.tsa == certificate(any_world.tsa)


def test_without_a_certificate_the_trust_settings_are_asked(worlds: dict[Kind, World]) -> None:
    world = worlds["rsa"]
    for data in (OpensslAuthority(world.tsa).token(COVERED, certificates=False), world.token(certificates=[])):
        assert judged(data, world).state is UNTRUSTED
        pinned = TrustStore((certificate(world.tsa),))
        found = judged(data, pinned)
        assert (found.state, found.tsa) == (GOOD, certificate(world.tsa))
        assert notes(found) == ["signer_certificate_supplied", "pinned"]


@pytest.mark.parametrize(
    ("text", "moment", "expected"),
    [
        ("20300102030405Z", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), []),
        ("20300102030405.5Z", datetime(2030, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC), []),
        ("20300102030405.123456789Z", datetime(2030, 1, 2, 3, 4, 5, 123_456, tzinfo=UTC), []),
        ("20300102030405.50Z", datetime(2030, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC), ["quirk_ber"]),
        ("20300102110405+0800", datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC), ["quirk_ber"]),
        ("203001020304Z", datetime(2030, 1, 2, 3, 4, tzinfo=UTC), ["quirk_ber"]),
    ],
)
def test_times_with_fractions(world: World, text: str, moment: datetime, expected: list[str]) -> None:
    found = judged(world.token(time=text), world, now=moment)
    assert (found.state, found.time, notes(found)) == (GOOD, moment, expected)


def test_version_2_is_noted(world: World) -> None:
    found = judged(world.token(version=2), world)
    assert (found.state, notes(found)) == (GOOD, ["quirk_tst_version"])
    for version in (0, 3):
        assert judged(world.token(version=version), world).state is UNSUPPORTED


@pytest.mark.parametrize("digest", ["sm3", "sha256", "sha384", "sha512"])
def test_imprints(any_world: World, digest: str) -> None:
    assert judged(any_world.token(digest=digest), any_world).state is GOOD
    assert "other octets" in bad(any_world.token(digest=digest), any_world, covered=COVERED + b"\0")


def test_weak_algorithms_are_noted(worlds: dict[Kind, World]) -> None:
    world = worlds["rsa"]
    found = judged(OpensslAuthority(world.tsa).token(COVERED, "sha1"), world)
    assert (found.state, notes(found)) == (GOOD, ["weak_algorithm"])
    content = tst_info(COVERED, TIME)
    attributes = usual_attributes(world.tsa, content, oids.TST_INFO, digest=hashed("sha1", content))
    value = world.tsa.sign(tlv(0x31, *attributes), "sha1")
    options = {"digest_algorithm": algorithm(oids.SHA1), "signature_algorithm": algorithm(oids.SHA1_RSA, tlv(5))}
    data = wrapped(world.tsa, content, signer_info(world.tsa, attributes, signature=value, **options))
    assert (judged(data, world).state, notes(judged(data, world))) == (GOOD, ["weak_algorithm"])


def wrapped(tsa: Identity, content: bytes, *signers: bytes, certificates: Sequence[bytes] | None = None) -> bytes:
    return signed_data(tsa, content, signers, version=3, content_type=oids.TST_INFO, certificates=certificates)


def test_without_knowing_what_it_should_cover(world: World) -> None:
    assert judged(world.token(), world, covered=None).state is GOOD
    short = world.token(info=tst_info(COVERED, TIME, imprint=bytes(31)))
    assert "other octets" in bad(short, world, covered=None)


def test_optional_parts(world: World) -> None:
    accuracy = tlv(0x30, integer(1), tlv(0x80, b"\1"), tlv(0x81, b"\1"))
    name = tlv(0xA0, tlv(0x82, b"tsa.example"))
    extension = tlv(0xA1, tlv(0x30, oid("1.2.3"), tlv(4, b"")))
    parts = [accuracy, tlv(1, b"\xff"), integer(1 << 90), name, extension]
    for optional in (parts, parts[1:], parts[:1], parts[2:3], parts[-1:]):
        assert judged(world.token(optional=optional), world).state is GOOD
    assert read_token(world.token(optional=parts)).nonce == 1 << 90
    for wrong in (parts[::-1], [accuracy, accuracy], [tlv(0xA2)], [tlv(4)], [integer(1 << 600)]):
        bad(world.token(optional=wrong), world)
    critical = tlv(0xA1, tlv(0x30, oid("1.2.3"), tlv(1, b"\xff"), tlv(4, b"")))
    found = judged(world.token(optional=[critical]), world)
    assert (found.state, found.detail) == (UNSUPPORTED, "the critical extension 1.2.3")


# --- what the token says ---


def test_changed_octets_never_change_what_is_believed(any_world: World) -> None:
    """Not every octet is signed (the versions in front are not), but whatever passes says the same."""
    data = any_world.token()
    chance = random.Random(5)
    survived = 0
    for offset in range(len(data)):
        changed = bytearray(data)
        changed[offset] ^= 1 << chance.randrange(8)
        found = judged(bytes(changed), any_world)
        if found.state is GOOD:
            survived += 1
            assert (found.time, found.tsa) == (TIME, certificate(any_world.tsa))
    assert survived < 20


def test_a_changed_tst_info(world: World) -> None:
    """The attributes are signed as they were: only their digest ties them to the TSTInfo."""
    attributes = usual_attributes(world.tsa, tst_info(COVERED, TIME), oids.TST_INFO)
    later = world.token(info=tst_info(COVERED, TIME + timedelta(1)), attributes=attributes)
    assert "TSTInfo was changed" in bad(later, world)


def test_attributes(world: World) -> None:
    content = tst_info(COVERED, TIME)
    usual = usual_attributes(world.tsa, content, oids.TST_INFO)

    def with_(*more: bytes, without: str = "") -> bytes:
        kept = [each for each in usual if not without or each.find(oid(without)) not in range(5)]
        assert len(kept) == len(usual) - bool(without)
        return world.token(info=content, attributes=sorted([*kept, *more]))

    assert judged(with_(), world).state is GOOD
    assert judged(with_(without=oids.CMS_SIGNING_TIME), world).state is GOOD
    assert "value is wrong" in bad(world.token(info=content, attributes=usual, message=tlv(0x31, *usual[1:])), world)
    assert "messageDigest" in bad(with_(without=oids.CMS_MESSAGE_DIGEST), world)
    assert "do not say" in bad(with_(without=oids.CMS_CONTENT_TYPE), world)
    other = attribute(oids.CMS_CONTENT_TYPE, oid(oids.CMS_DATA))
    assert "do not say" in bad(with_(other, without=oids.CMS_CONTENT_TYPE), world)
    bare = wrapped(world.tsa, content, signer_info(world.tsa, None, message=content))
    assert "do not say" in bad(bare, world)
    found = judged(world.token(info=content, attributes=usual[::-1]), world)
    assert (found.state, notes(found)) == (GOOD, ["quirk_cms_order"])


def test_the_certificate_that_the_attributes_name(world: World) -> None:
    """RFC 3161 2.4.2 and RFC 5816: one of the two attributes must be there, and what is there must fit."""
    content = tst_info(COVERED, TIME)
    version_2 = oids.AA_SIGNING_CERTIFICATE_V2
    kept = [each for each in usual_attributes(world.tsa, content, oids.TST_INFO) if oid(version_2) not in each]

    def with_(*more: bytes) -> bytes:
        return world.token(info=content, attributes=sorted([*kept, *more]))

    own, ca = world.tsa.der, world.ca.der
    for good in ((named(own, version=1),), (named(own), named(own, version=1)), (named(own, serial=own),)):
        assert judged(with_(*good), world).state is GOOD
    assert "do not name" in bad(with_(), world)
    for wrong in (
        (named(ca),),
        (named(ca, version=1),),
        (named(own), named(ca, version=1)),
        (named(own, version=1), named(ca)),
        (named(own, serial=ca),),
    ):
        assert "another certificate" in bad(with_(*wrong), world)
    bad(with_(attribute(version_2, tlv(0x30))), world)
    unknown = attribute(version_2, tlv(0x30, tlv(0x30, tlv(0x30, algorithm("1.2.3"), tlv(4, bytes(32))))))
    assert judged(with_(unknown), world).state is UNSUPPORTED


def test_unknown_algorithms(world: World) -> None:
    content = tst_info(COVERED, TIME, digest_algorithm=algorithm("1.2.3"))
    found = judged(world.token(info=content), world)
    assert (found.state, found.time, found.tsa) == (UNSUPPORTED, TIME, None)
    content = tst_info(COVERED, TIME)
    usual = usual_attributes(world.tsa, content, oids.TST_INFO)
    for option in ("digest_algorithm", "signature_algorithm"):
        parts: dict[str, Any] = {option: algorithm("1.2.3")}
        data = wrapped(world.tsa, content, signer_info(world.tsa, usual, **parts))
        assert judged(data, world).state is UNSUPPORTED


def test_malformed(world: World) -> None:
    good = world.token()
    content = tst_info(COVERED, TIME)
    info = signer_info(world.tsa, usual_attributes(world.tsa, content, oids.TST_INFO))
    broken = [
        b"",
        b"\0",
        *(good[:length] for length in range(1, len(good), 7)),
        good + b"\0",
        b"\x30\x80" + good[4:] + b"\0\0",
        wrapped(world.tsa, content, info, info),
        wrapped(world.tsa, content),
        signed_data(world.tsa, None, [info], content_type=oids.TST_INFO),
        signed_data(world.tsa, content, [info], content_type=oids.CMS_DATA),
        world.token(info=b"\x30\x00"),
        world.token(info=content + b"\0"),
        world.token(info=b"\x30\x80" + content[2:] + b"\0\0"),
        *(world.token(time=text) for text in ("20300102030405", "300102030405Z", "20301302030405Z", "")),
    ]
    for data in broken:
        bad(data, world)
    for data in (b"", good[:-1], good + b"\0", wrapped(world.tsa, content, info, info)):
        with pytest.raises(DerError):
            read_token(data)


def test_bounded_work(world: World) -> None:
    """Megabytes, many certificates, and certificates of the signer's name in number are refused or judged quickly."""
    huge = tlv(0x30, oid(oids.CMS_SIGNED_DATA), tlv(0xA0, tlv(0x30, tlv(4, bytes(8 << 20)))))
    many = world.token(certificates=[world.tsa.der] * 65)
    filled = world.token(info=tst_info(COVERED, TIME, optional=[tlv(0xA1, tlv(0x30) * 20_000)]))
    for data in (huge, bytes(MAX_TOKEN + 1), many, filled):
        before = clock.perf_counter()
        bad(data, world)
        assert clock.perf_counter() - before < 1
    assert "more than" in bad(huge, world)
    forged = tlv(0x30, tlv(0x30, *([tlv(0x30, bytes(9))] * 50)))
    before = clock.perf_counter()
    assert judged(world.token(certificates=[world.tsa.der, *([forged] * 63)]), world).state is GOOD
    assert clock.perf_counter() - before < 1


# --- whose it is ---


def test_nobody_vouches(any_world: World, world: World) -> None:
    found = judged(any_world.token(), TrustStore(()))
    assert (found.state, found.time, found.tsa) == (UNTRUSTED, TIME, certificate(any_world.tsa))
    assert found.entry is None
    carried = any_world.token(certificates=[any_world.tsa.der, any_world.ca.der])
    assert judged(carried, TrustStore(())).state is UNTRUSTED, "what is carried is not trusted"


def test_another_key_under_the_same_name(world: World) -> None:
    stranger = world.other("stranger")
    content = tst_info(COVERED, TIME)
    usual = usual_attributes(world.tsa, content, oids.TST_INFO)
    forged = signer_info(stranger, usual, name=world.tsa.der)
    assert "value is wrong" in bad(wrapped(world.tsa, content, forged), world)
    attributes = usual_attributes(stranger, content, oids.TST_INFO)
    named_self = signer_info(stranger, attributes, name=world.tsa.der)
    assert "another certificate" in bad(wrapped(world.tsa, content, named_self), world)


def test_a_certificate_that_cannot_be_read_is_none(world: World) -> None:
    place = world.folder / "ed25519"
    place.mkdir()
    openssl("genpkey", "-algorithm", "ED25519", "-out", place / "key.pem")
    openssl("req", "-x509", "-key", place / "key.pem", "-subj", "/CN=ed", "-out", place / "cert.pem")
    der = openssl("x509", "-in", place / "cert.pem", "-outform", "DER")
    content = tst_info(COVERED, TIME)
    usual = usual_attributes(world.tsa, content, oids.TST_INFO)
    other = wrapped(world.tsa, content, signer_info(world.tsa, usual, name=der), certificates=[der])
    assert judged(other, world).state is UNTRUSTED
    assert judged(world.token(certificates=[der, world.tsa.der]), world).state is GOOD


@pytest.mark.parametrize(
    ("purpose", "expected"),
    [
        ("", "extended key usage"),
        ("extendedKeyUsage=critical,codeSigning\n", "extended key usage"),
        ("extendedKeyUsage=anyExtendedKeyUsage\n", "extended key usage"),
        ("extendedKeyUsage=timeStamping\n", ["quirk_tsa_usage"]),
        ("extendedKeyUsage=critical,timeStamping,codeSigning\n", ["quirk_tsa_usage"]),
        ("extendedKeyUsage=timeStamping,codeSigning\n", ["quirk_tsa_usage", "quirk_tsa_usage"]),
    ],
)
def test_what_the_certificate_is_for(world: World, purpose: str, expected: str | list[str]) -> None:
    tsa = world.other(f"purpose {len(purpose)}", purpose=purpose)
    data = world.token(tsa=tsa)
    if isinstance(expected, str):
        assert expected in bad(data, world)
        assert expected in bad(data, TrustStore((certificate(tsa),))), "pinned or not"
    else:
        assert (judged(data, world).state, notes(judged(data, world))) == (GOOD, expected)


def test_key_usage(world: World) -> None:
    tsa = world.other("no signatures", usage="keyUsage=critical,keyAgreement\n")
    assert "key usage" in bad(world.token(tsa=tsa), world)
    promise = world.other("promise", usage="keyUsage=critical,nonRepudiation\n")
    assert judged(world.token(tsa=promise), world).state is GOOD


def test_the_authority_at_the_stamped_time(world: World) -> None:
    """What counts is genTime: a certificate that has expired since does not matter, one that had does."""
    for time in (START - timedelta(days=1), START + timedelta(days=3700)):
        assert "outside the validity" in bad(world.token(time=time), world, now=START + timedelta(days=5000))
    assert judged(world.token(), world, now=START + timedelta(days=5000)).state is GOOD


def test_a_time_to_come_proves_nothing(world: World) -> None:
    assert judged(world.token(), world, now=TIME - timedelta(minutes=4)).state is GOOD
    found = judged(world.token(), world, now=TIME - timedelta(minutes=6))
    assert (found.state, "yet to come" in found.detail) == (UNTRUSTED, True)


def test_an_intermediate_that_came_along(world: World) -> None:
    usage = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n"
    middle = identity(world.folder, "sm2", "middle", ca=world.ca, extensions=usage)
    tsa = time_stamper(world.folder, "sm2", "below", ca=middle)
    assert judged(world.token(tsa=tsa), world).state is UNTRUSTED
    answers = Answers()
    found = judged(world.token(tsa=tsa, certificates=[middle.der, tsa.der]), world, revocation=answers)
    assert (found.state, found.notes) == (GOOD, ())
    names = ["CN=below,O=Test,C=CN", "CN=middle,O=Test,C=CN", "CN=ca,O=Test,C=CN"]
    assert answers.asked == [(names, TIME, NOW), (names[1:], TIME, NOW)]
    revoked = CertificateStatus(CertificateState.REVOKED, TIME, "superseded")
    both = world.token(tsa=tsa, certificates=[middle.der, tsa.der])
    assert "CN=middle" in bad(both, world, revocation=Answers({names[1]: revoked}))


def test_a_leaf_above_the_authority(world: World) -> None:
    """An end entity's certificate makes nobody an authority."""
    leaf = identity(world.folder, "sm2", "leaf", ca=world.ca)
    tsa = time_stamper(world.folder, "sm2", "below leaf", ca=leaf)
    data = world.token(tsa=tsa, certificates=[leaf.der, tsa.der])
    assert judged(data, world).state is UNTRUSTED
    assert "no CA certificate" in bad(data, TrustStore((certificate(leaf),)))


# --- trust lists ---


def listed(entry: Identity, role: TrustRole = TrustRole.TSA, **options: Any) -> TrustStore:
    updated = options.pop("next_update", NOW + timedelta(days=1))
    source = TrustSource("list-1", 1, "110000", "北京市", "某单位", START, updated)
    return TrustStore((), "", (TrustEntry(certificate(entry), frozenset({role}), source=source, **options),))


def test_only_the_role_of_a_time_stamper_vouches(world: World) -> None:
    assert judged(world.token(), listed(world.ca)).state is GOOD
    assert judged(world.token(), listed(world.tsa)).state is GOOD
    for role in set(TrustRole) - {TrustRole.TSA}:
        for entry in (world.ca, world.tsa):
            assert judged(world.token(), listed(entry, role)).state is UNTRUSTED
            assert judged(world.token(certificates=[]), listed(entry, role)).state is UNTRUSTED


def test_entries_of_lists(world: World) -> None:
    internal = listed(world.ca, trust_class=TrustClass.INTERNAL)
    found = judged(world.token(), internal)
    assert (found.state, notes(found), found.entry) == (GOOD, ["internal_trust"], internal.listed[0])
    assert judged(world.token(), listed(world.ca, withdrawn_since=TIME + timedelta(seconds=1))).state is GOOD
    assert "withdrawn" in bad(world.token(), listed(world.ca, withdrawn_since=TIME))
    stale = judged(world.token(), listed(world.ca, next_update=NOW - timedelta(seconds=1)))
    assert (stale.state, "list-1" in stale.detail) == (UNTRUSTED, True)


# --- revocation ---


def revoked(at: datetime | None, reason: str = "") -> Answers:
    return Answers({"CN=tsa,O=Test,C=CN": CertificateStatus(CertificateState.REVOKED, at, reason)})


def test_revocation(world: World) -> None:
    later = TIME + timedelta(seconds=1)
    for answers in (revoked(TIME, "superseded"), revoked(None, "superseded"), revoked(TIME - timedelta(1))):
        assert "revoked" in bad(world.token(), world, revocation=answers)
    for reason in ("unspecified", "affiliation_changed", "superseded", "cessation_of_operation"):
        found = judged(world.token(), world, revocation=revoked(later, reason))
        assert (found.state, notes(found)) == (GOOD, ["tsa_cert_revoked_since"])
    for reason in ("key_compromise", "ca_compromise", "aa_compromise", "certificate_hold", "anything", ""):
        assert "revoked" in bad(world.token(), world, revocation=revoked(later, reason))


def test_nobody_can_be_asked(world: World) -> None:
    nobody = judge_token(world.token(), COVERED, world.trust(), None, NOW)
    assert (nobody.state, notes(nobody)) == (GOOD, ["cert_status_not_checked"])
    silent = Answers({"CN=tsa,O=Test,C=CN": CertificateStatus(CertificateState.UNKNOWN, detail="no answer")})
    found = judged(world.token(), world, revocation=silent)
    assert (found.state, notes(found)) == (GOOD, ["cert_status_not_checked"])
    assert "no answer" in found.notes[0].detail
    old = Answers({"CN=tsa,O=Test,C=CN": CertificateStatus(CertificateState.GOOD, stale=True, source="ocsp")})
    assert notes(judged(world.token(), world, revocation=old)) == ["status_old"]


def test_nobody_is_asked_about_a_pinned_certificate_or_a_bad_token(world: World) -> None:
    answers = Answers()
    pinned = judged(world.token(), TrustStore((certificate(world.tsa),)), revocation=answers)
    assert (pinned.state, notes(pinned)) == (GOOD, ["pinned"])
    bad(world.token(), world, covered=b"other", revocation=answers)
    assert answers.asked == []
