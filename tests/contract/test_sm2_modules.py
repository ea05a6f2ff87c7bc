"""SM2 through PKCS#11 on a module with each vendor's numbers, and what it answers wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from contract_checks import verify
from contract_softgm import PemPair

from host_parts import hosted, run
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure, DriverError, MechanismNotSupported
from sealdrivers.host.service import ModuleSpec
from sealdrivers.pkcs11.driver import open_driver
from sealdrivers.pkcs11.token import Pkcs11Token
from sealdrivers.vendors import ModuleOptions, vendor_table
from softgm import PROFILES, SoftSm2, SoftSm2Token, new_key

E = bytes(range(32))
SM2 = Mechanism.SM2_SM3
SHIPPED = vendor_table().sm2
NAMES = {
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
"""Entries of the vendor table by the profiles of the soft module."""


@contextmanager
def unlocked(token: SoftSm2Token, options: ModuleOptions) -> Iterator[Pkcs11Token]:
    """Open the driver on the module and log in to the token."""
    driver = open_driver(token.module, options)
    try:
        (found,) = [each for each in driver.tokens() if each.info.serial == token.serial]
        found.login(bytearray(token.user_pin.encode()))
        yield found
    finally:
        driver.close()


def sign(token: Pkcs11Token) -> bytes:
    (info,) = token.contents().keys
    return token.key(info.uri).sign(SM2, E)


def test_every_profile_of_the_module_has_its_entry() -> None:
    assert set(NAMES) == set(PROFILES)
    assert set(NAMES.values()) == {profile.name for profile in SHIPPED}


@pytest.mark.parametrize("profile", PROFILES)
def test_a_key_is_generated_and_signs_with_each_vendors_numbers(
    softsm2: SoftSm2, softsm2_new_token: Callable[..., SoftSm2Token], profile: str
) -> None:
    softsm2.profile = profile
    token = softsm2_new_token()
    with unlocked(token, ModuleOptions(SHIPPED, NAMES[profile])) as opened:
        made = opened.generate_key(KeyType.SM2, "made", b"\x07")
        assert (made.type, made.bits, made.mechanisms, made.fault) == (KeyType.SM2, 256, (SM2,), None)
        assert made.public_key is not None
        verify(made.public_key, SM2, opened.key(made.uri).sign(SM2, E), E)
        opened.logout()
        (before,) = opened.contents().keys
        assert (before.uri, before.type, before.public_key) == (made.uri, made.type, made.public_key)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_module_that_no_entry_fits_is_found_out(
    softsm2: SoftSm2, softsm2_new_token: Callable[..., SoftSm2Token], profile: str, tmp_path: Path
) -> None:
    softsm2.profile = profile
    token = softsm2_new_token()
    pair = PemPair(token.add_key("sm2"))
    options = ModuleOptions(SHIPPED, findings=str(tmp_path))
    with unlocked(token, options) as opened:
        if profile == "weston":  # X and Y are in attributes that only its entry names
            with pytest.raises(MechanismNotSupported):
                sign(opened)
            token.add_certificate(pair.certificate())
        verify(pair.spki, SM2, sign(opened), E)
    with unlocked(token, options) as opened:
        # What was found is kept: nothing but the right mechanism is tried.
        token.set_fault("signature", "C_Sign", "ecdsa", times=1)
        sign(opened)  # handed out unchecked, as the signing line verifies
        (number,) = [number for number in opened.abilities().sm2.usable if opened.abilities().sm2.found(number)]
        expected = next(entry for entry in SHIPPED if entry.name == NAMES[profile]).sign
        assert number in {item.number for item in expected}


@pytest.mark.parametrize("description", ["*luna*", "*tass*"])
def test_an_operators_entry_is_chosen_by_what_the_module_says(
    softsm2: SoftSm2, softsm2_new_token: Callable[..., SoftSm2Token], tmp_path: Path, description: str
) -> None:
    """In a worker process, with the entry on its way there: only a module that an entry fits generates SM2 keys."""
    softsm2.profile = "luna"
    token = softsm2_new_token()
    table = tmp_path / "vendors.toml"
    table.write_text(
        f'[[sm2]]\nname = "Ours"\nmanufacturer = "softgm*"\ndescription = "{description}"\nkey_type = 0x80000016\n'
        'key_pair_gen = 0x80000B20\nsign = [{ mechanism = 0x80000B21, input = "e" }]\nsource = "test"\n'
    )
    options = ModuleOptions(vendor_table([table]).sm2)

    async def main() -> None:
        async with hosted(ModuleSpec(token.module.resolve(), options=options)) as tokens:
            (uri,) = [each.uri for each in await tokens.tokens() if each.serial == token.serial]
            await tokens.login(uri, bytearray(token.user_pin.encode()))
            if description == "*tass*":
                with pytest.raises(MechanismNotSupported):
                    await tokens.generate_key(uri, KeyType.SM2, "made", b"\x07")
                return
            made = await tokens.generate_key(uri, KeyType.SM2, "made", b"\x07")
            assert made.public_key is not None
            verify(made.public_key, SM2, await tokens.sign(made.uri, SM2, E), E)

    run(main)


@pytest.fixture
def neutral(softsm2_token: SoftSm2Token) -> Iterator[tuple[SoftSm2Token, Pkcs11Token, PemPair]]:
    """A token with one key, unlocked, whose sign-e mechanism is known by its entry and not looked at yet."""
    pair = PemPair(softsm2_token.add_key("sm2"))
    with unlocked(softsm2_token, ModuleOptions(SHIPPED, NAMES["neutral"])) as opened:
        yield softsm2_token, opened, pair


Neutral = tuple[SoftSm2Token, Pkcs11Token, PemPair]


@pytest.mark.parametrize("form", ["der", "raw", "nonminimal"])
def test_every_form_of_a_right_answer(neutral: Neutral, form: str) -> None:
    token, opened, pair = neutral
    token.set_fault("signature", "C_Sign", form)
    verify(pair.spki, SM2, sign(opened), E)


@pytest.mark.parametrize("kind", ["short_r", "short_s"])
def test_a_raw_answer_without_its_zero_octet(neutral: Neutral, kind: str) -> None:
    token, opened, pair = neutral
    token.set_fault("signature", "C_Sign", kind)
    with pytest.raises(DeviceFailure, match="63 octets"):  # which of the two is short cannot be told
        sign(opened)
    token.clear_faults()
    verify(pair.spki, SM2, sign(opened), E)


@pytest.mark.parametrize("kind", ["zero", "ones", "flip", "hash", "other_key"])
def test_a_lie_is_named_and_not_held_against_the_mechanism(neutral: Neutral, kind: str) -> None:
    token, opened, pair = neutral
    token.set_fault("signature", "C_Sign", kind)
    with pytest.raises((DeviceFailure, MechanismNotSupported)):
        sign(opened)
    token.clear_faults()
    if kind == "hash":  # SM3(e) signed is what a mechanism that hashes does: it counts as one
        assert "hashes" in (opened.contents().keys[0].fault or "")
        return
    verify(pair.spki, SM2, sign(opened), E)


@pytest.mark.parametrize(("kind", "reason"), [("ecdsa", "ECDSA"), ("with_z", "with Z")])
def test_a_mechanism_that_does_something_else_is_refused_with_the_reason(
    neutral: Neutral, kind: str, reason: str
) -> None:
    token, opened, _ = neutral
    token.set_fault("signature", "C_Sign", kind)
    for _ in range(2):
        with pytest.raises(MechanismNotSupported, match=reason):
            sign(opened)
    token.clear_faults()
    (info,) = opened.contents().keys
    assert info.mechanisms == ()
    assert reason in (info.fault or "")


def test_a_key_without_a_public_half_is_not_trusted(softsm2_token: SoftSm2Token) -> None:
    softsm2_token.add_key("sm2", public=False)
    with unlocked(softsm2_token, ModuleOptions(SHIPPED, NAMES["neutral"])) as opened:
        (info,) = opened.contents().keys
        with pytest.raises(MechanismNotSupported):
            opened.key(info.uri).sign(SM2, E)


@pytest.mark.parametrize(
    "code", ["0x70", "0x54", "0x63", "0x20"], ids=["MECHANISM_INVALID", "NOT_SUPPORTED", "KEY_TYPE", "DATA_INVALID"]
)
def test_a_mechanism_that_is_listed_and_refused_leaves_the_others(
    softsm2: SoftSm2, softsm2_new_token: Callable[..., SoftSm2Token], code: str
) -> None:
    softsm2.profile = "sansec"  # two mechanisms sign e
    token = softsm2_new_token()
    pair = PemPair(token.add_key("sm2"))
    token.set_fault("return", "C_SignInit", code, times=1)
    with unlocked(token, ModuleOptions(SHIPPED, NAMES["sansec"])) as opened:
        verify(pair.spki, SM2, sign(opened), E)


def test_an_always_authenticating_key_is_found_out_with_one_pin(
    softsm2: SoftSm2, softsm2_new_token: Callable[..., SoftSm2Token]
) -> None:
    """On a module nobody knows, whose first candidate is not the right one."""
    softsm2.profile = "luna"
    token = softsm2_new_token()
    pair = PemPair(token.add_key("sm2", always_authenticate=True))
    with unlocked(token, ModuleOptions(SHIPPED)) as opened:
        (info,) = opened.contents().keys
        pin = bytearray(token.user_pin.encode())
        verify(pair.spki, SM2, opened.key(info.uri).sign(SM2, E, pin), E)
        assert not any(pin)
        assert token.tries_left() == 6
        with pytest.raises(DriverError):
            opened.key(info.uri).sign(SM2, E, bytearray(b"wrong-pin"))
        assert token.tries_left() == 5


# Sizes that make no sense

FUNCTIONS = ("C_Sign", "C_GetAttributeValue", "C_FindObjects", "C_GetMechanismList", "C_GetSlotList")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("fault", "argument"),
    [
        ("oversize", 1),
        ("oversize", 100_000),
        ("length", 0x7FFFFFFF),
        ("length", 0xFFFFFFFF),
        ("length", 0xFFFFFFFFFFFFFFFE),
        ("overrun", 1),
        ("overrun", 400),
        ("no_output", None),
    ],
)
def test_sizes_that_make_no_sense_are_errors_and_cost_nothing(
    softsm2: SoftSm2, neutral: Neutral, function: str, fault: str, argument: int | None
) -> None:
    token, opened, pair = neutral
    driver = open_driver(token.module, ModuleOptions(SHIPPED, NAMES["neutral"]))  # one that has not looked yet
    softsm2.set_fault(fault, function, argument)

    def use_it_all() -> None:
        (fresh,) = [each for each in driver.tokens() if each.info.serial == token.serial]
        fresh.contents()
        sign(opened)

    with pytest.raises(DeviceFailure):
        use_it_all()
    softsm2.clear_faults()
    opened.login(bytearray(token.user_pin.encode()))
    verify(pair.spki, SM2, sign(opened), E)
    assert token.tries_left() == 6


@pytest.mark.parametrize("function", ["C_GetAttributeValue", "C_FindObjects"])
def test_a_size_of_nothing_shows_nothing(softsm2: SoftSm2, neutral: Neutral, function: str) -> None:
    token, opened, pair = neutral
    softsm2.set_fault("length", function, 0)
    try:
        shown = [key for key in opened.contents().keys if key.mechanisms]
    except DriverError:
        shown = []
    assert shown == []
    softsm2.clear_faults()
    opened.login(bytearray(token.user_pin.encode()))
    verify(pair.spki, SM2, sign(opened), E)


@pytest.mark.parametrize("kind", ["nul", "blank", "gbk"])
def test_texts_that_are_not_as_the_standard_wants(softsm2: SoftSm2, neutral: Neutral, kind: str) -> None:
    token, opened, _ = neutral
    driver = open_driver(token.module, ModuleOptions(SHIPPED, NAMES["neutral"]))
    softsm2.set_fault("text", "C_GetTokenInfo", kind)
    for each in driver.tokens():
        assert "\0" not in each.info.label
    softsm2.clear_faults()
    assert opened.contents().keys


def test_a_search_without_an_end(neutral: Neutral) -> None:
    token, opened, _ = neutral
    token.set_fault("endless", "C_FindObjects")
    with pytest.raises(DeviceFailure, match="more than"):
        opened.contents()


def test_a_token_that_allows_one_session(softsm2_token: SoftSm2Token) -> None:
    pair = PemPair(softsm2_token.add_key("sm2"))
    softsm2_token.set_fault("single_session", "C_OpenSession")
    with unlocked(softsm2_token, ModuleOptions(SHIPPED, NAMES["neutral"])) as opened:
        verify(pair.spki, SM2, sign(opened), E)


def test_a_module_that_cannot_lock(softsm2: SoftSm2, softsm2_token: SoftSm2Token) -> None:
    pair = PemPair(softsm2_token.add_key("sm2"))
    softsm2.set_fault("cant_lock", "C_Initialize")
    with unlocked(softsm2_token, ModuleOptions(SHIPPED, NAMES["neutral"])) as opened:
        verify(pair.spki, SM2, sign(opened), E)


def test_a_certificate_of_another_key(neutral: Neutral) -> None:
    token, opened, _ = neutral
    token.add_certificate(PemPair(token.add_key("sm2", object_id=b"\x02", pem=new_key("sm2"))).certificate())
    keys = {key.object_id: key for key in opened.contents().keys}
    assert keys[b"\x01"].public_key != keys[b"\x02"].public_key
    assert len(keys) == 2
