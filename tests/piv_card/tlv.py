"""BER-TLV with tags of one or two octets, as PIV uses it (SP 800-73-4 part 2; ISO/IEC 7816-4 clause 5.2.2)."""

from __future__ import annotations

__all__ = ["TlvError", "fields", "tlv"]


class TlvError(ValueError):
    """The octets are no sequence of TLVs."""


def tlv(tag: int, value: bytes) -> bytes:
    """Encode one TLV with a length of at most 65535."""
    size = len(value)
    if size < 0x80:
        length = bytes([size])
    elif size < 0x100:
        length = bytes([0x81, size])
    else:
        length = b"\x82" + size.to_bytes(2, "big")
    return tag.to_bytes(2 if tag > 0xFF else 1, "big") + length + value


def fields(octets: bytes) -> dict[int, bytes]:
    """Decode a sequence of TLVs. :raises TlvError: anything is cut or left over."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(octets):
        width = 2 if octets[at] & 0x1F == 0x1F else 1
        tag = int.from_bytes(octets[at : at + width], "big")
        at += width
        if at >= len(octets):
            raise TlvError("a tag without a length")
        size, at = octets[at], at + 1
        if size >= 0x80:
            count = size & 0x7F
            if not 0 < count <= 2 or at + count > len(octets):
                raise TlvError("a length of this form is not used")
            size, at = int.from_bytes(octets[at : at + count], "big"), at + count
        if at + size > len(octets):
            raise TlvError("a value is cut")
        found[tag] = octets[at : at + size]
        at += size
    return found
