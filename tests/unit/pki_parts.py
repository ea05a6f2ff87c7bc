"""Parts for the tests of sealagent.pki: keys, signatures and certificates made by other software than ours.

RSA and EC by ``cryptography``, SM2 by the openssl command line, odd certificates octet by octet.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from sample_seals import DISTID, tlv
from sealagent.pki.certificates import Certificate

NOW = datetime(2026, 6, 1, tzinfo=UTC)
EXAMPLE_SCALAR = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8

SigningKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def openssl(*arguments: str | Path, stdin: bytes = b"", check: bool = True) -> bytes:
    """Run the openssl command line and return what it writes to its standard output."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, timeout=60)
    if check and done.returncode:
        raise AssertionError(f"openssl {arguments}: {done.stderr.decode(errors='replace')}")
    return done.stdout if done.returncode == 0 else b""


# SM2 by openssl


def sm2_key_file(folder: Path, scalar: int) -> Path:
    """Write the EC PRIVATE KEY of a scalar; openssl works out the point itself."""
    body = tlv(0x02, b"\1") + tlv(0x04, scalar.to_bytes(32, "big"))
    der = tlv(0x30, body, tlv(0xA0, bytes.fromhex("06082a811ccf5501822d")))
    target = folder / f"{scalar:x}.der"
    target.write_bytes(der)
    return target


def sm2_fresh_key(folder: Path, name: str) -> Path:
    """Make a key with openssl."""
    target = folder / f"{name}.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2", "-out", target)
    return target


def spki_of(key: Path) -> bytes:
    """Return the DER SubjectPublicKeyInfo of a private key file."""
    return openssl("pkey", "-in", key, "-pubout", "-outform", "DER")


def sm2_sign(key: Path, message: bytes, distid: str = DISTID) -> bytes:
    """Sign a message with openssl; the result is DER."""
    source = key.with_suffix(".message")
    source.write_bytes(message)
    return openssl("pkeyutl", "-sign", "-rawin", "-digest", "sm3", "-inkey", key, "-pkeyopt", distid, "-in", source)


def sm2_openssl_accepts(key: Path, message: bytes, signature: bytes) -> bool:
    """Ask openssl whether a signature over a message is right."""
    source, value = key.with_suffix(".message"), key.with_suffix(".sig")
    source.write_bytes(message)
    value.write_bytes(signature)
    out = openssl(
        *("pkeyutl", "-verify", "-rawin", "-digest", "sm3", "-inkey", key, "-pkeyopt", DISTID),
        *("-in", source, "-sigfile", value),
        check=False,
    )
    return b"Successfully" in out


def der_integers(r: int, s: int) -> bytes:
    """Return SEQ{INTEGER r, INTEGER s}, minimal."""
    parts = (tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big")) for value in (r, s))
    return tlv(0x30, *parts)


def integers(signature: bytes) -> tuple[int, int]:
    """Read r and s of a minimal DER signature."""
    middle = 4 + signature[3]
    return int.from_bytes(signature[4:middle], "big"), int.from_bytes(signature[middle + 2 :], "big")


# Certificates by openssl (SM2)


@dataclass(frozen=True)
class SM2Authority:
    """A key file and its certificate file."""

    key: Path
    file: Path

    @property
    def certificate(self) -> Certificate:
        return Certificate.from_der(openssl("x509", "-in", self.file, "-outform", "DER"))


def sm2_certificate(
    folder: Path, name: str, extensions: str, issuer: SM2Authority | None = None, distid: str = DISTID
) -> SM2Authority:
    """Make a key and a certificate with openssl, self-signed without an issuer, valid for 30 days from today."""
    key = sm2_fresh_key(folder, name)
    config, request, target = (folder / f"{name}.{suffix}" for suffix in ("cnf", "csr", "crt"))
    config.write_text(f"[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN={name}\n[ext]\n{extensions}\n")
    sign = ("-sm3", "-sigopt", distid)
    openssl("req", "-new", "-config", config, "-key", key, *sign, "-out", request)
    by = ("-signkey", key) if issuer is None else ("-CA", issuer.file, "-CAkey", issuer.key, "-CAcreateserial")
    openssl(
        *("x509", "-req", "-in", request, "-days", "30", "-vfyopt", distid, *sign, *by),
        *("-extfile", config, "-extensions", "ext", "-out", target),
    )
    return SM2Authority(key, target)


# Certificates by cryptography (RSA, EC)


def name_of(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


_CA_USAGE = frozenset({"key_cert_sign", "crl_sign"})
_USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True)
class Issued:
    """A certificate as we read it, with its name and private key."""

    certificate: Certificate
    key: SigningKey
    name: x509.Name


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    key: SigningKey | None = None,
    ca: bool | None = False,
    length: int | None = None,
    usage: frozenset[str] | None = None,
    start: datetime = NOW - timedelta(days=365),
    end: datetime = NOW + timedelta(days=365),
    digest: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> Issued:
    """Issue a certificate; self-signed without an issuer.

    :param ca: None leaves basicConstraints out.
    :param usage: None: what suits ``ca``; empty: leaves keyUsage out.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    if usage is None:
        usage = _CA_USAGE if ca else frozenset({"digital_signature"})
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(name))
        .issuer_name(issuer.name if issuer else name_of(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca, length), critical=True)
    if usage:
        builder = builder.add_extension(x509.KeyUsage(**{each: each in usage for each in _USAGES}), critical=True)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    signed = builder.sign(issuer.key if issuer else key, digest or hashes.SHA256())
    der = signed.public_bytes(serialization.Encoding.DER)
    return Issued(Certificate.from_der(der), key, name_of(name))


# Certificates octet by octet

ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
PRINTABLE_NAME = bytes.fromhex("300f310d300b06035504031304") + b"Test"


def odd_certificate(
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: bytes = PRINTABLE_NAME,
    subject: bytes = PRINTABLE_NAME,
    times: tuple[bytes, bytes] = (tlv(0x17, b"200101000000Z"), tlv(0x17, b"300101000000Z")),
    extensions: tuple[bytes, ...] = (),
    inner: bytes = ECDSA_SHA256,
    outer: bytes = ECDSA_SHA256,
    spki: bytes | None = None,
    serial: bytes = b"\x0a",
    version: bytes = bytes.fromhex("a003020102"),
    sign: Callable[[bytes], bytes] | None = None,
) -> bytes:
    """Return a certificate with any part of it replaced.

    :param sign: None signs with ``key``, ECDSA and SHA-256.
    """
    own = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    tbs = tlv(
        0x30,
        version,
        tlv(0x02, serial),
        inner,
        issuer,
        tlv(0x30, *times),
        subject,
        own if spki is None else spki,
        tlv(0xA3, tlv(0x30, *extensions)) if extensions else b"",
    )
    value = sign(tbs) if sign else key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return tlv(0x30, tbs, outer, tlv(0x03, b"\0", value))
