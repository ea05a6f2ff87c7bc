"""PKCS#11: the function list, the life of the library, and what it says of itself."""

from __future__ import annotations

from typing import Any

from sealdrivers.errors import DriverError
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.errors import CKR
from sealdrivers.probe.pkcs11_names import value_name
from sealdrivers.probe.pkcs11_native import Native, text_of
from sealdrivers.probe.section import Section
from sealdrivers.vendors import ModuleOptions

__all__ = ["chosen_options", "interface", "padded_texts"]

REQUIRED = frozenset(
    (
        *("C_Initialize", "C_Finalize", "C_GetInfo", "C_GetSlotList", "C_GetTokenInfo", "C_GetMechanismList"),
        *("C_GetMechanismInfo", "C_OpenSession", "C_CloseSession", "C_GetSessionInfo", "C_Login", "C_Logout"),
        *("C_GetAttributeValue", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_SignInit", "C_Sign"),
    )
)
"""What the driver calls for a signature."""


def chosen_options(section: Section) -> ModuleOptions:
    """Return the profiles of the vendor table, and the one that was asked for."""
    from pathlib import Path

    from sealdrivers.vendors import vendor_table

    request = section.request
    profiles = vendor_table([Path(file) for file in request.vendor_files]).sm2
    return ModuleOptions(sm2=profiles, sm2_profile=request.profile)


def padded_texts(section: Section, where: str, fields: dict[str, Any]) -> dict[str, str]:
    """Return texts of fixed length; report those that are not padded with blanks or are no UTF-8."""
    for name, field in fields.items():
        octets = bytes(field)
        if b"\0" in octets:
            section.finding("text_padding", where, f"{name} is padded with NUL")
        try:
            octets.decode("utf-8")
        except UnicodeDecodeError:
            section.finding("text_encoding", where, name)
    return {name: text_of(field) for name, field in fields.items()}


def interface(section: Section) -> None:
    """Load, initialise, finalise, and begin again."""
    native = Native.load(section)
    if native is None:
        return
    version = native.functions.version
    section.fact("interface_version", f"{version.major}.{version.minor}")
    null = native.null_entries()
    section.fact("null_entries", null)
    needed = [name for name in null if name in REQUIRED]
    if needed:
        section.finding("p11_null_required", "CK_FUNCTION_LIST", ", ".join(needed))
        return
    if null:
        section.finding("p11_null_function", "CK_FUNCTION_LIST", ", ".join(null))
    try:
        code = native.initialize()
    except DriverError as error:
        section.finding("p11_initialize_failed", "C_Initialize", error.message)
        return
    section.fact("os_locking", code == 0)
    if code != 0:
        section.finding("p11_cannot_lock", "C_Initialize")
    _says_of_itself(section, native, (version.major, version.minor))
    again = native.status("C_Initialize", None)
    if again != CKR["CKR_CRYPTOKI_ALREADY_INITIALIZED"]:
        section.finding("p11_twice_not_told", "C_Initialize", f"answers {value_name(again)}")
    _second_life(section, native)


def _says_of_itself(section: Section, native: Native, version: tuple[int, int]) -> None:
    info = native.info()
    texts = {"manufacturer": info.manufacturerID, "description": info.libraryDescription}
    for name, text in padded_texts(section, "C_GetInfo", texts).items():
        section.fact(name, text)
    section.fact("library_version", f"{info.libraryVersion.major}.{info.libraryVersion.minor}")
    said = (info.cryptokiVersion.major, info.cryptokiVersion.minor)
    section.fact("cryptoki_version", "{}.{}".format(*said))
    if said != version:
        section.finding("p11_version_differs", "C_GetInfo", "{}.{} and {}.{}".format(*said, *version))
    options = chosen_options(section)
    profile = options.profile_for(native.module_info())
    section.fact("sm2_profile", profile.name if profile else "")


def _second_life(section: Section, native: Native) -> None:
    try:
        native.call("C_Finalize", None)
        native.initialize()
        native.call("C_GetInfo", abi.CK_INFO())
        native.call("C_Finalize", None)
    except DriverError as error:
        section.finding("p11_no_second_life", "C_Initialize", error.message)
        return
    section.finding("p11_life_cycle", "C_Initialize")
    code = native.status("C_GetInfo", abi.CK_INFO())  # last: a module may not survive it
    if code != CKR["CKR_CRYPTOKI_NOT_INITIALIZED"]:
        section.finding("p11_works_uninitialized", "C_GetInfo", f"answers {value_name(code)}")
