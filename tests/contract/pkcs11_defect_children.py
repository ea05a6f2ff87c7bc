"""What test_pkcs11_binding_defects.py runs in a child process: one function per case, some of which crash or hang.

``python -P pkcs11_defect_children.py CASE MODULE SERIAL PIN``. The token holds one P-256 key of the identifier 01. The
result is one line of JSON on stdout. ``stock_*`` uses python-pkcs11 as it is, ``our_*`` goes through our binding.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass

from sealdrivers.contract import Mechanism as ContractMechanism
from sealdrivers.errors import DriverError
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import Module, Session, Slot
from sealdrivers.pkcs11.driver import open_driver
from sealdrivers.pkcs11.token import Pkcs11Token
from softhsm2_fixtures.faults import change_attribute, intercept

THREADS = 4
SIGNATURES = 300
DIGEST = bytes(32)
VENDOR_MECHANISM = 0x80000B21  # Luna's SM2DSA
VENDOR_KEY_TYPE = 0x80000016
CKM_ECDSA = 0x1041

MODULE, SERIAL, PIN = Path(sys.argv[2]).resolve(), sys.argv[3], sys.argv[4]


# Access to the token


def stock_token() -> Any:
    return pkcs11.lib(str(MODULE)).get_token(token_serial=SERIAL.encode())


def stock_key(session: Any) -> Any:
    (key,) = session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    return key


def our_slot() -> Slot:
    (slot,) = [slot for slot in Module(MODULE).slots() if slot.token().serial == SERIAL]
    return slot


def our_key(session: Session) -> int:
    (key,) = session.find({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    return key.handle


def our_token() -> Pkcs11Token:
    (token,) = [token for token in open_driver(MODULE).tokens() if token.info.serial == SERIAL]
    return token


def our_login() -> tuple[Slot, Session]:
    slot = our_slot()
    session = slot.open()
    session.login(bytearray(PIN.encode()))
    return slot, session


def outcome(action: Callable[[], object]) -> str:
    """Return the class of what an action raises, or "ok"."""
    try:
        action()
    except Exception as error:
        return type(error).__name__
    return "ok"


def counting(stack: ExitStack, *names: str) -> dict[str, int]:
    """Count the calls of functions of the module."""
    counts = dict.fromkeys(names, 0)

    def call(name: str, original: Callable[..., int], *arguments: Any) -> int:
        counts[name] += 1
        return original(*arguments)

    for name in names:
        stack.enter_context(intercept(MODULE, name, partial(call, name)))
    return counts


def in_threads(sign: Callable[[], object]) -> list[str]:
    errors: list[str] = []

    def run() -> None:
        try:
            for _ in range(SIGNATURES):
                sign()
        except Exception as error:
            errors.append(type(error).__name__)

    threads = [threading.Thread(target=run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


# 1. C_Initialize


def _recording_initialize(load: Callable[[], object]) -> list[int | None]:
    flags: list[int | None] = []

    def call(original: Callable[..., int], arguments: int | None) -> int:
        flags.append(None if arguments is None else abi.CK_C_INITIALIZE_ARGS.from_address(arguments).flags)
        return original(arguments)

    with intercept(MODULE, "C_Initialize", call):
        load()
    return flags


def stock_initialize() -> Any:
    return _recording_initialize(stock_token)


def our_initialize() -> Any:
    return _recording_initialize(our_slot)


def our_initialize_without_locks() -> Any:
    flags: list[int | None] = []

    def call(original: Callable[..., int], arguments: int | None) -> int:
        flags.append(None if arguments is None else abi.CK_C_INITIALIZE_ARGS.from_address(arguments).flags)
        return 0xA if arguments is not None else original(arguments)  # CKR_CANT_LOCK

    with intercept(MODULE, "C_Initialize", call):
        our_slot()
    return flags


def stock_threads() -> Any:
    token = stock_token()
    kept = token.open(user_pin=PIN)
    keys = iter([stock_key(token.open()) for _ in range(THREADS)])
    lock = threading.local()

    def sign() -> None:
        if not hasattr(lock, "key"):
            lock.key = next(keys)
        lock.key.sign(DIGEST, mechanism=Mechanism.ECDSA)

    errors = in_threads(sign)
    del kept
    return errors


def our_threads() -> Any:
    slot, _ = our_login()
    local = threading.local()

    def sign() -> None:
        if not hasattr(local, "session"):
            local.session = slot.open()
            local.key = our_key(local.session)
        local.session.sign(abi.CK_MECHANISM(CKM_ECDSA), local.key, DIGEST)

    return in_threads(sign)


# 2. Vendor mechanisms


def _recording_mechanisms(sign: Callable[[], object]) -> Any:
    numbers: list[int] = []

    def call(original: Callable[..., int], session: int, mechanism: int, key: int) -> int:
        numbers.append(abi.CK_MECHANISM.from_address(mechanism).mechanism)
        return original(session, mechanism, key)

    with intercept(MODULE, "C_SignInit", call):
        return [outcome(sign), numbers]


def stock_vendor_mechanism() -> Any:
    key = stock_key(stock_token().open(user_pin=PIN))
    return _recording_mechanisms(lambda: key.sign(DIGEST, mechanism=VENDOR_MECHANISM))


def our_vendor_mechanism() -> Any:
    _, session = our_login()
    key = our_key(session)
    return _recording_mechanisms(lambda: session.sign(abi.CK_MECHANISM(VENDOR_MECHANISM), key, DIGEST))


# 3. Vendor key types


def stock_vendor_key_type() -> Any:
    key = stock_key(stock_token().open(user_pin=PIN))
    with change_attribute(MODULE, Attribute.KEY_TYPE, VENDOR_KEY_TYPE.to_bytes(8, sys.byteorder)):
        return outcome(lambda: key.sign(DIGEST, mechanism=Mechanism.ECDSA))


def our_vendor_key_type() -> Any:
    _, session = our_login()
    key = our_key(session)
    with change_attribute(MODULE, Attribute.KEY_TYPE, VENDOR_KEY_TYPE.to_bytes(8, sys.byteorder)):
        signed = outcome(lambda: session.sign(abi.CK_MECHANISM(CKM_ECDSA), key, DIGEST))
        listed = [info.type.value for info in our_token().contents().keys]
    return [signed, listed]


# 4. Calls per signature


def _calls(sign: Callable[[], object]) -> Any:
    with ExitStack() as stack:
        counts = counting(stack, "C_GetAttributeValue", "C_SignInit", "C_Sign")
        sign()
    return counts


def stock_calls() -> Any:
    key = stock_key(stock_token().open(user_pin=PIN))
    return _calls(lambda: key.sign(DIGEST, mechanism=Mechanism.ECDSA))


def our_calls() -> Any:
    _, session = our_login()
    key = our_key(session)
    return _calls(lambda: session.sign(abi.CK_MECHANISM(CKM_ECDSA), key, DIGEST))


# 5. The PIN


def stock_pin() -> Any:
    token = stock_token()
    return [
        outcome(lambda: token.open(user_pin=PIN.encode())),
        outcome(lambda: token.open(user_pin=bytearray(b"1234"))),
    ]


def our_pin() -> Any:
    session = our_slot().open()
    buffer = bytearray(PIN.encode())
    place = ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
    seen: list[int] = []

    def call(original: Callable[..., int], handle: int, user: int, pin: int, length: int) -> int:
        seen.append(pin)
        return original(handle, user, pin, length)

    with intercept(MODULE, "C_Login", call):
        done = outcome(lambda: session.login(buffer))
    return [done, seen == [place]]


# 6. Attributes outside the enumerations


def _odd_attributes(read: Callable[[], object]) -> Any:
    with change_attribute(MODULE, Attribute.CLASS, (0x80000001).to_bytes(8, sys.byteorder)):
        first = outcome(read)
    with change_attribute(MODULE, Attribute.LABEL, b"\xff\xff\xff"):  # the key is labelled "key"
        return [first, outcome(read)]


def stock_odd_attributes() -> Any:
    session = stock_token().open(user_pin=PIN)
    return _odd_attributes(lambda: [item[Attribute.LABEL] for item in session.get_objects()])


def our_odd_attributes() -> Any:
    token = our_token()
    return _odd_attributes(token.contents)


# 7. A failed signature


def stock_failed_signature() -> Any:
    key = stock_key(stock_token().open(user_pin=PIN))
    with intercept(MODULE, "C_Sign", 0x30):  # CKR_DEVICE_ERROR
        first = outcome(lambda: key.sign(DIGEST, mechanism=Mechanism.ECDSA))
    return [first, outcome(lambda: key.sign(DIGEST, mechanism=Mechanism.ECDSA))]


def our_failed_signature() -> Any:
    token = our_token()
    token.login(bytearray(PIN.encode()))
    (info,) = token.contents().keys
    key = token.key(info.uri)
    with intercept(MODULE, "C_Sign", 0x30):
        first = outcome(lambda: key.sign(ContractMechanism.ECDSA_SHA256, DIGEST))
    return [first, outcome(lambda: key.sign(ContractMechanism.ECDSA_SHA256, DIGEST)), token.info.logged_in]


# 8. Sessions that stay open


def stock_close() -> Any:
    session = stock_token().open(user_pin=PIN)
    with ExitStack() as stack:
        counts = counting(stack, "C_CloseSession")
        stack.enter_context(intercept(MODULE, "C_Logout", 0x30))
        return [outcome(session.close), counts["C_CloseSession"]]


def our_close() -> Any:
    _, session = our_login()
    with ExitStack() as stack:
        counts = counting(stack, "C_CloseSession")
        stack.enter_context(intercept(MODULE, "C_Logout", 0x30))
        return [outcome(session.close), counts["C_CloseSession"]]


def _balance(login: Callable[[], object]) -> Any:
    with ExitStack() as stack:
        counts = counting(stack, "C_OpenSession", "C_CloseSession")
        results = {outcome(login) for _ in range(20)}
        return [sorted(results), counts["C_OpenSession"] - counts["C_CloseSession"]]


def stock_failed_login() -> Any:
    token = stock_token()
    return _balance(lambda: token.open(user_pin="wrong-pin"))


def our_failed_login() -> Any:
    token = our_token()
    return _balance(lambda: token.login(bytearray(b"wrong-pin")))


# 9. Use after unloading


def stock_unload() -> Any:
    session = stock_token().open()
    pkcs11.unload(str(MODULE))
    return outcome(lambda: list(session.get_objects()))


def our_close_module() -> Any:
    module = Module(MODULE)
    (slot,) = [slot for slot in module.slots() if slot.token().serial == SERIAL]
    session = slot.open()
    module.close()
    codes = []
    for action in (slot.token, slot.open, module.slots, lambda: session.find({}), lambda: session.login(None)):
        try:
            action()
        except DriverError as error:
            codes.append(error.native_name or error.message)
    return codes


# 10. Slot events


def stock_slot_event() -> Any:
    library = pkcs11.lib(str(MODULE))
    number = library.get_slots()[0].slot_id

    def event(_original: object, flags: int, slot: int, reserved: int | None) -> int:
        ctypes.c_ulong.from_address(slot).value = number
        return 0

    with intercept(MODULE, "C_WaitForSlotEvent", event):
        return outcome(lambda: library.wait_for_slot_event(blocking=False))


def our_slot_events() -> Any:
    driver = open_driver(MODULE)
    answers: list[Any] = [driver.slot_event()]  # SoftHSM's own
    for code in (0, 0x54, 0x5):  # CKR_OK, CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR
        with intercept(MODULE, "C_WaitForSlotEvent", code):
            try:
                answers.append(driver.slot_event())
            except DriverError as error:
                answers.append(type(error).__name__)
    return answers


def our_presence() -> Any:
    driver = open_driver(MODULE)
    with ExitStack() as stack:
        counts = counting(stack, "C_WaitForSlotEvent", "C_GetSlotList")
        seen = [token.info.serial for token in driver.tokens()]
    return [seen, counts["C_WaitForSlotEvent"], counts["C_GetSlotList"] > 0]


# 11. Attributes of absurd length


def stock_absurd_length() -> Any:
    (item,) = stock_token().open().get_objects({Attribute.CLASS: ObjectClass.DATA})
    with change_attribute(MODULE, Attribute.VALUE, length=1 << 62):
        return outcome(lambda: item[Attribute.VALUE])


def our_absurd_length() -> Any:
    session = our_slot().open()
    (item,) = session.find({Attribute.CLASS: ObjectClass.DATA})
    with change_attribute(MODULE, Attribute.VALUE, length=1 << 62):
        return item.value(1 << 20)


# 12. What the token says of PINs and logins


def stock_token_facts() -> Any:
    token = stock_token()
    names = [name for name in (*dir(token), *dir(token.open())) if "pin_len" in name.lower() or "state" in name.lower()]
    return [name for name in names if not name.startswith("__")]


def our_token_facts() -> Any:
    slot = our_slot()
    session, facts = slot.open(), slot.token()
    before = session.user_logged_in()
    session.login(bytearray(PIN.encode()))
    return [facts.min_pin, facts.max_pin, before, session.user_logged_in()]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
