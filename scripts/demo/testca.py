"""A small certificate authority for the demo and for tests, made with the openssl command line.

Its root is a proper CA certificate, so path validation accepts it as an anchor. Never trust it outside tests.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeyType:
    """How openssl makes a key, and what belongs to signing with it."""

    genpkey: tuple[str, ...]
    digest: str
    sign: tuple[str, ...] = ()
    verify: tuple[str, ...] = ()


# GM/T 0009 hashes a user ID in with the message; openssl takes an empty one unless it is told the default one.
SM2_ID = "distid:1234567812345678"

KEY_TYPES = {
    "rsa-2048": KeyType(("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"), "sha256"),
    "p-256": KeyType(("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "sha256"),
    "p-384": KeyType(("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"), "sha384"),
    "sm2": KeyType(
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"), "sm3", ("-sigopt", SM2_ID), ("-vfyopt", SM2_ID)
    ),
}

OPENSSL_SECONDS = 60

# Relative names: openssl runs inside the authority's folder.
CONFIGURATION = """\
[ca]
default_ca = authority
[authority]
database = index.txt
new_certs_dir = issued
rand_serial = yes
unique_subject = no
policy = anything
email_in_dn = no
[anything]
C = optional
ST = optional
L = optional
O = optional
OU = optional
CN = supplied
[req]
distinguished_name = names
prompt = no
utf8 = yes
string_mask = utf8only
[names]
[root]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[signer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature, nonRepudiation
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class AuthorityError(RuntimeError):
    """openssl is missing, took too long, or refused; the message is its own."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A root certificate and its key in a folder of their own."""

    folder: Path
    key_type: KeyType

    @property
    def certificate(self) -> Path:
        """The root certificate, PEM."""
        return self.folder / "root.pem"

    def issue(self, request: bytes, not_before: datetime, not_after: datetime) -> bytes:
        """Issue a signer's certificate (digitalSignature, nonRepudiation) for a PKCS#10 request.

        :param request: PEM or DER; its own signature must be right; an SM2 authority takes SM2 keys only
        :param not_before: first moment of validity, with a time zone; ``not_after`` the last
        :return: DER
        :raises AuthorityError: the request is damaged or not signed by its key
        """
        form = "PEM" if request.lstrip().startswith(b"-----BEGIN") else "DER"
        pem = _openssl(self.folder, ["req", "-inform", form, "-outform", "PEM"], request)
        (self.folder / "request.pem").write_bytes(pem)
        options = ["-extensions", "signer", "-cert", "root.pem", "-in", "request.pem", "-out", "issued.pem"]
        # openssl 3.0 ends with status 0 when the request's signature is wrong; that it wrote nothing is what tells.
        (self.folder / "issued.pem").unlink(missing_ok=True)
        _sign(self.folder, options, not_before, not_after, self.key_type)
        if not (self.folder / "issued.pem").is_file():
            raise AuthorityError("the request is not signed by its own key")
        return _openssl(self.folder, ["x509", "-in", "issued.pem", "-outform", "DER"])


def create_authority(
    folder: Path, name: str, not_before: datetime, not_after: datetime, key_type: str = "p-256"
) -> Authority:
    """Make a root key and a self-signed CA certificate in ``folder``, which is made if need be.

    :param name: common name of the root
    :param not_before: first moment of validity, with a time zone; ``not_after`` the last
    :param key_type: one of :data:`KEY_TYPES`
    :raises AuthorityError: openssl failed
    """
    kind = KEY_TYPES[key_type]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "issued").mkdir(exist_ok=True)
    (folder / "index.txt").write_bytes(b"")
    (folder / "ca.cnf").write_text(CONFIGURATION, encoding="utf-8")
    _openssl(folder, ["genpkey", *kind.genpkey, "-out", "root.key"])
    subject = "/CN=" + "".join("\\" + c if c in "\\/+" else c for c in name)
    request = ["req", "-new", "-key", "root.key", "-utf8", "-subj", subject, "-config", "ca.cnf", f"-{kind.digest}"]
    _openssl(folder, [*request, *kind.sign, "-out", "root.csr"])
    options = ["-selfsign", "-extensions", "root", "-in", "root.csr", "-out", "root.pem"]
    _sign(folder, options, not_before, not_after, kind)
    return Authority(folder, kind)


def _sign(folder: Path, options: Sequence[str], not_before: datetime, not_after: datetime, kind: KeyType) -> None:
    arguments = ["ca", "-batch", "-notext", "-preserveDN", "-config", "ca.cnf", "-keyfile", "root.key"]
    arguments += ["-md", kind.digest, *kind.sign, *kind.verify]
    arguments += ["-startdate", _time(not_before), "-enddate", _time(not_after)]
    _openssl(folder, [*arguments, *options])


def _time(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time of validity needs its time zone")
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")


def _openssl(folder: Path, arguments: Sequence[str], data: bytes = b"") -> bytes:
    """Run openssl inside ``folder`` and return its standard output."""
    try:
        done = subprocess.run(
            ["openssl", *arguments], cwd=folder, input=data, capture_output=True, timeout=OPENSSL_SECONDS, check=False
        )
    except FileNotFoundError:
        raise AuthorityError("openssl is not installed; `make setup` installs it") from None
    except subprocess.TimeoutExpired:
        raise AuthorityError(f"openssl {arguments[0]} took longer than {OPENSSL_SECONDS} seconds") from None
    if done.returncode:
        raise AuthorityError(f"openssl {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout
