"""``sealdrivers.probe`` on SoftHSM, and on the soft PKCS#11 module with vendors' SM2 numbers and faults."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

import softgm
import softhsm2_fixtures
from probe_parts import codes, findings, run, section, untranslated
from sealdrivers.probe.child import SECTIONS
from sealdrivers.probe.model import Outcome, Report
from sealdrivers.probe.process import TokenChoice
from softgm import SoftSm2, SoftSm2Token
from softgm.keys import openssl
from softhsm2_fixtures import SM2_CURVE, SoftToken

ENTRIES = {
    "neutral": "xipki placeholders",
    "tass": "TASS",
    "sansec": "Sansec",
    "luna": "Thales Luna",
    "koal": "Koal",
    "ibm-ep11": "IBM EP11",
    "longmai": "Longmai mToken GM3000",
    "weston": "Weston-style card",
    "card2009": "Cipher card of 2009",
    "mk1": "MsSince MK-1",
}
"""The soft module's profiles, and the entries of the vendor table they stand for."""


SM2 = frozenset(["sm2"])


@pytest.fixture
def token(softsm2_new_token: Callable[..., SoftSm2Token]) -> SoftSm2Token:
    """A token with an SM2 key and its certificate."""
    made = softsm2_new_token()
    made.add_certificate(softgm.certificate(made.add_key("sm2")))
    return made


def probe_of(token: SoftSm2Token, **options: object) -> Report:
    return run(token.library, token.user_pin, **options)  # type: ignore[arg-type]


def public(token: SoftSm2Token, **options: object) -> Report:
    return run(token.library, **options)  # type: ignore[arg-type]


# SoftHSM itself


def test_softhsm(softhsm_token: SoftToken) -> None:
    softhsm_token.add_key("rsa-2048", object_id=b"\x01")
    softhsm_token.add_key("ec-p256", object_id=b"\x02")
    softhsm_token.add_key("ec-p384", object_id=b"\x03", always_authenticate=True)
    certificate = softhsm2_fixtures.certificate(softhsm2_fixtures.session_key("ec-p256"))
    softhsm_token.add_certificate(certificate, object_id=b"\x02")
    report = run(softhsm_token.module, softhsm_token.user_pin, token=softhsm_token.label)
    assert report.usable
    assert {each.name: each.outcome for each in report.sections} == {
        name: Outcome.DONE for name in ("load", *SECTIONS["pkcs11"])
    }
    assert report.library.vendor_entry == "SoftHSM 2"
    assert section(report, "abi").facts["os_locking"] is True
    assert "CKM_RSA_PKCS" in {row["name"] for row in section(report, "mechanisms").facts["mechanisms"]}
    signed = section(report, "signatures").facts["signatures"]
    assert {row["result"] for row in signed} == {"verified"}
    assert {row["small_buffer"] for row in signed} == {"CKR_BUFFER_TOO_SMALL"}
    assert {row["type"] for row in section(report, "signatures").facts["keys"]} == {"rsa-2048", "ec-p256", "ec-p384"}
    assert {"sm2_no_key", "events_not_offered"} <= codes(report, "note")
    assert untranslated(report) == set()
    text = json.dumps(report.to_json())
    assert softhsm_token.serial not in text
    assert softhsm_token.label not in text
    assert softhsm_token.user_pin not in text


def test_softhsm_signs_ecdsa_on_the_sm2_curve(softhsm_token: SoftToken) -> None:
    softhsm_token.generate_curve_key(SM2_CURVE)
    report = run(softhsm_token.module, softhsm_token.user_pin, token=softhsm_token.serial)
    (row,) = section(report, "sm2").facts["mechanisms"]
    assert (row["name"], row["with_32_octets"], row["with_a_message"]) == ("CKM_ECDSA", "ECDSA", "ECDSA")
    assert "sm2_ecdsa" in codes(report, "quirk")
    assert report.blocking == ("sm2_none",)
    softhsm_token.add_key("ec-p256", object_id=b"\x02")
    report = run(softhsm_token.module, softhsm_token.user_pin, token=softhsm_token.serial)
    assert "sm2_none" in codes(report, "fault")
    assert report.usable, "another key works"


# Vendors' numbers


