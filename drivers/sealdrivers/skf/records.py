"""The records of SKF as values of the contract: device facts, public keys, signatures (GM/T 0016-2012 clause 6.4).

Octet strings in records are big-endian and right-aligned in their field; integers are in the host's order.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from sealdrivers import sm2
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure
from sealdrivers.pkcs11.publickeys import CURVE_PARAMETERS, PublicKey, ec_public_key, rsa_public_key
from sealdrivers.signatures import DIGEST_INFO, der_signature
from sealdrivers.skf import abi
from sealdrivers.skf.names import field_text

__all__ = ["DeviceFacts", "device_facts", "digest_info", "file_attribute", "public_key", "sm2_signature"]

_FIELD = 64
_RESERVED = 64  # octets at the end of DEVINFO
_WORD = 32


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a device says of itself (DEVINFO)."""

    manufacturer: str
    issuer: str
    label: str
    serial: str
    hardware: str
    firmware: str
    max_buffer: int
    """MaxBufferSize: octets that one call carries."""
    layout: int
    """Octets of the library's DEVINFO."""


def device_facts(record: bytes) -> DeviceFacts:
    """Read a DEVINFO. The layouts differ only in where the words begin; these end together with the record.

    :param record: the octets the library has written.
    :raises DeviceFailure: the record has neither of the known lengths.
    """
    if not record:
        raise DeviceFailure("SKF_GetDevInfo: success without output")
    if len(record) not in (abi.PACKED_DEVINFO, abi.NATURAL_DEVINFO):
        raise DeviceFailure(
            f"SKF_GetDevInfo: the library's record has {len(record)} octets instead of {abi.PACKED_DEVINFO} or "
            f"{abi.NATURAL_DEVINFO}: it was built for another layout, which this driver does not know"
        )
    return DeviceFacts(
        manufacturer=field_text(record[2:66]),
        issuer=field_text(record[66:130]),
        label=field_text(record[130:162]),
        serial=field_text(record[162:194]),
        hardware=f"{record[194]}.{record[195]}",
        firmware=f"{record[196]}.{record[197]}",
        max_buffer=struct.unpack_from("=I", record, len(record) - _RESERVED - 4)[0],
        layout=len(record),
    )


def public_key(blob: bytes) -> PublicKey:
    """Read an ECCPUBLICKEYBLOB or RSAPUBLICKEYBLOB, told apart by their lengths.

    :raises DeviceFailure: it is neither, or holds no key.
    """
    if len(blob) == abi.ECC_PUBLIC_KEY_BLOB:
        (bits,) = struct.unpack_from("=I", blob)
        if bits != 256:
            raise DeviceFailure(f"SKF_ExportPublicKey: an SM2 key of {bits} bits")
        point = _right_aligned(blob[4:68], "X") + _right_aligned(blob[68:132], "Y")
        key = ec_public_key(CURVE_PARAMETERS[KeyType.SM2], b"\x04" + point) if any(point) else None
    elif len(blob) == abi.RSA_PUBLIC_KEY_BLOB:
        _, bits = struct.unpack_from("=II", blob)
        key = rsa_public_key(blob[8:264], blob[264:268])
        if key is not None and key.bits != bits:
            raise DeviceFailure(f"SKF_ExportPublicKey: an RSA key of {key.bits} bits that is said to have {bits}")
    else:
        raise DeviceFailure(f"SKF_ExportPublicKey: {len(blob)} octets are no public key of this interface")
    if key is None:
        raise DeviceFailure("SKF_ExportPublicKey: the octets are no public key")
    return key


def sm2_signature(blob: bytes) -> bytes:
    """Return an ECCSIGNATUREBLOB as DER ``SEQUENCE{INTEGER r, INTEGER s}``.

    :raises DeviceFailure: r or s cannot be part of a signature.
    """
    r, s = _right_aligned(blob[:_FIELD], "r"), _right_aligned(blob[_FIELD:], "s")
    return der_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"), sm2.N)


def digest_info(mechanism: Mechanism, digest: bytes) -> bytes:
    """Return the DER DigestInfo that the device pads and signs."""
    return DIGEST_INFO[mechanism.digest_name] + digest


def file_attribute(record: bytes) -> tuple[int, int]:
    """Return size and read rights of a file from its FILEATTRIBUTE."""
    size, read_rights = struct.unpack_from("=II", record, 32)
    return size, read_rights


def _right_aligned(field: bytes, name: str) -> bytes:
    if any(field[:_WORD]):
        raise DeviceFailure(f"the library's {name} is longer than {_WORD} octets, or not at the end of its field")
    return field[_WORD:]
