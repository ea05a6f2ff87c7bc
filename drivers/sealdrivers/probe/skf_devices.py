"""SKF: devices, their DEVINFO, applications and PIN counters."""

from __future__ import annotations

import ctypes
from typing import Any

from sealdrivers.errors import DriverError, PinRejected
from sealdrivers.probe.section import Section
from sealdrivers.probe.skf_native import Native, Token, encoding, value_name
from sealdrivers.skf import abi
from sealdrivers.skf.device import PRESENT, Device
from sealdrivers.skf.library import Number
from sealdrivers.skf.names import text_of
from sealdrivers.skf.pins import Tries, tries

__all__ = ["devices"]

_DEVINFO_ROOM = 512
_FILL = 0xA5
_TEXTS = {"Manufacturer": (2, 64), "Issuer": (66, 64), "Label": (130, 32), "SerialNumber": (162, 32)}
"""Offset and octets of DEVINFO's texts; no layout moves them."""


def devices(section: Section) -> None:
    """Look at each device and application without a PIN."""
    native = Native(section)
    names = list(dict.fromkeys(native.names("SKF_EnumDev", PRESENT)))
    count = 0
    for number, name in enumerate(names, 1):
        try:
            handle = native.open("SKF_ConnectDev", name)
        except DriverError as error:
            with section.attempt(f"device {number}"):
                raise error
            continue
        layout = _record(section, native, handle, number)
        native.status("SKF_DisConnectDev", handle)
        if layout not in (abi.PACKED_DEVINFO, abi.NATURAL_DEVINFO):
            continue
        with section.attempt(f"device {number}"):
            device = Device(native, name)
            count = _device(section, native, device, number, count)
            device.close()
    if not count:
        section.finding("no_token")


def _record(section: Section, native: Native, handle: int, number: int) -> int:
    """Look at DEVINFO as it is written; return its octets."""
    written = 0
    record = b""
    for fill in (_FILL, 0x5A):
        buffer = (ctypes.c_char * _DEVINFO_ROOM)()
        ctypes.memset(buffer, fill, _DEVINFO_ROOM)
        code = native.status("SKF_GetDevInfo", handle, buffer)
        if code != abi.OK:
            section.finding("call_failed", "SKF_GetDevInfo", f"device {number}: {value_name(code)}")
            return 0
        octets = buffer.raw.rstrip(bytes([fill]))
        if len(octets) > written:
            written, record = len(octets), octets
    if written not in (abi.PACKED_DEVINFO, abi.NATURAL_DEVINFO):
        section.finding("skf_devinfo_layout", "SKF_GetDevInfo", f"device {number}: {written} octets are written")
        return written
    if written == abi.NATURAL_DEVINFO:
        section.finding("skf_devinfo_natural", "SKF_GetDevInfo", f"device {number}")
    for name, (start, length) in _TEXTS.items():
        field = record[start : start + length]
        if b"\0" not in field:
            section.finding("skf_text_unterminated", "SKF_GetDevInfo", f"device {number}: {name}")
        used = encoding(field.split(b"\0", 1)[0])
        if used not in ("ASCII", "UTF-8"):
            section.finding("text_encoding", "SKF_GetDevInfo", f"device {number}: {name} is {used}")
    return written


def _device(section: Section, native: Native, device: Device, number: int, count: int) -> int:
    facts = device.facts()
    section.serial(facts.serial)
    if not facts.serial:
        section.finding("skf_serial_empty", "SKF_GetDevInfo", f"device {number}")
    state: int | None = None
    if native.offers("SKF_GetDevState"):
        with section.attempt("SKF_GetDevState", optional=True):
            room = Number()
            native.call("SKF_GetDevState", device.name, room)
            state = room.known
    native.look_at_list("SKF_EnumApplication", device.handle)
    applications = device.application_names()
    section.row(
        "devices",
        {
            "device": number,
            "manufacturer": facts.manufacturer,
            "issuer": facts.issuer,
            **section.named("name", text_of(device.name)),
            **section.named("label", facts.label),
            **section.named("serial", facts.serial),
            "hardware": facts.hardware,
            "firmware": facts.firmware,
            "devinfo_octets": facts.layout,
            "max_buffer": facts.max_buffer,
            "state": state,
            "applications": len(applications),
        },
    )
    for name in applications:
        count += 1
        token = Token(count, number, device, name)
        with section.attempt(f"application {count}"):
            _application(section, native, token, facts.label, facts.serial)
    return count


def _application(section: Section, native: Native, token: Token, label: str, serial: str) -> None:
    used = encoding(token.name)
    if used not in ("ASCII", "UTF-8"):
        section.finding("text_encoding", "SKF_EnumApplication", f"application {token.number} is {used}")
    with native.application(token) as application:
        initialized, user, admin = True, None, None
        try:
            user = tries(native, application.handle, abi.USER)
        except PinRejected:
            initialized = False
        if initialized and user is None:
            section.finding("pin_counter_hidden", "SKF_GetPINInfo", f"application {token.number}")
        with section.attempt("SKF_GetPINInfo", optional=True):
            admin = tries(native, application.handle, abi.ADMIN)
            if admin is None and user is not None:
                section.finding("skf_admin_counter_hidden", "SKF_GetPINInfo", f"application {token.number}")
        if user is not None:
            _pin_findings(section, native, application.handle, user, token.number)
        section.row(
            "applications",
            {
                "application": token.number,
                "device": token.device_number,
                **section.named("name", text_of(token.name)),
                "name_encoding": used,
                "user_tries": _counter(user),
                "admin_tries": _counter(admin),
                "factory_pin": user.factory_pin if user else None,
            },
        )
    section.token(
        number=token.number,
        label=label,
        serial=serial,
        application=text_of(token.name),
        tries_left=user.left if user else None,
        initialized=initialized,
        count_low=user is not None and user.most is not None and user.left < user.most,
        final_try=user is not None and user.left == 1,
        locked=user is not None and user.left == 0,
        factory_pin=user is not None and user.factory_pin,
    )


def _counter(counter: Tries | None) -> str:
    if counter is None:
        return "not told"
    return f"{counter.left} of {counter.most}" if counter.most is not None else str(counter.left)


def _pin_findings(section: Section, native: Native, application: int, user: Tries, number: int) -> None:
    if user.factory_pin:
        section.finding("factory_pin", "SKF_GetPINInfo", f"application {number}")
    low = "pin_low" if user.most is not None and user.left < user.most else ""
    code = {0: "pin_locked", 1: "pin_last_try"}.get(user.left, low)
    if code:
        section.finding(code, "SKF_GetPINInfo", f"application {number}")
    width = _bool_octets(native, application)
    section.fact("bool_octets", width)
    if width == 8:
        section.finding("skf_wide_bool", "SKF_GetPINInfo")


def _bool_octets(native: Native, application: int) -> int:
    """Return how many octets SKF_GetPINInfo writes for its BOOL."""
    buffer = (ctypes.c_ubyte * 16)(*([_FILL] * 16))
    arguments: tuple[Any, ...] = (application, abi.USER, Number(), Number(), buffer)
    native.call("SKF_GetPINInfo", *arguments)
    return len(bytes(buffer).rstrip(bytes([_FILL])))