@pytest.mark.parametrize("profile", ENTRIES)
def test_each_vendor_is_classified(softsm2: SoftSm2, token: SoftSm2Token, profile: str) -> None:
    softsm2.profile = profile
    report = probe_of(token, profile=ENTRIES[profile], only=SM2)
    assert report.usable
    assert report.library.sm2_profile == ENTRIES[profile]
    assert {"sm2_signs_e", "sm2_claim_confirmed"} <= codes(report, "ok")
    assert "sm2_claim_differs" not in codes(report)
    rows = {row["mechanism"]: row for row in section(report, "sm2").facts["mechanisms"]}
    claimed = {row["claimed"].partition(",")[0]: row for row in rows.values() if row["claimed"]}
    assert claimed["e"]["with_32_octets"] == "SM2 over e"
    assert untranslated(report) == set()
    if "Z||M" in claimed:
        assert claimed["Z||M"]["with_a_message"] == "SM2 over SM3(Z || input)"
    if "M" in claimed:
        assert claimed["M"]["with_a_message"] == "SM2 over SM3(input)"


def test_without_an_entry_every_known_number_is_tried(softsm2: SoftSm2, token: SoftSm2Token) -> None:
    softsm2.profile = "sansec"
    report = probe_of(token, only=SM2)
    assert report.library.sm2_profile == ""
    found = {row["mechanism"]: row["with_32_octets"] for row in section(report, "sm2").facts["mechanisms"]}
    assert found["0x80008104"] == found["0x80008105"] == "SM2 over e"
    assert found["0x80008102"] == "SM2 over SM3(Z || input)"
    assert found["0x00001041"] == "ECDSA"


@pytest.mark.parametrize(
    ("kind", "code", "severity"),
    [
        ("ecdsa", "sm2_ecdsa", "quirk"),
        ("no_z", "sm2_claim_differs", "quirk"),
        ("with_z", "sm2_hashes", "note"),
        ("raw", "sm2_claim_differs", "quirk"),
        ("nonminimal", "der_not_minimal", "quirk"),
        ("flip", "sm2_unknown", "quirk"),
        ("zero", "sm2_unknown", "quirk"),
    ],
)
def test_each_wrong_signature(softsm2: SoftSm2, token: SoftSm2Token, kind: str, code: str, severity: str) -> None:
    softsm2.profile = "sansec"
    token.set_fault("signature", "C_Sign", kind)
    assert code in codes(probe_of(token, profile="Sansec", only=SM2), severity)


def test_nothing_signs_e(softsm2: SoftSm2, token: SoftSm2Token) -> None:
    softsm2.profile = "tass"
    token.set_fault("signature", "C_Sign", "with_z")
    report = probe_of(token, profile="TASS", only=SM2)
    assert report.blocking == ("sm2_none",)
    assert "sm2_claim_differs" in codes(report)


# Faults

FAULTS = [
    # fault, function, argument: section, finding, severity
    ("text", "C_GetTokenInfo", "nul", "tokens", "text_padding", "quirk"),
    ("text", "C_GetTokenInfo", "gbk", "tokens", "text_encoding", "quirk"),
    ("raw_point", "C_GetAttributeValue", None, "objects", "p11_point_form", "quirk"),
    ("single_session", "C_OpenSession", None, "sessions", "p11_one_session", "quirk"),
    ("endless", "C_FindObjects", None, "objects", "p11_search_limit", "fault"),
    ("oversize", "C_FindObjects", None, "objects", "answer_invalid", "fault"),
    ("return", "C_OpenSession", "0x30", "objects", "call_failed", "fault"),
    ("return", "C_GetMechanismInfo", "0x70", "mechanisms", "p11_mechanism_refused", "quirk"),
    ("crash", "C_GetAttributeValue", "segv", "objects", "crashed", "fault"),
]


@pytest.mark.parametrize(("fault", "function", "argument", "where", "code", "severity"), FAULTS)
def test_each_fault_is_its_finding(
    token: SoftSm2Token, fault: str, function: str, argument: str | None, where: str, code: str, severity: str
) -> None:
    token.set_fault(fault, function, argument)
    report = public(token, only=frozenset([where]))
    assert code in {each.code for each in section(report, where).findings if each.severity == severity}
    assert report.usable is (severity != "fault")


# The SM2 key d = 559 (ECPrivateKey, RFC 5915). Its X begins with 3F, so the bare point begins like an OCTET STRING.
POINT_LIKE_A_STRING = bytes.fromhex(f"30310201010420{559:064x}a00a06082a811ccf5501822d")


