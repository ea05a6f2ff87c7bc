"""Seals for tests, written octet by octet so that each deviation real products show can be put in, and test keys.

Keys, certificates and signatures come from the OpenSSL command line, never from the code under test.
"""

from __future__ import annotations

import struct
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SM2_WITH_SM3 = "1.2.156.10197.1.501"
SHA256_WITH_RSA = "1.2.840.113549.1.1.11"
SHA1_WITH_RSA = "1.2.840.113549.1.1.5"
ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"

DISTID = "distid:1234567812345678"


def tlv(tag: int, *parts: bytes) -> bytes:
    """Return one DER element."""
    contents = b"".join(parts)
    size = len(contents)
    if size < 0x80:
        return bytes([tag, size]) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + contents


def integer(value: int) -> bytes:
    return tlv(2, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def oid(dotted: str) -> bytes:
    arcs = [int(arc) for arc in dotted.split(".")]
    octets = bytearray()
    for arc in (arcs[0] * 40 + arcs[1], *arcs[2:]):
        group = [arc & 0x7F]
        while arc := arc >> 7:
            group.insert(0, arc & 0x7F | 0x80)
        octets += bytes(group)
    return tlv(6, bytes(octets))


def ia5(value: str) -> bytes:
    return tlv(0x16, value.encode("ascii"))


def bits(value: bytes) -> bytes:
    return tlv(3, b"\0", value)


def generalized(value: str) -> bytes:
    return tlv(0x18, value.encode())


def utc(value: str) -> bytes:
    return tlv(0x17, value.encode())


def png(width: int = 2, height: int = 2) -> bytes:
    """Return a small valid red PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + b"\xff\0\0" * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def raw_info(
    version: int = 4,
    *,
    header: bytes | None = None,
    es_id: bytes | None = None,
    property: bytes | None = None,
    cert_list: bytes | None = None,
    cert_list_type: bytes | None = None,
    times: tuple[bytes, bytes, bytes] | None = None,
    picture: bytes | None = None,
    extensions: bytes = b"",
    certificates: tuple[bytes, ...] = (b"\x30\x00",),
) -> bytes:
    """Return SES_SealInfo with any part replaced by octets of one's own."""
    if times is None:
        make = utc if version == 1 else generalized
        prefix = "" if version == 1 else "20"
        times = (make(prefix + "200422020900Z"), make(prefix + "200422020900Z"), make(prefix + "220422020900Z"))
    if cert_list is None:
        cert_list = tlv(0x30, *(tlv(4, certificate) for certificate in certificates))
    if cert_list_type is None:
        cert_list_type = b"" if version == 1 else integer(1)
    if property is None:
        property = tlv(0x30, integer(1), tlv(0x0C, "测试章".encode()), cert_list_type, cert_list, *times)
    return tlv(
        0x30,
        header or tlv(0x30, ia5("ES"), integer(version), ia5("Test")),
        es_id or ia5("0001"),
        property,
        picture or tlv(0x30, ia5("PNG"), tlv(4, png()), integer(40), integer(40)),
        extensions,
    )


def raw_seal(
    version: int = 4,
    *,
    info: bytes | None = None,
    maker: bytes = b"\x30\x00",
    algorithm: str = SM2_WITH_SM3,
    signature: bytes | None = None,
    timestamp: bytes = b"",
    **parts: bytes | tuple[bytes, ...] | None,
) -> bytes:
    """Return SESeal; ``parts`` go to :func:`raw_info`."""
    info = info or raw_info(version, **parts)  # type: ignore[arg-type]
    signed = (tlv(4, maker), oid(algorithm), signature or bits(b"\x30\x06\x02\x01\x01\x02\x01\x01"))
    if version == 1:
        return tlv(0x30, info, tlv(0x30, *signed))
    return tlv(0x30, info, *signed, timestamp)


def raw_tbs(
    version: int = 4,
    *,
    seal: bytes | None = None,
    time: bytes | None = None,
    data_hash: bytes = bytes(32),
    property_info: bytes | None = None,
    extensions: bytes = b"",
    certificate: bytes = b"\x30\x00",
    algorithm: str = SM2_WITH_SM3,
) -> bytes:
    """Return TBS_Sign."""
    if time is None:
        time = bits(utc("201012111403Z")) if version == 1 else generalized("20201012111403Z")
    tail = (tlv(4, certificate), oid(algorithm)) if version == 1 else (extensions,)
    return tlv(
        0x30,
        integer(version),
        raw_seal(version) if seal is None else seal,
        time,
        bits(data_hash),
        property_info or ia5("/Doc_0/Signs/Sign_0/Signature.xml"),
        *tail,
    )


def raw_signature(
    version: int = 4,
    *,
    tbs: bytes | None = None,
    certificate: bytes = b"\x30\x00",
    algorithm: str = SM2_WITH_SM3,
    signature: bytes | None = None,
    timestamp: bytes = b"",
    **parts: bytes | None,
) -> bytes:
    """Return SES_Signature; ``parts`` go to :func:`raw_tbs`."""
    tbs = tbs or raw_tbs(version, certificate=certificate, algorithm=algorithm, **parts)  # type: ignore[arg-type]
    value = signature or bits(b"\x30\x06\x02\x01\x01\x02\x01\x01")
    if version == 1:
        return tlv(0x30, tbs, value)
    return tlv(0x30, tbs, tlv(4, certificate), oid(algorithm), value, timestamp)


def openssl(*arguments: str | Path, data: bytes = b"") -> bytes:
    """Run the OpenSSL command line and return its output; a failure is an error with what it said."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, f"openssl {arguments}: {done.stdout.decode()} {done.stderr.decode()}"
    return done.stdout


Kind = Literal["sm2", "rsa", "p256"]


@dataclass(frozen=True)
class Identity:
    """A test key with its certificate; only OpenSSL touches the key."""

    kind: Kind
    key: Path
    pem: Path
    der: bytes

    @property
    def algorithm(self) -> str:
        return {"sm2": SM2_WITH_SM3, "rsa": SHA256_WITH_RSA, "p256": ECDSA_WITH_SHA256}[self.kind]

    def sign(self, message: bytes, digest: str | None = None) -> bytes:
        """Return the signature over the message: DER for SM2 and ECDSA."""
        return _with_files(self, "-sign", message, b"", digest)

    def verify(self, message: bytes, signature: bytes, digest: str | None = None) -> None:
        """Let OpenSSL verify; it fails loudly."""
        _with_files(self, "-verify", message, signature, digest)


def _with_files(identity: Identity, action: str, message: bytes, signature: bytes, digest: str | None) -> bytes:
    folder = identity.key.parent
    (folder / "message").write_bytes(message)
    (folder / "value").write_bytes(signature)
    who: list[str | Path] = (
        ["-inkey", identity.key]
        if action == "-sign"
        else ["-certin", "-inkey", identity.pem, "-sigfile", folder / "value"]
    )
    name = digest or ("sm3" if identity.kind == "sm2" else "sha256")
    distid = ["-pkeyopt", DISTID] if identity.kind == "sm2" else []
    return openssl("pkeyutl", action, *who, "-rawin", "-digest", name, *distid, "-in", folder / "message")


_GENERATE = {
    "sm2": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"),
    "rsa": ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"),
    "p256": ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
}


def identity(folder: Path, kind: Kind, name: str, *, ca: Identity | None = None, extensions: str = "") -> Identity:
    """Make a key and a certificate valid for ten years from now, self-signed or issued by the CA.

    :param extensions: lines of an OpenSSL extension section; a signing leaf by default.
    """
    place = folder / name
    place.mkdir()
    key, pem, request = place / "key.pem", place / "cert.pem", place / "request.pem"
    section = place / "extensions"
    section.write_text(extensions or "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    openssl("genpkey", *_GENERATE[kind], "-out", key)
    own = ["-sm3", "-sigopt", DISTID] if kind == "sm2" else ["-sha256"]
    openssl("req", "-new", "-key", key, *own, "-subj", f"/C=CN/O=Test/CN={name}", "-out", request)
    issuer_kind = ca.kind if ca else kind
    signing = ["-sm3", "-sigopt", DISTID] if issuer_kind == "sm2" else ["-sha256"]
    issuer: list[str | Path] = ["-CA", ca.pem, "-CAkey", ca.key, "-set_serial", "4711"] if ca else ["-signkey", key]
    vfy = ["-vfyopt", DISTID] if kind == "sm2" else []
    openssl("x509", "-req", "-in", request, *vfy, *issuer, *signing, "-days", "3650", "-extfile", section, "-out", pem)
    return Identity(kind, key, pem, openssl("x509", "-in", pem, "-outform", "DER"))


def authority(folder: Path, kind: Kind, name: str) -> Identity:
    """Make a self-signed certification authority."""
    return identity(folder, kind, name, extensions="basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n")
