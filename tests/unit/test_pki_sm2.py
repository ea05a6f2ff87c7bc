"""SM2 verification: the published example, the openssl command line, and libcrypto and Python against each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from pki_parts import (
    EXAMPLE_SCALAR,
    der_integers,
    integers,
    sm2_fresh_key,
    sm2_key_file,
    sm2_openssl_accepts,
    sm2_sign,
    spki_of,
)

from sealagent.errors import FormatError
from sealagent.pki import libcrypto
from sealagent.pki.sm2 import SM2PublicKey
from sealdrivers import sm2
from sealdrivers.signatures import der_signature
from sealdrivers.sm2 import DEFAULT_ID, N

# GB/T 32918.5, signature example
X = 0x09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020
Y = 0xCCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13
Z = "b2e14c5c79c6df5b85f4fe7ed8db7a262b9da7e07ccb0ea9f4747b8ccda8a4f3"
E = "f0b43e94ba45accaace692ed534382eb17e6ab5a19ce7b31f4486fdfc0d28640"
R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA
KEY = SM2PublicKey(X, Y)


@pytest.fixture(params=["libcrypto", "python"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test once with the system's libcrypto and once without."""
    if request.param == "python":
        monkeypatch.setattr(libcrypto, "load", lambda: None)
    else:
        assert libcrypto.load() is not None, "no libcrypto with SM2 on this machine"
    return str(request.param)


def both(key: SM2PublicKey, e: bytes, r: int, s: int) -> bool:
    """Verify with libcrypto and with Python; they must agree."""
    found = key.verify(e, r, s)
    if 0 < r < N and 0 < s < N:
        assert found == sm2.verify(key.x, key.y, e, r, s)
    return found


def test_the_published_example(backend: str) -> None:
    assert KEY.z().hex() == Z
    assert KEY.e(b"message digest").hex() == E
    assert KEY.verify(bytes.fromhex(E), R, S)
    assert der_signature(R, S, N) == der_integers(R, S)
    assert der_integers(R, S).hex().startswith("3046022100f5a03b06")


def test_the_digest_is_verified_as_given_without_another_z(backend: str) -> None:
    assert not KEY.verify(KEY.e(bytes.fromhex(E)), R, S)
    assert not KEY.verify(b"message digest", R, S)


def test_another_id_is_another_digest(backend: str) -> None:
    other = KEY.e(b"message digest", b"ALICE123@YAHOO.COM")
    assert other.hex() != E
    assert not KEY.verify(other, R, S)
    assert KEY.z(b"") != KEY.z(DEFAULT_ID)
    with pytest.raises(ValueError, match="two octets"):
        KEY.z(bytes(8192))


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, S), (R, 0), (0, 0), (N, S), (R, N), (R + N, S), (R, S + N), (S, R), (-R, S), (R, -S),
        (N - S, S), (R, N - R), (1, N - 1), (R ^ 1, S), (R, S ^ 1), (1 << 300, S), (R, (N - S) % N),
    ],
)  # fmt: skip
def test_values_out_of_range_swapped_or_changed_are_refused(backend: str, r: int, s: int) -> None:
    assert KEY.verify(bytes.fromhex(E), r, s) is False


def test_a_digest_of_another_length_is_refused(backend: str) -> None:
    assert not KEY.verify(b"\0" + bytes.fromhex(E), R, S)
    assert not KEY.verify(bytes.fromhex(E)[1:], R, S)


