"""SKF: containers and files, without a PIN."""

from __future__ import annotations

from sealdrivers.contract import KeyType
from sealdrivers.errors import DeviceFailure, DriverError, KeyNotFound
from sealdrivers.pkcs11.publickeys import PublicKey, read_certificate
from sealdrivers.probe.section import Section
from sealdrivers.probe.skf_native import ROOM, Native, Token, encoding
from sealdrivers.skf import abi, records
from sealdrivers.skf.application import SIGN, Application
from sealdrivers.skf.library import Number
from sealdrivers.skf.names import text_of

__all__ = ["containers", "files", "public_key_of"]

EXCHANGE = 0
TYPES = {0: "empty", 1: "RSA", 2: "ECC"}

MOST_OCTETS = 1 << 20
"""Octets of a file that is read."""


def public_key_of(native: Native, handle: int) -> tuple[int, PublicKey | None]:
    """Return octets and content of the signing key's record; None where there is no such key.

    :raises DeviceFailure: the record makes no sense. :raises DriverError: it is refused for another reason.
    """
    try:
        blob = native.octets("SKF_ExportPublicKey", handle, SIGN, room=1024)
    except KeyNotFound:
        return 0, None
    return len(blob), records.public_key(blob)


def containers(section: Section) -> None:
    """Look at each container: its type, its keys and its certificates."""
    native = Native(section)
    for token in native.tokens():
        with section.attempt(f"application {token.number}"), native.application(token) as application:
            native.look_at_list("SKF_EnumContainer", application.handle)
            for number, name in enumerate(native.container_names(application), 1):
                with section.attempt(f"container {number}"):
                    _container(section, native, application, token, number, name)


def _container(
    section: Section, native: Native, application: Application, token: Token, number: int, name: bytes
) -> None:
    used, where = encoding(name), f"application {token.number}, container {number}"
    if used not in ("ASCII", "UTF-8"):
        section.finding("text_encoding", "SKF_EnumContainer", f"{where} is {used}")
    with native.container(application, name) as handle:
        kind: int | None = None
        if native.offers("SKF_GetContainerType"):
            with section.attempt("SKF_GetContainerType", optional=True):
                room = Number()
                native.call("SKF_GetContainerType", handle, room)
                kind = room.known
        octets, key = 0, None
        try:
            octets, key = public_key_of(native, handle)
        except DeviceFailure as error:
            if error.native_code is None:
                section.finding("skf_key_blob", "SKF_ExportPublicKey", f"{where}: {error.message}")
            elif kind:
                section.finding("call_failed", "SKF_ExportPublicKey", f"{where}: {error.message}")
        certificate = _certificate(section, native, handle, key, where)
        exchange = native.status("SKF_ExportPublicKey", handle, EXCHANGE, None, Number(0)) == abi.OK
        found = {None: 0, KeyType.SM2: 2}.get(key.type if key else None, 1)
        if kind is not None and kind != found and (key is not None or kind not in (1, 2)):
            section.finding(
                "skf_container_type", "SKF_GetContainerType", f"{where}: type {kind}, key {key.type if key else 'none'}"
            )
        section.row(
            "containers",
            {
                "application": token.number,
                "container": number,
                **section.named("name", text_of(name)),
                "name_encoding": used,
                "type": TYPES.get(kind, str(kind)) if kind is not None else "",
                "signing_key": key.type.value if key else "",
                "record_octets": octets or None,
                "certificate": certificate,
                "exchange_key": exchange,
            },
        )


def _certificate(section: Section, native: Native, handle: int, key: PublicKey | None, where: str) -> str:
    try:
        der = native.octets("SKF_ExportCertificate", handle, SIGN, room=ROOM)
    except KeyNotFound:
        return "none"
    except DriverError as error:
        if error.native_code is None:
            section.finding("answer_invalid", "SKF_ExportCertificate", f"{where}: {error.message}")
        return error.native_name or error.code
    told = native.size("SKF_ExportCertificate", handle, SIGN)
    if told != len(der):
        section.finding("size_claim", "SKF_ExportCertificate", f"{where}: {told} octets told, {len(der)} written")
    facts = read_certificate(der)
    if facts is None:
        section.finding("certificate_unreadable", "SKF_ExportCertificate", where)
        return "unreadable"
    if key is not None and facts.public_key.material != key.material:
        section.finding("certificate_mismatch", "SKF_ExportCertificate", where)
        return "of another key"
    return f"{len(der)} octets"


def files(section: Section) -> None:
    """Look at the files, and read those that anybody may read."""
    native = Native(section)
    if not native.offers("SKF_EnumFiles", "SKF_GetFileInfo", "SKF_ReadFile"):
        section.finding("not_offered", "SKF_EnumFiles")
        return
    section.fact("eseal_extension", native.offers("EPS_ReadESealData"))
    for token in native.tokens():
        with section.attempt(f"application {token.number}"), native.application(token) as application:
            native.look_at_list("SKF_EnumFiles", application.handle)
            for number, name in enumerate(application.file_names(), 1):
                with section.attempt(f"file {number}"):
                    _file(section, native, application, token, number, name)


def _file(section: Section, native: Native, application: Application, token: Token, number: int, name: bytes) -> None:
    record = native.record("SKF_GetFileInfo", application.handle, name, size=abi.FILE_ATTRIBUTE)
    size, rights = records.file_attribute(record)
    read = "not for anybody"
    if rights == abi.ANYONE and 0 < size <= MOST_OCTETS:
        try:
            read = "cannot be read" if application.read_file(name, MOST_OCTETS, logged_in=False) is None else "read"
        except DeviceFailure as error:
            read = "less than told"
            said = f"application {token.number}, file {number}, {size} octets are told: {error.message}"
            section.finding("skf_file_size", "SKF_ReadFile", said)
    section.row(
        "files",
        {
            "application": token.number,
            "file": number,
            **section.named("name", text_of(name)),
            "name_encoding": encoding(name),
            "octets": size,
            "read_rights": f"0x{rights:X}",
            "read": read,
        },
    )