@pytest.mark.parametrize("bare", [True, False])
def test_a_bare_point_is_told_from_a_string_whatever_its_octets(
    softsm2_new_token: Callable[..., SoftSm2Token], bare: bool
) -> None:
    token = softsm2_new_token()
    pem = openssl("pkey", "-inform", "DER", given=POINT_LIKE_A_STRING)
    assert softgm.spki(pem)[-65:-63] == b"\x04\x3f"
    token.add_key("sm2", pem=pem)
    if bare:
        token.set_fault("raw_point", "C_GetAttributeValue")
    found = codes(public(token, only=frozenset(["objects"])))
    assert ("p11_point_form" in found) is bare


MODULE_FAULTS = [
    ("cant_lock", "C_Initialize", None, "abi", "p11_cannot_lock", "quirk"),
    ("return", "C_Initialize", "0x5", "abi", "p11_initialize_failed", "fault"),
    ("text", "C_GetInfo", "nul", "abi", "text_padding", "quirk"),
    ("return", "C_WaitForSlotEvent", "0x54", "events", "events_not_offered", "note"),
    ("holds_lock", "C_WaitForSlotEvent", None, "events", "wait_blocks_others", "quirk"),
    ("return", "C_Finalize", "0x5", "abi", "p11_no_second_life", "quirk"),
]


@pytest.mark.parametrize(("fault", "function", "argument", "where", "code", "severity"), MODULE_FAULTS)
def test_each_fault_of_the_module(
    softsm2: SoftSm2,
    token: SoftSm2Token,
    fault: str,
    function: str,
    argument: str | None,
    where: str,
    code: str,
    severity: str,
) -> None:
    softsm2.set_fault(fault, function, argument)
    report = public(token, call=4, only=frozenset([where]))
    assert code in codes(report, severity)
    assert report.usable is (severity != "fault")


def test_events_work(token: SoftSm2Token) -> None:
    assert "events_work" in codes(public(token, only=frozenset(["events"])), "ok")


def test_a_hang_names_its_call(token: SoftSm2Token) -> None:
    token.set_fault("hang", "C_GetMechanismList")
    report = public(token, call=2, only=frozenset(["mechanisms", "objects"]))
    (finding,) = findings(report, "hung")
    assert finding.detail == "did not return from C_GetMechanismList within 2 s"
    assert section(report, "mechanisms").outcome is Outcome.HUNG
    assert section(report, "objects").outcome is Outcome.DONE


def test_a_crash_with_one_mechanism_spares_the_others(softsm2: SoftSm2, token: SoftSm2Token) -> None:
    softsm2.profile = "sansec"
    token.set_fault("crash", "C_Sign", "segv", times=1)
    report = probe_of(token, profile="Sansec", only=SM2)
    sm2 = section(report, "sm2")
    assert sm2.outcome is Outcome.CRASHED
    (crash,) = [finding for finding in sm2.findings if finding.code == "crashed"]
    assert crash.where == "C_Sign"
    assert "mechanism 0x80008104" in crash.detail
    assert len(sm2.facts["mechanisms"]) >= 5
    assert sm2.facts["keys"] == [{"key": 1, "type": "sm2", "works": True, "mechanisms": 1}]
    assert token.tries_left() == 6


# PINs


def test_a_wrong_pin_is_offered_once(token: SoftSm2Token) -> None:
    report = run(token.library, "wrong-pin", only=frozenset(["signatures", "sm2"]))
    assert "pin_incorrect" in codes(report, "note")
    assert token.tries_left() == 5
    assert section(report, "sm2").outcome is Outcome.NOT_RUN


def test_a_crash_in_the_login_is_not_repeated(token: SoftSm2Token) -> None:
    token.set_fault("crash", "C_Login", "segv", late=True)
    report = run(token.library, "wrong-pin", only=frozenset(["signatures", "sm2"]))
    assert findings(report, "crashed")[0].where == "C_Login"
    assert token.tries_left() == 5


@pytest.mark.parametrize(("left", "code"), [(1, "pin_last_try"), (0, "pin_locked")])
def test_the_last_try_is_never_spent(token: SoftSm2Token, left: int, code: str) -> None:
    def ask(choice: TokenChoice) -> bytearray:
        raise AssertionError("nobody may be asked")

    token.set_tries_left(left)
    report = run(token.library, ask, only=frozenset(["signatures", "sm2"]))
    assert {section(report, name).outcome for name in ("signatures", "sm2")} == {Outcome.NOT_RUN}
    assert code in {each.code for each in section(report, "sm2").findings}
    assert token.tries_left() == left


def test_a_pin_pad_is_left_alone(token: SoftSm2Token) -> None:
    token.protect()
    report = run(token.library, "not needed", only=SM2)
    assert "pin_on_device" in codes(report)
    assert not report.signatures
