"""SM2 over PKCS#11: which mechanisms are tried, what an answer turns out to be, and what is kept of that."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers import sm2
from sealdrivers.contract import ModuleInfo
from sealdrivers.errors import DeviceFailure
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import MechanismFacts
from sealdrivers.pkcs11.sm2 import CKM_ECDSA, Findings, Signed, Sm2Support, classify, read_signature
from sealdrivers.vendors import ModuleOptions, vendor_table

PROFILES = {profile.name: profile for profile in vendor_table().sm2}
SIGNS = MechanismFacts(abi.CKF_SIGN, 256, 256)
E = bytes(range(32))
MODULE = ModuleInfo(__file__, "pkcs11", "maker", "description", "1.0")

# A key and its signatures; the private half is 7, so that every value can be worked out again.
D = 7


def _multiple(k: int) -> tuple[int, int]:
    """Return kG, by the slow rule."""
    x, y, result = sm2.GX, sm2.GY, None
    while k:
        if k & 1:
            result = (x, y) if result is None else _sum(result, (x, y))
        x, y = _sum((x, y), (x, y))
        k >>= 1
    assert result is not None
    return result


def _sum(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    (x1, y1), (x2, y2) = first, second
    slope = (3 * x1 * x1 + sm2.A) * pow(2 * y1, -1, sm2.P) if first == second else (y2 - y1) * pow(x2 - x1, -1, sm2.P)
    x3 = (slope * slope - x1 - x2) % sm2.P
    return x3, (slope * (x1 - x3) - y1) % sm2.P


X, Y = _multiple(D)
POINT = b"\x04" + X.to_bytes(32, "big") + Y.to_bytes(32, "big")


def sign(e: bytes, k: int = 12345) -> tuple[int, int]:
    """Sign e with SM2 (GB/T 32918.2, 6.1) and a fixed k."""
    r = (int.from_bytes(e, "big") + _multiple(k)[0]) % sm2.N
    return r, pow(1 + D, -1, sm2.N) * (k - r * D) % sm2.N


def sign_ecdsa(digest: bytes, k: int = 12345) -> tuple[int, int]:
    r = _multiple(k)[0] % sm2.N
    return r, pow(k, -1, sm2.N) * (int.from_bytes(digest, "big") + r * D) % sm2.N


def sm3(octets: bytes) -> bytes:
    return hashlib.new("sm3", octets).digest()


def raw(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def support(
    name: str | None = None, offered: tuple[int, ...] = (), findings: Findings | None = None, model: str = "m"
) -> Sm2Support:
    profile = PROFILES[name] if name else None
    kept = findings or Findings(MODULE, None)
    return Sm2Support(profile, tuple(PROFILES.values()), dict.fromkeys(offered, SIGNS), kept, model)


def test_what_an_answer_is() -> None:
    message = b"a message of another length than 32 octets"
    z = sm3(sm2.z_input(X, Y))
    assert classify(POINT, E, *sign(E)) is Signed.E
    assert classify(POINT, E, *sign_ecdsa(E)) is Signed.ECDSA
    for given_ in (E, message):
        assert classify(POINT, given_, *sign(sm3(z + given_))) is Signed.WITH_Z
        assert classify(POINT, given_, *sign(sm3(given_))) is Signed.WITHOUT_Z
        assert classify(POINT, given_, *sign_ecdsa(sm3(given_))) is Signed.ECDSA
    r, s = sign(E)
    assert classify(POINT, E, s, r) is None
    assert classify(POINT, bytes(32), r, s) is None
    assert classify(POINT, E, r + sm2.N, s) is None


@given(st.integers(1, sm2.N - 1), st.integers(1, sm2.N - 1))
def test_both_forms_are_read(r: int, s: int) -> None:
    assert read_signature(encode_dss_signature(r, s)) == (r, s, "der")
    assert read_signature(raw(r, s)) == (r, s, "raw")


@pytest.mark.parametrize(
    "octets",
    [
        b"\x30\x0a\x02\x04\x00\x00\x00\x05\x02\x02\x00\x07",  # superfluous zeros
        b"\x30\x06\x02\x01\x05\x02\x01\x07",
        b"\x30\x81\x06\x02\x01\x05\x02\x01\x07",  # a length in the long form
    ],
)
def test_der_that_is_not_minimal_is_read(octets: bytes) -> None:
    assert read_signature(octets) == (5, 7, "der")


def test_a_high_bit_without_its_zero_is_read() -> None:
    assert read_signature(b"\x30\x06\x02\x01\xf5\x02\x01\x07") == (0xF5, 7, "der")


R, S = sign(E)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        raw(R, S)[:63],
        raw(R, S) + b"\0",
        encode_dss_signature(R, S)[:-1],
        encode_dss_signature(R, S) + b"\0",
        b"\x30\x80\x02\x01\x05\x02\x01\x07\0\0",
        b"\x30\x06\x02\x01\x05\x03\x01\x07",
        b"\x30\x06\x02\x01\x05\x02\x02\x07",
        b"\x30\x05\x02\x00\x02\x01\x07",
        b"\x30\x03\x02\x01\x05",
        b"\x30\x09\x02\x01\x05\x02\x01\x07\x02\x01\x07",
        bytes(128),
    ],
    ids=range(12),
)
def test_what_is_no_signature(octets: bytes) -> None:
    with pytest.raises(DeviceFailure):
        read_signature(octets)


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_named(octets: bytes) -> None:
    try:
        r, s, _ = read_signature(octets)
    except DeviceFailure:
        return
    assert r >= 0 <= s


def test_a_profiles_mechanisms_are_tried_and_offered_ones_first() -> None:
    assert support("Sansec").candidates == (0x80008104, 0x80008105)
    assert support("Sansec", (0x80008105, CKM_ECDSA)).candidates == (0x80008105, 0x80008104)


def test_a_module_nobody_knows_is_tried_with_every_known_number_it_offers_and_ecdsa_last() -> None:
    assert support(None, (CKM_ECDSA, 0x80000B21, 0x80008000, 0x1)).candidates == (0x80008000, 0x80000B21, CKM_ECDSA)
    assert support().candidates == ()
    assert "no mechanism" in (support().refusal or "")
    listed = {CKM_ECDSA: MechanismFacts(0, 0, 0)}  # listed, but not for signing
    assert Sm2Support(None, (), listed, Findings(MODULE, None), "m").candidates == ()


@pytest.mark.parametrize("encode", [raw, encode_dss_signature])
def test_the_first_signature_decides(encode: object) -> None:
    assert callable(encode)
    found = support("TASS")
    (number,) = found.candidates
    der = found.signature(number, POINT, E, encode(R, S))
    assert der is not None
    assert decode_dss_signature(der) == (R, S)
    assert found.found(number) is Signed.E
    # From now on the answer is only read: the signing line verifies each.
    assert found.signature(number, POINT, bytes(32), encode(R, S)) == der


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (sign_ecdsa(E), "ECDSA"),
        (sign(sm3(sm3(sm2.z_input(X, Y)) + E)), "with Z"),
        (sign(sm3(E)), "without Z"),
    ],
    ids=["ecdsa", "with Z", "without Z"],
)
def test_a_mechanism_that_signs_something_else_is_refused_for_good(answer: tuple[int, int], reason: str) -> None:
    found = support("TASS")
    (number,) = found.candidates
    assert found.signature(number, POINT, E, raw(*answer)) is None
    assert found.usable == ()
    assert reason in (found.refusal or "")
    assert reason in found.unsupported().message


def test_a_fault_is_no_property_of_a_mechanism() -> None:
    found = support("TASS")
    (number,) = found.candidates
    for answer in (raw(S, R), raw(R, 0), bytes(64), b"\xff" * 64):
        with pytest.raises(DeviceFailure):
            found.signature(number, POINT, E, answer)
    assert found.usable == (number,)
    assert found.signature(number, POINT, E, raw(R, S)) is not None


def test_findings_are_kept_by_library_and_model(tmp_path: Path) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"one")
    info = ModuleInfo(str(library), "pkcs11", "maker", "description", "1.0")
    folder = tmp_path / "findings"
    first = support("Sansec", findings=Findings(info, folder), model="a")
    first.signature(0x80008104, POINT, E, raw(*sign_ecdsa(E)))
    first.signature(0x80008105, POINT, E, raw(R, S))
    again = support("Sansec", findings=Findings(info, folder), model="a")
    assert again.usable == (0x80008105,)
    assert again.found(0x80008104) is Signed.ECDSA
    assert support("Sansec", findings=Findings(info, folder), model="b").usable == (0x80008104, 0x80008105)
    library.write_bytes(b"two")
    assert support("Sansec", findings=Findings(info, folder), model="a").found(0x80008104) is None
    assert os.stat(folder).st_mode & 0o077 == 0
    (file,) = folder.iterdir()
    assert json.loads(file.read_text())["mechanisms"] == {"a": {"0x80008104": "ecdsa", "0x80008105": "e"}}


def test_tokens_of_one_model_share_findings() -> None:
    findings = Findings(MODULE, None)
    one, two = support("TASS", findings=findings), support("TASS", findings=findings)
    one.signature(0x80008000, POINT, E, raw(*sign_ecdsa(E)))
    assert two.usable == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"mechanisms": []}',
        '{"mechanisms": {"a": []}}',
        '{"mechanisms": {"a": {"x": "e"}}}',
        '{"mechanisms": {"a": {"0x1": "unheard-of"}}}',
        '{"mechanisms": {"a": {"0x1": 1}}}',
        "[" * 9999,
        " " * (65 << 10),
    ],
    ids=range(10),
)
def test_a_damaged_file_is_no_obstacle(tmp_path: Path, content: str) -> None:
    first = Findings(MODULE, tmp_path)
    first.add("a", 1, Signed.E)
    (file,) = tmp_path.iterdir()
    file.write_text(content)
    again = Findings(MODULE, tmp_path)
    assert again.of("a") == {}
    again.add("a", 2, Signed.ECDSA)
    assert Findings(MODULE, tmp_path).of("a") == {2: Signed.ECDSA}


def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    findings = Findings(MODULE, tmp_path / "file" / "folder")
    findings.add("a", 1, Signed.E)
    assert findings.of("a") == {1: Signed.E}
    assert "could not be kept" in caplog.text


def test_the_profile_that_is_named_wins_and_then_the_last_that_matches() -> None:
    shipped = tuple(PROFILES.values())
    tass = ModuleInfo("/usr/lib/libtass.so", "pkcs11")
    assert ModuleOptions(shipped).profile_for(tass) == PROFILES["TASS"]
    assert ModuleOptions(shipped, "Koal").profile_for(tass) == PROFILES["Koal"]
    assert ModuleOptions(shipped).profile_for(MODULE) is None
    assert ModuleOptions(shipped, "unheard-of").profile_for(tass) is None
