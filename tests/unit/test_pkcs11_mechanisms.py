"""What is handed to the device, and what its answer becomes."""

from __future__ import annotations

import ctypes
import hashlib

import pytest
from asn1crypto.algos import DigestInfo
from asn1crypto.core import Null
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import MechanismFacts
from sealdrivers.pkcs11.mechanisms import CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, recipes
from sealdrivers.pkcs11.sm2 import CKM_ECDSA

EVERYTHING = {number: MechanismFacts(abi.CKF_SIGN, 0, 0) for number in (CKM_RSA_PKCS, CKM_RSA_PKCS_PSS, CKM_ECDSA)}
ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ORDER_OF_P384 = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973


def test_best_first() -> None:
    assert next(iter(recipes(KeyType.RSA_3072, 3072, EVERYTHING))) is Mechanism.RSA_PKCS1_SHA256
    assert next(iter(recipes(KeyType.EC_P256, 256, EVERYTHING))) is Mechanism.ECDSA_SHA256
    assert next(iter(recipes(KeyType.EC_P384, 384, EVERYTHING))) is Mechanism.ECDSA_SHA384


@pytest.mark.parametrize("kind", [KeyType.SM2, KeyType.OTHER])
def test_what_is_never_offered(kind: KeyType) -> None:
    assert recipes(kind, 256, EVERYTHING) == {}


@pytest.mark.parametrize(
    ("facts", "offered"),
    [
        (MechanismFacts(abi.CKF_SIGN, 2048, 4096), True),
        (MechanismFacts(abi.CKF_SIGN, 1024, 2048), True),
        (MechanismFacts(abi.CKF_SIGN, 0, 0), True),
        (MechanismFacts(abi.CKF_SIGN, 512, 1024), False),
        (MechanismFacts(abi.CKF_SIGN, 3072, 4096), False),
        (MechanismFacts(0, 2048, 4096), False),
        (None, False),
    ],
)
def test_mechanism_list_decides(facts: MechanismFacts | None, offered: bool) -> None:
    listed = {} if facts is None else {CKM_RSA_PKCS: facts}
    found = recipes(KeyType.RSA_2048, 2048, listed)
    assert (Mechanism.RSA_PKCS1_SHA256 in found) is offered
    assert Mechanism.RSA_PSS_SHA256 not in found


@pytest.mark.parametrize("name", ["sha256", "sha384", "sha512"])
def test_digest_info(name: str) -> None:
    recipe = recipes(KeyType.RSA_2048, 2048, EVERYTHING)[Mechanism(f"rsa-pkcs1-{name}")]
    digest = hashlib.new(name, b"message").digest()
    info = DigestInfo({"digest_algorithm": {"algorithm": name, "parameters": Null()}, "digest": digest})
    assert recipe.input(digest) == info.dump()


@pytest.mark.parametrize(
    ("name", "values"), [("sha256", (0x250, 2, 32)), ("sha384", (0x260, 3, 48)), ("sha512", (0x270, 4, 64))]
)
def test_pss_parameters(name: str, values: tuple[int, int, int]) -> None:
    recipe = recipes(KeyType.RSA_2048, 2048, EVERYTHING)[Mechanism(f"rsa-pss-{name}")]
    assert recipe.native.ulParameterLen == ctypes.sizeof(abi.CK_RSA_PKCS_PSS_PARAMS)
    parameters = abi.CK_RSA_PKCS_PSS_PARAMS.from_address(recipe.native.pParameter)
    assert (parameters.hashAlg, parameters.mgf, parameters.sLen) == values


def test_ecdsa_takes_the_leftmost_octets_of_a_longer_digest() -> None:
    found = recipes(KeyType.EC_P256, 256, EVERYTHING)
    digest = bytes(range(64))
    assert found[Mechanism.ECDSA_SHA512].input(digest) == digest[:32]
    assert recipes(KeyType.EC_P384, 384, EVERYTHING)[Mechanism.ECDSA_SHA256].input(digest[:32]) == digest[:32]


@given(st.integers(1, ORDER_OF_P256 - 1), st.integers(1, ORDER_OF_P256 - 1))
def test_raw_becomes_der(r: int, s: int) -> None:
    recipe = recipes(KeyType.EC_P256, 256, EVERYTHING)[Mechanism.ECDSA_SHA256]
    assert recipe.result(r.to_bytes(32, "big") + s.to_bytes(32, "big")) == encode_dss_signature(r, s)


@pytest.mark.parametrize("value", [1, 0x7F, 0x80, 0xFF, 0x100, 1 << 383, ORDER_OF_P384 - 1])
def test_edges_of_der(value: int) -> None:
    recipe = recipes(KeyType.EC_P384, 384, EVERYTHING)[Mechanism.ECDSA_SHA384]
    assert recipe.result(value.to_bytes(48, "big") * 2) == encode_dss_signature(value, value)


@pytest.mark.parametrize("value", [0, ORDER_OF_P384, (1 << 384) - 1])
def test_numbers_outside_the_order(value: int) -> None:
    recipe = recipes(KeyType.EC_P384, 384, EVERYTHING)[Mechanism.ECDSA_SHA384]
    for r, s in ((value, 1), (1, value)):
        with pytest.raises(DeviceFailure):
            recipe.result(r.to_bytes(48, "big") + s.to_bytes(48, "big"))


@pytest.mark.parametrize("answer", [b"", b"\1" * 63, b"\1" * 65, b"\1" * 96, b"\0" * 64, b"\0" * 32 + b"\1" * 32])
def test_answer_that_is_no_ecdsa_signature(answer: bytes) -> None:
    with pytest.raises(DeviceFailure):
        recipes(KeyType.EC_P256, 256, EVERYTHING)[Mechanism.ECDSA_SHA256].result(answer)


@pytest.mark.parametrize("length", [0, 255, 257, 512])
def test_answer_that_is_no_rsa_signature(length: int) -> None:
    with pytest.raises(DeviceFailure):
        recipes(KeyType.RSA_2048, 2048, EVERYTHING)[Mechanism.RSA_PSS_SHA256].result(bytes(length))
