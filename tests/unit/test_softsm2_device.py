"""The soft SM2 module as PKCS#11: tokens that come and go, PINs, events, threads, its place beside SoftHSM."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from ctypes import CDLL, byref, c_ulong, create_string_buffer
from pathlib import Path

import pkcs11
import pytest

import softgm
from softgm import PROFILES, SoftSm2, SoftSm2Token, new_key
from softgm.cryptoki import CKA, Cryptoki, CryptokiError, Opened
from softhsm2_fixtures import SoftHsm, SoftToken
from softsm2_parts import RAW, numbers, public_key

E = bytes(range(32))
SIGN_E = 0xFFFFF002
COUNT_LOW, FINAL_TRY, LOCKED, PROTECTED = 0x10000, 0x20000, 0x40000, 0x100
SO = 0
NO_EVENT = 8


@pytest.fixture
def cryptoki(softsm2: SoftSm2) -> Iterator[Cryptoki]:
    cryptoki = Cryptoki(softsm2.library)
    yield cryptoki
    cryptoki.close()


@pytest.fixture
def pem(softsm2_token: SoftSm2Token) -> bytes:
    return softsm2_token.add_key("sm2", pem=new_key("sm2"))


@pytest.fixture
def opened(cryptoki: Cryptoki, softsm2_token: SoftSm2Token, pem: bytes) -> Opened:
    opened = cryptoki.open(softsm2_token)
    opened.login()
    return opened


def flags(cryptoki: Cryptoki, slot: int) -> int:
    return int.from_bytes(cryptoki.token_info(slot)[96:104], "little")


def pin_flags(opened: Opened) -> int:
    return flags(opened.cryptoki, opened.slot) & (COUNT_LOW | FINAL_TRY | LOCKED)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(softgm.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, "-m", "softgm", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )


# ---- the module as a whole ----


def test_module_exports_one_symbol(softsm2: SoftSm2) -> None:
    library = CDLL(str(softsm2.library))
    assert library.C_GetFunctionList(None) == 7
    assert not hasattr(library, "C_Sign")


def test_life_of_the_module(cryptoki: Cryptoki, softsm2: SoftSm2) -> None:
    with pytest.raises(CryptokiError, match="C_Initialize: 0x191"):
        Cryptoki(softsm2.library)
    cryptoki.close()
    for function, arguments in (
        ("C_GetInfo", (create_string_buffer(88),)),
        ("C_GetSlotInfo", (1, create_string_buffer(112))),
        ("C_Logout", (1,)),
        ("C_Finalize", (None,)),
        ("C_WaitForSlotEvent", (0, byref(c_ulong()), None)),
    ):
        assert cryptoki.code(function, *arguments) == 0x190
    assert cryptoki.code("C_Initialize", byref((c_ulong * 6)(0, 0, 0, 0, 2, 1))) == 7  # something in pReserved
    assert cryptoki.code("C_Initialize", byref((c_ulong * 6)(1, 0, 0, 0, 0, 0))) == 7  # one mutex function of four
    cryptoki.call("C_Initialize", None)
    assert cryptoki.code("C_Finalize", byref(c_ulong())) == 7


@pytest.mark.parametrize(
    ("variable", "value"),
    [("SOFTGM_PKCS11_DIR", ""), ("SOFTGM_PKCS11_PROFILE", "no-vendor")],
)
def test_bad_settings_are_refused(
    softsm2: SoftSm2, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(CryptokiError, match="C_Initialize: 0x5"):
        Cryptoki(softsm2.library)
    assert capfd.readouterr().err.startswith("softgm: ")


def test_missing_softhsm_is_said(
    cryptoki: Cryptoki,
    softsm2_token: SoftSm2Token,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SOFTGM_PKCS11_MODULE", "/nowhere.so")
    (slot,) = cryptoki.slots()
    assert cryptoki.code("C_GetTokenInfo", slot, create_string_buffer(208)) == 5
    assert "SoftHSM2 was not found" in capfd.readouterr().err


def test_profile_of_the_environment_wins(
    cryptoki: Cryptoki, softsm2: SoftSm2, softsm2_token: SoftSm2Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    softsm2.profile = "tass"
    assert softsm2.profile == "tass"
    assert cryptoki.record("C_GetInfo", size=88)[48:80].rstrip() == b"profile tass"
    monkeypatch.setenv("SOFTGM_PKCS11_PROFILE", "luna")
    assert cryptoki.record("C_GetInfo", size=88)[48:80].rstrip() == b"profile luna"
    with pytest.raises(ValueError, match="no profile"):
        softsm2.profile = "nobody"


def test_softhsm_works_beside_it_in_one_process(
    opened: Opened, pem: bytes, softhsm: SoftHsm, softhsm_token: SoftToken
) -> None:
    """Each has its own tokens, sessions and logins."""
    before = os.environ["SOFTHSM2_CONF"]
    library = pkcs11.lib(str(softhsm.module))
    library.reinitialize()
    labels = [slot.get_token().label for slot in library.get_slots(token_present=True)]
    assert softhsm_token.label in labels
    assert opened.token.label not in labels
    library.finalize()
    assert public_key(pem).verify(E, *numbers(opened.sign(SIGN_E, E), RAW))
    assert os.environ["SOFTHSM2_CONF"] == before


def test_works_with_python_pkcs11(softsm2: SoftSm2, softsm2_token: SoftSm2Token) -> None:
    softsm2_token.add_key("ec-p256")
    library = pkcs11.lib(str(softsm2.library))
    library.initialize()
    try:
        (slot,) = library.get_slots(token_present=True)
        with slot.get_token().open(user_pin=softsm2_token.user_pin) as session:
            (key,) = session.get_objects({pkcs11.Attribute.CLASS: pkcs11.ObjectClass.PRIVATE_KEY})
            assert len(key.sign(E, mechanism=pkcs11.Mechanism.ECDSA)) == 64
    finally:
        library.finalize()


# ---- tokens come and go ----


def test_new_token_is_seen_without_initialising_again(
    cryptoki: Cryptoki, opened: Opened, softsm2_new_token: Callable[..., SoftSm2Token], pem: bytes
) -> None:
    other = softsm2_new_token("another")
    other.add_key("sm2")
    second = cryptoki.open(other)
    second.login()
    assert second.slot != opened.slot
    assert len(second.sign(SIGN_E, E)) == 64
    assert public_key(pem).verify(E, *numbers(opened.sign(SIGN_E, E), RAW))
    assert set(cryptoki.slots()) >= {opened.slot, second.slot}


def test_object_put_on_an_open_token_is_seen(opened: Opened) -> None:
    opened.token.add_data(b"value", label="later")
    (found,) = opened.find({CKA["LABEL"]: b"later"})
    assert opened.attribute(found, CKA["VALUE"]) == b"value"
    assert opened.token.delete("later") == 1
    assert opened.find({CKA["LABEL"]: b"later"}) == []


def test_objects_as_a_program_sees_them(opened: Opened) -> None:
    def private(listed: list[dict[str, object]]) -> dict[str, object]:
        (found,) = [item for item in listed if item["class"] == "PRIVATE_KEY"]
        return found

    assert private(opened.token.objects()) == {
        **{"class": "PRIVATE_KEY", "label": "key", "id": "01", "private": True, "sensitive": True},
        **{"extractable": False, "sign": True, "decrypt": False, "unwrap": False, "derive": False},
    }
    assert private(opened.token.store.objects())["extractable"] is True
    assert len(opened.sign(SIGN_E, E)) == 64  # this process's session is not touched


def test_pulled_token(opened: Opened) -> None:
    cryptoki, slot = opened.cryptoki, opened.slot
    key = opened.key()
    assert opened.sign_init(SIGN_E, key) == 0
    opened.token.remove()
    buffer, size = create_string_buffer(64), c_ulong(64)
    assert opened.code("C_Sign", E, 32, buffer, byref(size)) == 0x32
    assert opened.sign_init(SIGN_E, key) == 0x32
    assert opened.login_code() == 0x32
    assert slot not in cryptoki.slots()
    assert slot in cryptoki.numbers("C_GetSlotList", 0)
    info = cryptoki.record("C_GetSlotInfo", slot, size=112)
    assert int.from_bytes(info[96:104], "little") == 2  # removable, no token
    for function, arguments in (
        ("C_GetTokenInfo", (create_string_buffer(208),)),
        ("C_GetMechanismList", (None, byref(c_ulong()))),
        ("C_OpenSession", (6, None, None, byref(c_ulong()))),
        ("C_CloseAllSessions", ()),
    ):
        assert cryptoki.code(function, slot, *arguments) == 0xE0
    opened.token.insert()
    assert slot in cryptoki.slots()
    assert opened.login_code() == 0xB3
    assert opened.code("C_CloseSession") == 0xB3
    again = cryptoki.open(opened.token)
    assert again.slot == slot
    with pytest.raises(ValueError, match="not enough"):
        again.key()  # nobody is logged in
    again.login()
    assert len(again.sign(SIGN_E, E)) == 64


def test_quick_removal_is_noticed_too(opened: Opened) -> None:
    """No call falls between the two."""
    opened.token.remove()
    opened.token.insert()
    assert opened.login_code() == 0xB3


def test_deleted_token_leaves_its_slot(cryptoki: Cryptoki, opened: Opened) -> None:
    opened.token.destroy()
    assert opened.slot not in cryptoki.numbers("C_GetSlotList", 0)
    assert opened.login_code() == 0x32


def test_many_removals_leak_no_descriptor(opened: Opened) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        opened.token.remove()
        assert opened.login_code() in (0x32, 0xB3)
        opened.token.insert()
        opened = opened.cryptoki.open(opened.token)
        opened.login()
        opened.sign(SIGN_E, E)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_name_of_the_slot_and_of_the_folder(
    cryptoki: Cryptoki, softsm2_new_token: Callable[..., SoftSm2Token], softsm2: SoftSm2
) -> None:
    token = softsm2_new_token("named", name="reader 1")
    slot = cryptoki.slot_of(token)
    assert cryptoki.record("C_GetSlotInfo", slot, size=112)[:64].rstrip() == b"reader 1"
    with pytest.raises(FileExistsError):
        softsm2.new_token("twice", name="reader 1")
    for name in ("../up", ".hidden"):
        with pytest.raises(ValueError, match="folder"):
            softsm2.new_token("bad", name=name)
    assert [path.name for path in softsm2.directory.iterdir() if path.name.startswith(".draft")] == []


# ---- PINs ----


def test_tries_are_counted_shown_and_reset(opened: Opened) -> None:
    opened.call("C_Logout")
    seen = []
    for _ in range(2):
        assert opened.login_code("wrong-pin") == 0xA0
        seen.append((opened.token.tries_left(), pin_flags(opened)))
    opened.token.set_tries_left(2)
    assert opened.login_code("wrong-pin") == 0xA0
    seen.append((opened.token.tries_left(), pin_flags(opened)))
    opened.login()
    seen.append((opened.token.tries_left(), pin_flags(opened)))
    assert seen == [(5, COUNT_LOW), (4, COUNT_LOW), (1, COUNT_LOW | FINAL_TRY), (6, 0)]


def test_last_wrong_pin_locks_and_the_administrator_unlocks(
    cryptoki: Cryptoki, softsm2_new_token: Callable[..., SoftSm2Token]
) -> None:
    token = softsm2_new_token(tries=2)
    opened = cryptoki.open(token)
    assert [opened.login_code("wrong-pin") for _ in range(3)] == [0xA0, 0xA0, 0xA4]
    assert pin_flags(opened) == LOCKED
    assert opened.login_code() == 0xA4
    assert opened.code("C_SetPIN", token.user_pin.encode(), 9, b"new-pin", 7) == 0xA4
    opened.login(token.so_pin, user=SO)
    opened.call("C_InitPIN", b"new-pin", 7)
    opened.call("C_Logout")
    assert token.tries_left() == 2
    opened.login("new-pin")


def test_administrators_tries_are_counted_apart(opened: Opened) -> None:
    opened.call("C_Logout")
    assert opened.login_code("wrong-pin", user=SO) == 0xA0
    assert (opened.token.tries_left(), opened.token.tries_left(so=True)) == (6, 5)
    assert flags(opened.cryptoki, opened.slot) & 0x700000 == 0x100000
    opened.token.set_tries_left(0, so=True)
    assert opened.login_code(opened.token.so_pin, user=SO) == 0xA4
    assert flags(opened.cryptoki, opened.slot) & 0x700000 == 0x400000


def test_what_is_not_about_the_pin_costs_no_try(opened: Opened) -> None:
    assert opened.login_code() == 0x100  # already logged in
    assert opened.code("C_SetPIN", opened.token.user_pin.encode(), 9, b"1", 1) == 0xA2
    assert opened.code("C_Login", 1, None, 0) == 7
    assert opened.token.tries_left() == 6


def test_pin_is_changed(opened: Opened) -> None:
    right = opened.token.user_pin.encode()
    assert opened.code("C_SetPIN", b"wrong-pin", 9, b"new-pin", 7) == 0xA0
    assert opened.token.tries_left() == 5
    opened.call("C_SetPIN", right, len(right), b"new-pin", 7)
    assert opened.token.tries_left() == 6
    opened.call("C_Logout")
    assert opened.login_code() == 0xA0
    opened.login("new-pin")


def test_lock_set_from_outside(opened: Opened) -> None:
    opened.call("C_Logout")
    opened.token.lock()
    assert pin_flags(opened) == LOCKED
    assert opened.login_code() == 0xA4
    opened.token.set_tries_left(1)
    assert pin_flags(opened) == COUNT_LOW | FINAL_TRY
    opened.login()


def test_pin_pad(opened: Opened) -> None:
    opened.call("C_Logout")
    assert not flags(opened.cryptoki, opened.slot) & PROTECTED
    opened.token.protect("wrong-pin")
    assert flags(opened.cryptoki, opened.slot) & PROTECTED
    assert opened.code("C_Login", 1, None, 0) == 0xA0
    assert opened.token.tries_left() == 5
    opened.token.protect()
    opened.call("C_Login", 1, None, 0)
    assert len(opened.sign(SIGN_E, E)) == 64


def test_login_is_of_the_token_and_of_all_its_sessions(
    cryptoki: Cryptoki, opened: Opened, softsm2_new_token: Callable[..., SoftSm2Token]
) -> None:
    second, other = cryptoki.open(opened.token), cryptoki.open(softsm2_new_token())
    info = [
        session.cryptoki.record("C_GetSessionInfo", session.session, size=32) for session in (opened, second, other)
    ]
    assert [int.from_bytes(octets[8:16], "little") for octets in info] == [3, 3, 2]
    assert [int.from_bytes(octets[:8], "little") for octets in info] == [opened.slot, opened.slot, other.slot]
    opened.close()
    assert opened.code("C_Logout") == 0xB3
    assert len(second.sign(SIGN_E, E)) == 64
    cryptoki.call("C_CloseAllSessions", second.slot)
    assert second.code("C_Logout") == 0xB3
    assert cryptoki.code("C_GetSessionInfo", other.session, create_string_buffer(32)) == 0


# ---- events ----


def drain(cryptoki: Cryptoki) -> None:
    while cryptoki.code("C_WaitForSlotEvent", 1, byref(c_ulong()), None) == 0:
        pass


def event(cryptoki: Cryptoki, flags: int = 1) -> tuple[int, int]:
    slot = c_ulong()
    return cryptoki.code("C_WaitForSlotEvent", flags, byref(slot), None), slot.value


def test_events_without_waiting(cryptoki: Cryptoki, opened: Opened, softsm2: SoftSm2) -> None:
    drain(cryptoki)
    assert event(cryptoki)[0] == NO_EVENT
    opened.token.remove()
    assert event(cryptoki) == (0, opened.slot)
    assert event(cryptoki)[0] == NO_EVENT
    opened.token.insert()
    assert event(cryptoki) == (0, opened.slot)
    new = softsm2.new_token()
    assert event(cryptoki) == (0, cryptoki.slot_of(new))
    new.destroy()
    assert event(cryptoki)[0] == 0
    assert event(cryptoki)[0] == NO_EVENT
    assert cryptoki.code("C_WaitForSlotEvent", 1, None, None) == 7


def test_waiting_for_an_event_stops_no_other_call(cryptoki: Cryptoki, opened: Opened) -> None:
    drain(cryptoki)
    seen: list[tuple[int, int]] = []
    waiting = threading.Thread(target=lambda: seen.append(event(cryptoki, 0)))
    waiting.start()
    assert len(opened.sign(SIGN_E, E)) == 64
    assert not seen
    opened.token.remove()
    waiting.join(10)
    assert seen == [(0, opened.slot)]


def test_finalising_ends_a_wait(softsm2: SoftSm2, softsm2_token: SoftSm2Token) -> None:
    cryptoki = Cryptoki(softsm2.library)
    drain(cryptoki)
    seen: list[tuple[int, int]] = []
    waiting = threading.Thread(target=lambda: seen.append(event(cryptoki, 0)))
    waiting.start()
    time.sleep(0.15)
    cryptoki.close()
    waiting.join(10)
    assert [code for code, _ in seen] == [0x190]


# ---- threads ----


def test_threads_sign_on_several_tokens(
    cryptoki: Cryptoki, opened: Opened, pem: bytes, softsm2_new_token: Callable[..., SoftSm2Token]
) -> None:
    """Each thread has a session; a third pulls and plugs in a token all the while."""
    other = softsm2_new_token("other")
    other_pem = other.add_key("sm2", pem=new_key("sm2"))
    loose = softsm2_new_token("loose")
    second = cryptoki.open(other)
    second.login()
    failures: list[object] = []
    stop = threading.Event()

    def sign(session: Opened, key_pem: bytes) -> None:
        key, public = session.key(), public_key(key_pem)
        for _ in range(50):
            try:
                if not public.verify(E, *numbers(session.sign(SIGN_E, E, key), RAW)):
                    failures.append("a signature is wrong")
            except CryptokiError as error:
                failures.append(error)

    def shake() -> None:
        while not stop.is_set():
            loose.remove()
            cryptoki.slots()
            loose.insert()
            session = cryptoki.open(loose)
            if code := session.login_code():
                failures.append(code)

    work = [(opened, pem), (cryptoki.open(opened.token), pem), (second, other_pem), (cryptoki.open(other), other_pem)]
    threads = [threading.Thread(target=sign, args=item) for item in work]
    shaker = threading.Thread(target=shake)
    for thread in (*threads, shaker):
        thread.start()
    for thread in threads:
        thread.join(120)
    stop.set()
    shaker.join(30)
    assert not any(thread.is_alive() for thread in (*threads, shaker))
    assert failures == []


# ---- the command ----


@pytest.mark.parametrize("profile", [None, *PROFILES[1:3]])
def test_create_prints_how_to_use_the_token(
    tmp_path: Path, softsm2: SoftSm2, monkeypatch: pytest.MonkeyPatch, profile: str | None
) -> None:
    made = command(
        *("create-pkcs11", str(tmp_path / "new"), "--label", "Prüfschlüssel", "--pin", "123456"),
        *("--so-pin", "12345678", "--id", "a1", "--tries", "3"),
        *([] if profile is None else ["--profile", profile]),
    )
    assert made.returncode == 0, made.stderr
    lines = dict(line.split(maxsplit=1) for line in made.stdout.splitlines() if not line.startswith("export"))
    exported = dict(line.removeprefix("export ").split("=") for line in made.stdout.splitlines() if "=" in line)
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    cryptoki = Cryptoki(Path(lines["library"]))
    try:
        (slot,) = cryptoki.slots()
        info = cryptoki.token_info(slot)
        assert info[80:96].rstrip().decode() == lines["serial"]
        assert info[64:80].rstrip().decode() == f"profile {profile or 'neutral'}"
        session = cryptoki.number("C_OpenSession", slot, 6, None, None)
        cryptoki.call("C_Login", session, 1, b"123456", 6)
        (tmp_path / "new" / lines["serial"] / "removed").touch()
        assert cryptoki.slots() == []
        assert command("insert", lines["token"]).returncode == 0
        assert cryptoki.slots() == [slot]
    finally:
        cryptoki.close()


def test_create_refuses_a_name_in_use(tmp_path: Path, softsm2: SoftSm2) -> None:
    arguments = ("create-pkcs11", str(tmp_path), "--label", "a", "--pin", "123456", "--so-pin", "12345678")
    assert command(*arguments, "--name", "one", "--key", "ec-p256").returncode == 0
    again = command(*arguments, "--name", "one")
    assert again.returncode == 1
    assert again.stderr.startswith("softgm: there is a token")
