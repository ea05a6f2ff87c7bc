"""Trust lists and certification paths: RSA and EC chains by cryptography, SM2 chains by openssl."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from pki_parts import NOW, Issued, SigningKey, issue, odd_certificate, sm2_certificate

from sample_seals import tlv
from sealagent.errors import SealAgentError
from sealagent.pki.certificates import Certificate
from sealagent.pki.csr import pem
from sealagent.pki.path import MAX_OTHERS, PathResult, PathStatus, validate_path
from sealagent.pki.signatures import encode_algorithm, rsa_pss
from sealagent.pki.trust import TrustStore

DAY = timedelta(days=1)
COMMON_ROOT = tlv(0x30, tlv(0x31, tlv(0x30, bytes.fromhex("0603550403"), tlv(0x0C, b"Root"))))  # CN=Root


def trust(*issued: Issued | Certificate) -> TrustStore:
    return TrustStore(tuple(each.certificate if isinstance(each, Issued) else each for each in issued))


def judge(leaf: Issued, others: tuple[Issued, ...], store: TrustStore, at: datetime = NOW) -> PathResult:
    return validate_path(leaf.certificate, [other.certificate for other in others], store, at)


def is_chain_fault(result: PathResult) -> bool:
    return (result.status, result.fault, result.anchor) == (PathStatus.invalid, "chain", None) and bool(result.detail)


ROOT = issue("Root", ca=True)
MIDDLE = issue("Middle", ROOT, ca=True, length=0)
LEAF = issue("Leaf", MIDDLE)

KEYS: list[Callable[[], SigningKey]] = [
    lambda: rsa.generate_private_key(65537, 2048),
    lambda: ec.generate_private_key(ec.SECP256R1()),
    lambda: ec.generate_private_key(ec.SECP384R1()),
]


# Paths that hold


@pytest.mark.parametrize("make", KEYS, ids=["rsa", "p256", "p384"])
def test_rsa_and_ec_chains(make: Callable[[], SigningKey]) -> None:
    root = issue("Root", ca=True, key=make())
    middle = issue("Middle", root, ca=True, key=make())
    leaf = issue("Leaf", middle, key=make())
    result = judge(leaf, (middle,), trust(root))
    assert result == PathResult(PathStatus.trusted, anchor=root.certificate)
    assert judge(leaf, (), trust(root)).status is PathStatus.no_anchor
    assert judge(leaf, (), trust(middle)).anchor == middle.certificate


@pytest.mark.parametrize("salt", [32, 20])
def test_rsa_pss_chain(salt: int) -> None:
    key = rsa.generate_private_key(65537, 2048)
    root = issue("Root", ca=True, key=key)
    identifier = encode_algorithm(rsa_pss("sha256", salt))
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    leaf = odd_certificate(
        ec.generate_private_key(ec.SECP256R1()),
        issuer=COMMON_ROOT,
        inner=identifier,
        outer=identifier,
        sign=lambda tbs: key.sign(tbs, pss, hashes.SHA256()),
    )
    assert validate_path(Certificate.from_der(leaf), (), trust(root), NOW).anchor == root.certificate


def test_sm2_chain_by_openssl(tmp_path: Path) -> None:
    ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash"
    end = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nauthorityKeyIdentifier=keyid,issuer"
    root = sm2_certificate(tmp_path, "Root", ca)
    middle = sm2_certificate(tmp_path, "Middle", ca + "\nauthorityKeyIdentifier=keyid", root)
    leaf = sm2_certificate(tmp_path, "Leaf", end, middle).certificate
    other_id = sm2_certificate(tmp_path, "OtherId", end, middle, distid="distid:other").certificate
    at = leaf.not_before + DAY
    store = trust(root.certificate)
    assert validate_path(leaf, [middle.certificate], store, at).anchor == root.certificate
    assert is_chain_fault(validate_path(other_id, [middle.certificate], store, at))
    assert validate_path(leaf, [], store, at).status is PathStatus.no_anchor
    stranger = sm2_certificate(tmp_path, "Stranger", ca).certificate
    assert validate_path(leaf, [middle.certificate], trust(stranger), at).status is PathStatus.no_anchor


def test_mixed_chain_of_an_rsa_root_and_an_ec_leaf() -> None:
    root = issue("Root", ca=True, key=rsa.generate_private_key(65537, 3072), digest=hashes.SHA512())
    assert judge(issue("Leaf", root), (), trust(root)).status is PathStatus.trusted


def test_the_right_one_of_two_authorities_of_one_name() -> None:
    """A CA that changed its key: names alone do not say which."""
    old, new = issue("CA", ca=True), issue("CA", ca=True)
    leaf = issue("Leaf", new)
    assert judge(leaf, (), trust(old, new)).anchor == new.certificate
    assert judge(leaf, (old, new), trust(ROOT)).status is PathStatus.no_anchor


def test_it_works_inside_a_running_loop_and_in_threads() -> None:
    async def inside() -> list[PathResult]:
        here = judge(LEAF, (MIDDLE,), trust(ROOT))
        there = await asyncio.gather(*(asyncio.to_thread(judge, LEAF, (MIDDLE,), trust(ROOT)) for _ in range(8)))
        return [here, *there]

    assert {result.status for result in asyncio.run(inside())} == {PathStatus.trusted}


# Pins


def test_pinned_octets_need_no_path() -> None:
    leaf = issue("Leaf", MIDDLE)
    again = issue("Leaf", MIDDLE, key=leaf.key)
    store = trust(leaf)
    assert store.pins(leaf.certificate)
    assert judge(leaf, (), store) == PathResult(PathStatus.pinned, anchor=leaf.certificate)
    assert not store.pins(again.certificate)
    assert judge(again, (), store).status is PathStatus.no_anchor


def test_pins_do_not_load_the_path_library() -> None:
    code = (
        "import sys, sealagent.pki.path, sealagent.pki.csr\n"
        "assert not any(name.startswith('pyhanko') for name in sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_certificate_with_the_name_and_key_of_an_anchor_is_not_the_anchor() -> None:
    """The library would take it for the anchor and check nothing."""
    usage = frozenset({"key_cert_sign", "digital_signature"})
    root = issue("Root", ca=True, usage=usage)
    forged = issue("Root", issue("Someone", ca=True), key=root.key, ca=True, usage=usage)
    assert judge(root, (), trust(root)).status is PathStatus.pinned
    assert judge(forged, (), trust(root)).status is PathStatus.no_anchor


# Usage


@pytest.mark.parametrize("store", [trust(ROOT), trust(), None])
def test_a_leaf_that_may_not_sign_is_a_usage_fault(store: TrustStore | None) -> None:
    leaf = issue("Leaf", ROOT, usage=frozenset({"key_encipherment"}))
    result = judge(leaf, (), trust(leaf) if store is None else store)
    assert (result.status, result.fault) == (PathStatus.invalid, "usage")


# Anchors that are no CA


@pytest.mark.parametrize(
    ("ca", "usage"),
    [
        (None, frozenset[str]()),
        (False, frozenset({"key_cert_sign", "digital_signature"})),
        (True, frozenset({"digital_signature"})),
    ],
)
def test_a_trusted_certificate_that_is_no_ca_cannot_be_an_issuer(ca: bool | None, usage: frozenset[str]) -> None:
    root = issue("Root", ca=ca, usage=usage)
    middle = issue("Middle", root, ca=True)
    assert is_chain_fault(judge(issue("Leaf", root), (), trust(root)))
    assert is_chain_fault(judge(issue("Leaf", middle), (middle,), trust(root)))
    assert judge(issue("Leaf", middle), (), trust(root)).status is PathStatus.no_anchor
    assert judge(root, (), trust(root)).status is PathStatus.pinned


def test_a_pin_that_only_shares_the_issuers_name_is_no_fault() -> None:
    namesake = issue("Middle", ca=False)
    assert judge(LEAF, (), trust(namesake)).status is PathStatus.no_anchor


# Paths that do not hold


def test_no_anchor_is_missing_not_wrong() -> None:
    result = judge(LEAF, (MIDDLE,), trust(issue("Other", ca=True)))
    assert (result.status, result.fault) == (PathStatus.no_anchor, None)
    assert "CN=Middle" in result.detail
    assert judge(LEAF, (MIDDLE,), trust()).status is PathStatus.no_anchor


def test_a_wrong_issuer_with_the_right_name() -> None:
    impostor = issue("Root", ca=True)
    assert is_chain_fault(judge(issue("Leaf", impostor), (), trust(ROOT)))
    assert is_chain_fault(judge(issue("Leaf", issue("Middle", impostor, ca=True)), (MIDDLE,), trust(ROOT)))


def test_a_changed_leaf() -> None:
    der = LEAF.certificate.der
    at = der.rindex(b"Leaf")
    changed = Certificate.from_der(der[:at] + b"Loaf" + der[at + 4 :])
    assert is_chain_fault(validate_path(changed, [MIDDLE.certificate], trust(ROOT), NOW))


def test_expired_and_future_authorities() -> None:
    for start, end in [(NOW - 90 * DAY, NOW - 30 * DAY), (NOW + 30 * DAY, NOW + 90 * DAY)]:
        middle = issue("Middle", ROOT, ca=True, start=start, end=end)
        assert is_chain_fault(judge(issue("Leaf", middle), (middle,), trust(ROOT)))
        root = issue("Root", ca=True, start=start, end=end)
        assert is_chain_fault(judge(issue("Leaf", root), (), trust(root)))
        assert judge(issue("Leaf", middle), (middle,), trust(ROOT), start + DAY).status is PathStatus.trusted


def test_the_leafs_own_period_is_not_judged() -> None:
    """Its issuers are judged at the nearest moment inside; here the CA ended with the leaf."""
    root = issue("Root", ca=True, start=NOW - 90 * DAY, end=NOW - 30 * DAY)
    leaf = issue("Leaf", root, start=NOW - 80 * DAY, end=NOW - 40 * DAY)
    for at in (NOW, NOW - 60 * DAY, NOW - 1000 * DAY):
        assert judge(leaf, (), trust(root), at).status is PathStatus.trusted
    upside_down = issue("Leaf", ROOT, start=NOW - DAY, end=NOW - DAY)
    assert judge(upside_down, (), trust(ROOT)).status is PathStatus.trusted


def test_an_intermediate_that_may_not_issue() -> None:
    for ca, usage in [(False, frozenset[str]()), (None, frozenset[str]()), (True, frozenset({"digital_signature"}))]:
        middle = issue("Middle", ROOT, ca=ca, usage=usage)
        result = judge(issue("Leaf", middle), (middle,), trust(ROOT))
        assert result.status is not PathStatus.trusted


def test_path_length_of_intermediate_and_anchor() -> None:
    lower = issue("Lower", MIDDLE, ca=True)
    assert is_chain_fault(judge(issue("Leaf", lower), (lower, MIDDLE), trust(ROOT)))
    short = issue("Short", ca=True, length=0)
    middle = issue("Under", short, ca=True)
    assert judge(issue("Leaf", short), (), trust(short)).status is PathStatus.trusted
    assert is_chain_fault(judge(issue("Leaf", middle), (middle,), trust(short)))


def test_an_anchor_that_allows_intermediates_but_not_any_number() -> None:
    root = issue("Root", ca=True, length=1)
    upper = issue("Upper", root, ca=True)
    lower = issue("Lower", upper, ca=True)
    assert judge(issue("Leaf", upper), (upper,), trust(root)).anchor == root.certificate
    assert is_chain_fault(judge(issue("Leaf", lower), (lower, upper), trust(root)))


def test_name_constraints_of_the_anchor() -> None:
    only = x509.NameConstraints(
        [x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Allowed")]))], None
    )
    root = issue("Root", ca=True, extra=((only, True),))
    assert judge(issue("Allowed", root), (), trust(root)).status is PathStatus.trusted
    assert is_chain_fault(judge(issue("Leaf", root), (), trust(root)))


def test_policies_of_the_anchor_are_not_demanded_below() -> None:
    policies = x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("1.2.3"), None)])
    root = issue("Root", ca=True, extra=((policies, False),))
    assert judge(issue("Leaf", root), (), trust(root)).status is PathStatus.trusted


def test_an_unknown_critical_extension() -> None:
    for critical in (True, False):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        result = judge(issue("Leaf", ROOT, extra=((unknown, critical),)), (), trust(ROOT))
        assert is_chain_fault(result) is critical


@pytest.mark.parametrize(
    ("oid", "digest", "trusted"),
    [
        ("06092a864886f70d010105", hashes.SHA1(), False),
        ("06082a811ccf55018379", hashes.SHA1(), False),
        ("06082a811ccf5501837a", hashes.SHA256(), True),
        ("06082a811ccf55018378", hashes.SM3(), True),
    ],
    ids=["sha1", "sha1-gm", "sha256-gm", "sm3"],
)
def test_weak_digests_above_the_leaf(oid: str, digest: hashes.HashAlgorithm, trusted: bool) -> None:
    key = rsa.generate_private_key(65537, 2048)
    root = issue("Root", ca=True, key=key)
    identifier = tlv(0x30, bytes.fromhex(oid), b"\x05\x00")
    own = ec.generate_private_key(ec.SECP256R1())
    leaf = Certificate.from_der(
        odd_certificate(
            own,
            issuer=COMMON_ROOT,
            inner=identifier,
            outer=identifier,
            sign=lambda tbs: key.sign(tbs, padding.PKCS1v15(), digest),
        )
    )
    assert leaf.is_issued_by(root.certificate)
    result = validate_path(leaf, (), trust(root), NOW)
    assert result.status is PathStatus.trusted if trusted else is_chain_fault(result)
    assert validate_path(leaf, (), trust(leaf), NOW).status is PathStatus.pinned


def test_short_rsa_keys_above_the_leaf() -> None:
    small = issue("Root", ca=True, key=rsa.generate_private_key(65537, 1024))
    assert is_chain_fault(judge(issue("Leaf", small), (), trust(small)))


def test_an_algorithm_named_in_two_ways_is_no_path() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    root = issue("Root", ca=True, key=key)
    sound = Certificate.from_der(odd_certificate(key, issuer=COMMON_ROOT))
    torn = Certificate.from_der(
        odd_certificate(key, issuer=COMMON_ROOT, inner=bytes.fromhex("300a06082a8648ce3d040303"))
    )
    assert validate_path(sound, (), trust(root), NOW).status is PathStatus.trusted
    assert is_chain_fault(validate_path(torn, (), trust(root), NOW))


def test_hostile_extensions_are_a_fault_of_the_chain() -> None:
    """Extensions we do not read ourselves are parsed only by the path library; what it raises must not come out."""
    key = ec.generate_private_key(ec.SECP256R1())
    root = issue("Root", ca=True, key=key)
    refused = 0
    for oid in ("551d23", "551d0e", "551d11", "551d1e", "551d20", "551d21", "551d24", "551d36", "551d1f"):
        for value in (b"", b"\xff", b"\x30\x80", b"\x04\x01", tlv(0x30, tlv(0x30, b"\x06\x01"))):
            odd = tlv(0x30, tlv(0x06, bytes.fromhex(oid)), b"\x01\x01\xff", tlv(0x04, value))
            leaf = Certificate.from_der(odd_certificate(key, issuer=COMMON_ROOT, extensions=(odd,)))
            refused += is_chain_fault(validate_path(leaf, (), trust(root), NOW))
    assert refused > 20


@pytest.mark.parametrize(
    "tree",
    [
        tlv(0x87, b"\x01\0\0\0\xff\0\0\0"),  # IP addresses: the library has no rule for them
        tlv(0xA3, tlv(0x30)),  # X.400: no name it can compare
        tlv(0xA0, tlv(0x06, b"\x2a"), tlv(0xA0, tlv(0x05))),
    ],
)
def test_name_constraints_that_cannot_be_checked_are_a_fault_of_the_chain(tree: bytes) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    constraints = tlv(0x30, tlv(0xA0, tlv(0x30, tree)))
    basic = tlv(0x30, bytes.fromhex("0603551d13"), b"\x01\x01\xff", tlv(0x04, tlv(0x30, b"\x01\x01\xff")))
    limited = tlv(0x30, bytes.fromhex("0603551d1e"), b"\x01\x01\xff", tlv(0x04, constraints))
    root = Certificate.from_der(
        odd_certificate(key, issuer=COMMON_ROOT, subject=COMMON_ROOT, extensions=(basic, limited))
    )
    names = tlv(0x30, bytes.fromhex("0603551d11"), tlv(0x04, tlv(0x30, tlv(0x87, b"\x01\2\3\4"))))
    leaf = Certificate.from_der(odd_certificate(key, issuer=COMMON_ROOT, extensions=(names,)))
    assert is_chain_fault(validate_path(leaf, (), TrustStore((root,)), NOW))


def test_a_defect_of_ours_is_not_reported_as_a_bad_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    from sealagent.pki import chain

    def broken(*_: object) -> object:
        raise NameError("a slip of the programmer")

    root = issue("Root", ca=True)
    monkeypatch.setattr(chain, "as_anchor", broken)
    with pytest.raises(NameError):
        validate_path(issue("Leaf", root).certificate, (), TrustStore((root.certificate,)), NOW)


# Limits


def test_loops_of_authorities_end() -> None:
    first, second = issue("A", ca=True), issue("B", ca=True)
    a_by_b, b_by_a = issue("A", second, ca=True, key=first.key), issue("B", first, ca=True, key=second.key)
    result = judge(issue("Leaf", first), (a_by_b, b_by_a, first, second), trust(ROOT))
    assert result.status is PathStatus.no_anchor
    looped = issue("Self", ca=True)
    again = issue("Self", looped, ca=True, key=looped.key)
    assert judge(issue("Leaf", looped), (looped, again), trust(ROOT)).status is PathStatus.no_anchor


def crossed(count: int, each: int) -> tuple[list[Issued], list[Issued]]:
    """Return authorities of one name and ``each`` cross-certificates of every one by the others."""
    keys = [issue("Cross", ca=True) for _ in range(count)]
    made = [
        issue("Cross", keys[(index + step) % count], key=own.key, ca=True)
        for index, own in enumerate(keys)
        for step in range(1, each + 1)
    ]
    return keys, made


@pytest.mark.parametrize("reachable", [False, True])
def test_cross_certified_authorities_take_bounded_time(reachable: bool) -> None:
    keys, made = crossed(8, 7)
    # "Cross" is also the name of an anchor with another key, so that the library must walk.
    anchor = keys[0] if reachable else issue("Cross", ca=True)
    started = time.perf_counter()
    result = judge(issue("Leaf", keys[3]), tuple(made), trust(anchor))
    assert time.perf_counter() - started < 5
    assert result.status in ((PathStatus.trusted, PathStatus.invalid) if reachable else (PathStatus.invalid,))


def test_a_path_that_is_too_long() -> None:
    chain = [ROOT]
    for index in range(14):
        chain.append(issue(f"CA{index}", chain[-1], ca=True))
    assert is_chain_fault(judge(issue("Leaf", chain[-1]), tuple(chain[1:]), trust(ROOT)))
    assert judge(issue("Leaf", chain[8]), tuple(chain[1:]), trust(ROOT)).status is PathStatus.trusted


def test_too_many_candidates() -> None:
    result = judge(LEAF, (MIDDLE,) * (MAX_OTHERS + 1), trust(ROOT))
    assert is_chain_fault(result)
    assert str(MAX_OTHERS) in result.detail


# Trust lists


def test_trust_is_loaded_from_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "anchors"
    (folder / "below").mkdir(parents=True)
    (folder / "b.pem").write_text(pem("CERTIFICATE", ROOT.certificate.der) + pem("CERTIFICATE", MIDDLE.certificate.der))
    (folder / "a.DER").write_bytes(LEAF.certificate.der)
    (folder / "notes.txt").write_text("not a certificate")
    (folder / "below" / "x.crt").write_text("not read")
    single = tmp_path / "any-name"
    single.write_bytes(ROOT.certificate.der)
    store = TrustStore.load([folder, single], "test")
    assert store.certificates == (LEAF.certificate, ROOT.certificate, MIDDLE.certificate)
    assert store.name == "test"
    assert TrustStore.load([]).certificates == ()


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n", None])
def test_a_trust_file_that_cannot_be_used_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "bad.pem"
    if content is not None:
        file.write_bytes(content)
    for path in (file, tmp_path) if content is not None else (file,):
        with pytest.raises(SealAgentError) as caught:
            TrustStore.load([path])
        assert caught.value.code == "config_invalid"
        assert caught.value.facts == {"path": str(file)}
