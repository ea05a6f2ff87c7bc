"""What goes to every device and comes from it in one form: DigestInfo for RSA, DER for ECDSA and SM2 signatures."""

from __future__ import annotations

from sealdrivers.errors import DeviceFailure

__all__ = ["DIGEST_INFO", "der_signature"]

DIGEST_INFO = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""DER of DigestInfo up to the digest, by the digest's name (RFC 8017 §9.2 note 1)."""


def der_signature(r: int, s: int, order: int) -> bytes:
    """Return r and s as DER ``SEQUENCE{INTEGER r, INTEGER s}`` (RFC 3279 §2.2.3).

    :param order: of the curve, at most 384 bits: every length then fits one octet.
    :raises DeviceFailure: r or s is zero or not below the order, so the device's answer was no signature.
    """
    body = b""
    for value in (r, s):
        if not 0 < value < order:
            raise DeviceFailure("the device answered with r or s that is zero or not below the order of the curve")
        octets = value.to_bytes(value.bit_length() // 8 + 1, "big")
        body += bytes([0x02, len(octets)]) + octets
    return bytes([0x30, len(body)]) + body
