"""PKCS#11: slots, tokens and their mechanisms."""

from __future__ import annotations

from ctypes import byref

from sealdrivers.errors import DriverError
from sealdrivers.pkcs11 import abi
from sealdrivers.probe.pkcs11_abi import chosen_options, padded_texts
from sealdrivers.probe.pkcs11_names import MECHANISM_FLAGS, SLOT_FLAGS, TOKEN_FLAGS, flag_names, mechanism_name
from sealdrivers.probe.pkcs11_native import Native, Slot, opened, text_of
from sealdrivers.probe.section import Section

__all__ = ["mechanisms", "tokens"]


def tokens(section: Section) -> None:
    """List slots and tokens with all that they say of themselves."""
    with opened(section) as native:
        if native is None:
            return
        everything = native.numbers("C_GetSlotList", 0)
        section.fact("slots", len(everything))
        found = native.slots()
        for slot in found:
            _token(section, native, slot)
        if not found:
            section.finding("no_token")


def _token(section: Section, native: Native, slot: Slot) -> None:
    info, flags = slot.token, slot.flags
    slot_flags: list[str] = []
    with section.attempt("C_GetSlotInfo", optional=True):
        about = abi.CK_SLOT_INFO()
        native.call("C_GetSlotInfo", slot.slot_id, byref(about))
        slot_flags = flag_names(about.flags, SLOT_FLAGS)
        padded_texts(
            section,
            "C_GetSlotInfo",
            {"slotDescription": about.slotDescription, "manufacturerID": about.manufacturerID},
        )
    names = ("label", "manufacturerID", "model", "serialNumber")
    texts = padded_texts(section, "C_GetTokenInfo", {name: getattr(info, name) for name in names})
    row = {
        "token": slot.number,
        "manufacturer": texts["manufacturerID"],
        "model": texts["model"],
        **section.named("label", texts["label"]),
        **section.named("serial", texts["serialNumber"]),
        "hardware": f"{info.hardwareVersion.major}.{info.hardwareVersion.minor}",
        "firmware": f"{info.firmwareVersion.major}.{info.firmwareVersion.minor}",
        "pin_octets": f"{info.ulMinPinLen}-{info.ulMaxPinLen}",
        "sessions_most": _limit(info.ulMaxSessionCount),
        "flags": flag_names(flags, TOKEN_FLAGS),
        "slot_flags": slot_flags,
    }
    section.row("tokens", row)
    if not flags & abi.CKF_TOKEN_INITIALIZED:
        section.finding("p11_token_uninitialized", "C_GetTokenInfo", f"token {slot.number}")
        return
    for flag, code in (
        (abi.CKF_USER_PIN_LOCKED, "pin_locked"),
        (abi.CKF_USER_PIN_FINAL_TRY, "pin_last_try"),
        (abi.CKF_USER_PIN_COUNT_LOW, "pin_low"),
    ):
        if flags & flag:
            section.finding(code, "C_GetTokenInfo", f"token {slot.number}")
            break
    section.token(
        number=slot.number,
        label=text_of(info.label),
        serial=text_of(info.serialNumber),
        initialized=bool(flags & abi.CKF_USER_PIN_INITIALIZED),
        count_low=bool(flags & abi.CKF_USER_PIN_COUNT_LOW),
        final_try=bool(flags & abi.CKF_USER_PIN_FINAL_TRY),
        locked=bool(flags & abi.CKF_USER_PIN_LOCKED),
        protected_path=bool(flags & abi.CKF_PROTECTED_AUTHENTICATION_PATH),
    )


def _limit(value: int) -> str:
    """Return a limit in words (PKCS#11 2.40, 3.2)."""
    return {0: "no limit", abi.CK_UNAVAILABLE_INFORMATION: "not told"}.get(value, str(value))


def mechanisms(section: Section) -> None:
    """List the mechanisms of each token, and ask about each."""
    with opened(section) as native:
        if native is None:
            return
        profile = chosen_options(section).profile_for(native.module_info())
        named = profile.names if profile else {}
        for slot in native.tokens():
            listed = native.numbers("C_GetMechanismList", slot.slot_id)
            for number in dict.fromkeys(listed):
                if listed.count(number) > 1:
                    section.finding("p11_mechanism_twice", "C_GetMechanismList", f"0x{number:X}")
                _mechanism(section, native, slot, number, mechanism_name(number, named))
            for number in [item.number for item in profile.sign] if profile else []:
                if number not in listed:
                    name = mechanism_name(number, named)
                    section.finding("p11_mechanism_hidden", "C_GetMechanismList", f"0x{number:X} ({name})")


def _mechanism(section: Section, native: Native, slot: Slot, number: int, name: str) -> None:
    row = {"token": slot.number, "mechanism": f"0x{number:08X}", "name": name}
    try:
        info = native.mechanism(slot, number)
    except DriverError as error:
        section.finding("p11_mechanism_refused", "C_GetMechanismInfo", f"0x{number:X} {name}: {error.native_name}")
        section.row("mechanisms", {**row, "key_sizes": "", "flags": []})
        return
    sizes = f"{info.ulMinKeySize}-{info.ulMaxKeySize}" if info.ulMaxKeySize else ""
    section.row("mechanisms", {**row, "key_sizes": sizes, "flags": flag_names(info.flags, MECHANISM_FLAGS)})