@pytest.mark.parametrize(
    "point",
    [
        b"",
        b"\x04",
        KEY.point[:-1],
        KEY.point + b"\0",
        b"\x02" + KEY.point[1:33],
        b"\x03" + KEY.point[1:],
        b"\x00",
        b"\x04" + bytes(64),
        KEY.point[:-1] + bytes([KEY.point[-1] ^ 1]),
        b"\x04" + KEY.point[33:] + KEY.point[1:33],
        b"\x04" + sm2.P.to_bytes(32, "big") + KEY.point[33:],
        b"\x04" + b"\xff" * 64,
    ],
)
def test_points_off_the_curve_and_other_encodings_are_refused(point: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        SM2PublicKey.from_point(point)
    assert caught.value.code == "public_key_invalid"


def test_a_coordinate_beyond_the_field_is_refused_even_if_it_is_congruent() -> None:
    with pytest.raises(FormatError):
        SM2PublicKey(X + sm2.P, Y)
    with pytest.raises(FormatError):
        SM2PublicKey(X, Y - sm2.P)


def test_sixty_fresh_keys_against_openssl(tmp_path: Path) -> None:
    for index in range(60):
        file = sm2_fresh_key(tmp_path, f"key{index}")
        key = SM2PublicKey.from_spki(spki_of(file))
        assert key is not None
        message = b"message %d" % index
        e = key.e(message)
        r, s = integers(sm2_sign(file, message))
        assert both(key, e, r, s)
        bit = 1 << index
        assert not both(key, (int.from_bytes(e, "big") ^ bit).to_bytes(32, "big"), r, s)
        assert not both(key, e, r ^ bit, s)
        assert not both(key, e, r, s ^ bit)
        assert not both(key, e, s, r)
        assert not both(KEY, KEY.e(message), r, s)


def test_openssl_refuses_what_we_refuse(tmp_path: Path) -> None:
    file = sm2_key_file(tmp_path, EXAMPLE_SCALAR)
    message = b"message digest"
    e = bytes.fromhex(E)
    verdicts = []
    for r, s in [(R, S), (S, R), (R ^ 1, S), (R, S ^ (1 << 200)), (0, S), (R, N), (N - S, S)]:
        theirs = sm2_openssl_accepts(file, message, der_integers(r, s))
        assert both(KEY, e, r, s) == theirs
        verdicts.append(theirs)
    assert verdicts == [True] + [False] * 6


def test_keys_whose_coordinates_begin_with_zero_or_four(tmp_path: Path) -> None:
    """Libraries that strip "04" from hexadecimal text lose these keys."""
    wanted = {0x00: 0, 0x04: 0, 0x40: 0, 0x0F: 0}
    scalar, x, y = 1, sm2.GX, sm2.GY
    while not all(wanted.values()):
        scalar, (x, y) = scalar + 1, affine_sum((x, y), (sm2.GX, sm2.GY))
        if x >> 248 in wanted:
            wanted[x >> 248] = wanted[x >> 248] or scalar
        if y >> 248 == 0:
            wanted.setdefault(0x1000, scalar)
    for scalar in wanted.values():
        file = sm2_key_file(tmp_path, scalar)
        key = SM2PublicKey.from_spki(spki_of(file))
        assert key is not None
        assert len(key.point) == 65
        r, s = integers(sm2_sign(file, b"leading"))
        assert both(key, key.e(b"leading"), r, s)


def test_python_alone_handles_the_special_points_of_addition() -> None:
    """Keys G, -G and 2G make the shared table hold a doubling, infinity and a repeated point."""
    double = affine_sum((sm2.GX, sm2.GY), (sm2.GX, sm2.GY))
    for x, y in [(sm2.GX, sm2.GY), (sm2.GX, sm2.P - sm2.GY), double]:
        key = SM2PublicKey(x, y)
        for r, s in pairwise([1, 2, 3, N - 2, N - 1, 7]):
            e = (r * 7).to_bytes(40, "big")[-32:]
            library = libcrypto.load()
            assert library is not None
            assert sm2.verify(key.x, key.y, e, r, s) == library.verify(key.spki, e, der_integers(r, s))


def test_the_sum_at_infinity_is_refused(backend: str) -> None:
    """With the key -G, s + t(-1) = 0 for r = 0 only; with 2G, s + 2t = 0 has a solution in range."""
    x, y = affine_sum((sm2.GX, sm2.GY), (sm2.GX, sm2.GY))
    s = 3
    r = (-s * pow(2, -1, N) - s) % N  # t = -s/2
    assert (s + 2 * (r + s)) % N == 0
    assert not SM2PublicKey(x, y).verify(r.to_bytes(32, "big"), r, s)
    assert not sm2.verify(x, y, r.to_bytes(32, "big"), r, s)


def test_libraries_without_the_functions_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcrypto, "_candidates", lambda: iter(["libc.so.6", "no-such-library.so"]))
    assert libcrypto.load.__wrapped__() is None


@pytest.mark.parametrize("name", ["_EXAMPLE_SIGNATURE", "_EXAMPLE_KEY"])
def test_a_library_that_fails_the_example_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value = getattr(libcrypto, name)
    monkeypatch.setattr(libcrypto, name, value[:-1] + bytes([value[-1] ^ 1]))
    assert libcrypto.load.__wrapped__() is None


def test_many_keys_in_many_threads() -> None:
    """More keys than the cache holds, so that keys are freed while other threads verify."""
    points = [(sm2.GX, sm2.GY)]
    for _ in range(300):
        points.append(affine_sum(points[-1], (X, Y)))
    keys = [SM2PublicKey(x, y) for x, y in points]

    def work(start: int) -> list[bool]:
        return [key.verify(bytes.fromhex(E), R, S) for key in (*keys[start:], KEY, *keys[:start])]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, (0, 75, 150, 225)):
            assert found.count(True) == 1


def test_failures_leave_no_error_behind_for_others() -> None:
    """hashlib and ssl share the library's error queue of the thread."""
    library = libcrypto.load()
    assert library is not None
    assert not library.verify(KEY.spki, bytes.fromhex(E), b"not a signature")
    with pytest.raises(ValueError, match="refuses"):
        library.verify(KEY.spki[:-1] + b"\0", bytes.fromhex(E), der_integers(R, S))
    assert library._library.ERR_peek_error() == 0


def affine_sum(first: tuple[int, int], second: tuple[int, int]) -> tuple[int, int]:
    """Add two points in affine coordinates: another way than the one under test."""
    (x1, y1), (x2, y2) = first, second
    slope = (3 * x1 * x1 + sm2.A) * pow(2 * y1, -1, sm2.P) if first == second else (y2 - y1) * pow(x2 - x1, -1, sm2.P)
    x3 = (slope * slope - x1 - x2) % sm2.P
    return x3, (slope * (x1 - x3) - y1) % sm2.P
