"""Time-stamp tokens (GB/T 20520, RFC 3161) for tests: real ones of OpenSSL, and those it cannot make, octet by octet.

OpenSSL's own authority knows no SM2. What :func:`make_token` returns is right by default: a test names the one thing it
makes wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cms_parts import algorithm, signed_data, signer_info, usual_attributes
from openssl_parts import sm3
from sample_seals import Identity, Kind, generalized, identity, integer, oid, openssl, tlv
from sealagent.pki import oids

POLICY = "1.2.3.4"
USAGE = "keyUsage=critical,digitalSignature\n"
PURPOSE = "extendedKeyUsage=critical,timeStamping\n"

_DIGESTS = {"sm3": oids.SM3, "sha256": oids.SHA256, "sha384": oids.SHA384, "sha512": oids.SHA512, "sha1": oids.SHA1}


def time_stamper(
    folder: Path, kind: Kind, name: str, *, ca: Identity | None = None, usage: str = USAGE, purpose: str = PURPOSE
) -> Identity:
    """Make the key and certificate of a time-stamping authority."""
    return identity(folder, kind, name, ca=ca, extensions=usage + purpose)


def hashed(name: str, octets: bytes) -> bytes:
    return sm3(octets) if name == "sm3" else hashlib.new(name, octets).digest()


def tst_info(
    covered: bytes,
    time: datetime | str,
    *,
    version: int = 1,
    digest: str = "sm3",
    digest_algorithm: bytes | None = None,
    imprint: bytes | None = None,
    serial: int = 1,
    optional: Sequence[bytes] = (),
) -> bytes:
    """Return a TSTInfo.

    :param time: aware, whole seconds; or the text of the GeneralizedTime.
    :param imprint: hashedMessage, instead of the right one.
    :param optional: what follows genTime: accuracy, ordering, nonce, tsa, extensions; DER each.
    """
    text = time if isinstance(time, str) else time.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
    message = tlv(4, hashed(digest, covered) if imprint is None else imprint)
    return tlv(
        0x30,
        integer(version),
        oid(POLICY),
        tlv(0x30, digest_algorithm or algorithm(_DIGESTS[digest]), message),
        integer(serial),
        generalized(text),
        *optional,
    )


def make_token(
    tsa: Identity,
    covered: bytes,
    time: datetime | str,
    *,
    info: bytes | None = None,
    attributes: Sequence[bytes] | None = None,
    name: bytes | None = None,
    message: bytes | None = None,
    certificates: Sequence[bytes] | None = None,
    kind: str = oids.CMS_SIGNED_DATA,
    content_type: str = oids.TST_INFO,
    digest: str | None = None,
    version: int = 1,
    optional: Sequence[bytes] = (),
) -> bytes:
    """Return a token over octets, DER.

    :param time: genTime, as in :func:`tst_info`.
    :param info: the TSTInfo, instead of one made of the other parameters.
    :param attributes: signed attributes, sorted; by default contentType, messageDigest, signingTime,
        signingCertificateV2.
    :param name: certificate whose issuer and serial number the SignerInfo gives; by default the authority's.
    :param message: what is signed, instead of the attributes.
    :param certificates: DER; by default the authority's own.
    """
    chosen = digest or ("sm3" if tsa.kind == "sm2" else "sha256")
    content = info or tst_info(covered, time, digest=chosen, version=version, optional=optional)
    signed = usual_attributes(tsa, content, content_type) if attributes is None else attributes
    signer = signer_info(tsa, signed, name=name, message=message)
    return signed_data(
        tsa, content, [signer], version=3, kind=kind, content_type=content_type, certificates=certificates
    )


@dataclass(frozen=True)
class OpensslAuthority:
    """The authority of the OpenSSL command line; it stamps the present moment."""

    tsa: Identity
    ess_digest: str = "sha256"
    """Of the attribute that names the certificate: ``sha1`` makes signingCertificate, others signingCertificateV2."""

    @property
    def _folder(self) -> Path:
        return self.tsa.key.parent

    def reply(self, query: bytes, *, token: bool = False) -> bytes:
        """Return a TimeStampResp, or the token alone."""
        configuration, asked = self._folder / "tsa.cnf", self._folder / "query"
        configuration.write_text(
            f"[tsa]\nserial={self._folder}/serial\nsigner_digest=sha256\ndefault_policy={POLICY}\n"
            f"digests=sha1,sha256,sha384,sha512\naccuracy=secs:1,millisecs:500\nclock_precision_digits=3\n"
            f"ordering=yes\ntsa_name=yes\ness_cert_id_alg={self.ess_digest}\n"
        )
        asked.write_bytes(query)
        return openssl(
            *("ts", "-reply", "-config", configuration, "-section", "tsa", "-queryfile", asked),
            *("-signer", self.tsa.pem, "-inkey", self.tsa.key, *(["-token_out"] if token else [])),
        )

    def token(self, octets: bytes, digest: str = "sha256", *, certificates: bool = True) -> bytes:
        """Return a token over octets."""
        (self._folder / "data").write_bytes(octets)
        wanted = ["-cert"] if certificates else []
        query = openssl("ts", "-query", "-data", self._folder / "data", f"-{digest}", *wanted)
        return self.reply(query, token=True)
