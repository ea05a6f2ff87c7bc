"""Certification authorities run with the openssl command line: issue, revoke, list. Never trust them outside tests.

Each authority is a folder with a key, a certificate and a database, so that two processes may use it: one issues and
revokes, the other answers for what the first did. What it issues names the addresses where it answers.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from testbed.openssl import FAMILIES, KEY_TYPES, Credential, KeyType, OpensslError, new_key, new_request, run

__all__ = [
    "NAMES",
    "PROFILES",
    "Authority",
    "Entry",
    "Hierarchy",
    "create_authority",
    "hierarchy",
    "leaf",
    "load_hierarchy",
]

PROFILES = {
    "root": (
        "basicConstraints = critical, CA:TRUE{pathlen}",
        "keyUsage = critical, keyCertSign, cRLSign",
        "subjectKeyIdentifier = hash",
    ),
    "ca": (
        "basicConstraints = critical, CA:TRUE, pathlen:0",
        "keyUsage = critical, keyCertSign, cRLSign",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
        "{addresses}",
    ),
    "signer": (
        "basicConstraints = critical, CA:FALSE",
        "keyUsage = critical, digitalSignature, nonRepudiation",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
        "{addresses}",
    ),
    "encryption": (  # for decryption only: it may not sign (RFC 5280 4.2.1.3)
        "basicConstraints = critical, CA:FALSE",
        "keyUsage = critical, keyEncipherment, dataEncipherment",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
        "{addresses}",
    ),
    "tsa": (  # RFC 3161 2.3: this purpose alone, and critical
        "basicConstraints = critical, CA:FALSE",
        "keyUsage = critical, digitalSignature, nonRepudiation",
        "extendedKeyUsage = critical, timeStamping",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
        "{addresses}",
    ),
    "ocsp": (  # RFC 6960 4.2.2.2: named by the CA it answers for, and not itself to be asked about
        "basicConstraints = critical, CA:FALSE",
        "keyUsage = critical, digitalSignature",
        "extendedKeyUsage = OCSPSigning",
        "noCheck = ignored",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
    ),
}
"""Extensions by what a certificate is for."""

# Relative names: openssl runs inside the authority's folder.
_CONFIGURATION = """\
[ca]
default_ca = authority
[authority]
database = index.txt
new_certs_dir = issued
crlnumber = crlnumber
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
[crl]
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the database says of one serial number."""

    revoked_at: datetime | None = None
    reason: str = ""
    """As openssl spells it, e.g. ``keyCompromise``."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate and its key in a folder of their own."""

    folder: Path
    key_type: KeyType

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Find an authority that another process made. :raises OSError: there is none."""
        return cls(folder, KEY_TYPES[json.loads((folder / "authority.json").read_text())["key_type"]])

    @property
    def certificate(self) -> Path:
        """The CA's certificate, PEM."""
        return self.folder / "ca.pem"

    @property
    def der(self) -> bytes:
        """The CA's certificate."""
        return (self.folder / "ca.der").read_bytes()

    @property
    def credential(self) -> Credential:
        """The CA's key and certificate, for what openssl's ``ca`` command cannot sign."""
        return Credential(self.key_type, self.folder / "ca.key", self.folder / "ca.der")

    def issue(self, request: bytes, not_before: datetime, not_after: datetime, profile: str = "signer") -> bytes:
        """Issue a certificate for a PKCS#10 request.

        :param request: PEM or DER; its own signature must be right; an SM2 authority takes SM2 keys only.
        :param not_before: first moment of validity, with a time zone; ``not_after`` the last.
        :param profile: one of :data:`PROFILES`; by default a signer's (digitalSignature, nonRepudiation).
        :return: DER.
        :raises OpensslError: the request is damaged or not signed by its key.
        """
        form = "PEM" if request.lstrip().startswith(b"-----BEGIN") else "DER"
        pem = run(["req", "-inform", form, "-outform", "PEM"], request)
        with self._locked():
            (self.folder / "request.pem").write_bytes(pem)
            issued = self.folder / "issued.pem"
            # openssl 3.0 ends with status 0 when the request's signature is wrong; that it wrote nothing is what tells.
            issued.unlink(missing_ok=True)
            _sign(self, ["-in", "request.pem", "-out", "issued.pem"], profile, not_before, not_after)
            if not issued.is_file():
                raise OpensslError("the request is not signed by its own key")
            return run(["x509", "-in", issued, "-outform", "DER"])

    def revoke(self, certificate: bytes, at: datetime, reason: str = "keyCompromise") -> None:
        """Enter a revocation, which may lie in the past, into the database; a second one replaces the first.

        :param certificate: DER, issued by this authority.
        :param reason: CRLReason as openssl spells it, e.g. ``keyCompromise`` or ``certificateHold``.
        """
        serial = run(["x509", "-inform", "DER", "-noout", "-serial"], certificate).decode().strip().partition("=")[2]
        with self._locked():
            lines = [line.split("\t") for line in self._index().splitlines()]
            (found,) = [line for line in lines if line[3] == serial]
            found[0], found[2] = "R", f"{_time(at)[2:]},{reason}"  # openssl reads a UTCTime here
            self._write_index("".join("\t".join(line) + "\n" for line in lines))

    def entry(self, serial: int) -> Entry | None:
        """Look a serial number up; None: never issued."""
        for line in self._index().splitlines():
            _, _, revoked, number, *_ = line.split("\t")
            if int(number, 16) == serial:
                time, _, reason = revoked.partition(",")
                if not time:
                    return Entry()
                return Entry(datetime.strptime(time, "%y%m%d%H%M%SZ").replace(tzinfo=UTC), reason)
        return None

    def crl(self, this_update: datetime, next_update: datetime) -> bytes:
        """Return a certificate revocation list, DER."""
        times = ["-crl_lastupdate", _time(this_update), "-crl_nextupdate", _time(next_update)]
        with self._locked():
            pem = run([*_ca(self.key_type), "-gencrl", *times, "-crlexts", "crl"], folder=self.folder)
        return run(["crl", "-outform", "DER"], pem)

    def known(self, name: str, profile: str) -> Credential:
        """Return a credential of this authority by name, issued for ten years when it is first asked for."""
        place = self.folder / "own" / name
        with self._locked("own.lock"):
            if not (place / "certificate.der").is_file():
                now = datetime.now(UTC).replace(microsecond=0)
                validity = (now - timedelta(days=400), now + timedelta(days=3650))
                common = f"Test bed {self.folder.parent.name.upper()} {self.folder.name}: {name}"
                leaf(self, place, [("C", "CN"), ("CN", common)], validity, profile)
        return Credential(self.key_type, place / "key.pem", place / "certificate.der")

    def _index(self) -> str:
        return (self.folder / "index.txt").read_text(encoding="utf-8")

    def _write_index(self, text: str) -> None:
        draft = self.folder / "index.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(self.folder / "index.txt")

    @contextmanager
    def _locked(self, name: str = "lock") -> Iterator[None]:
        """One command at a time: openssl's ``ca`` does not lock its database."""
        handle = os.open(self.folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def create_authority(
    folder: Path,
    name: str,
    not_before: datetime,
    not_after: datetime,
    key_type: str = "p-256",
    *,
    parent: Authority | None = None,
    url: str = "",
    path_length: int = 0,
) -> Authority:
    """Make a key and a CA certificate in ``folder``, which is made if need be.

    :param name: common name.
    :param not_before: first moment of validity, with a time zone; ``not_after`` the last.
    :param key_type: one of :data:`~testbed.openssl.KEY_TYPES`.
    :param parent: who issues the certificate; None: a root, which issues its own.
    :param url: base address of the services; what this authority issues names ``{url}/ocsp/F/N``,
        ``{url}/crl/F/N.crl`` and ``{url}/ca/F/N.cer``, with the names of the folder's parent and of the folder. Empty:
        no addresses.
    :param path_length: CA certificates that may follow below a root.
    :raises OpensslError: openssl failed.
    """
    kind = KEY_TYPES[key_type]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "issued").mkdir(exist_ok=True)
    (folder / "index.txt").write_bytes(b"")
    (folder / "crlnumber").write_text("01\n")
    (folder / "ca.cnf").write_text(_CONFIGURATION + _profiles(folder, url, path_length), encoding="utf-8")
    made = Authority(folder, kind)
    new_key(kind, folder / "ca.key")
    subject = [("CN", name)] if not url else [("C", "CN"), ("O", "SealAgent test bed"), ("CN", name)]
    request = new_request(kind, folder / "ca.key", subject)
    if parent is None:
        (folder / "ca.csr").write_bytes(request)
        _sign(made, ["-selfsign", "-in", "ca.csr", "-out", "ca.pem"], "root", not_before, not_after)
        (folder / "ca.der").write_bytes(run(["x509", "-in", folder / "ca.pem", "-outform", "DER"]))
    else:
        (folder / "ca.der").write_bytes(parent.issue(request, not_before, not_after, "ca"))
        (folder / "ca.pem").write_bytes(run(["x509", "-inform", "DER", "-in", folder / "ca.der"]))
    (folder / "authority.json").write_text(json.dumps({"key_type": key_type}))  # last: it is whole now
    return made


def leaf(
    authority: Authority,
    folder: Path,
    subject: list[tuple[str, str]],
    validity: tuple[datetime, datetime],
    profile: str = "signer",
    *,
    revoked_at: datetime | None = None,
) -> Credential:
    """Make a key and let an authority certify it: also expired, not yet valid, for another use, or revoked.

    :param folder: made here; it gets ``key.pem`` and ``certificate.der``.
    :param validity: first and last moment.
    :param profile: one of :data:`PROFILES`.
    """
    folder.mkdir(mode=0o700, parents=True)
    new_key(authority.key_type, folder / "key.pem")
    request = new_request(authority.key_type, folder / "key.pem", subject)
    certificate = authority.issue(request, *validity, profile)
    if revoked_at is not None:
        authority.revoke(certificate, revoked_at)
    (folder / "certificate.der").write_bytes(certificate)
    return Credential(authority.key_type, folder / "key.pem", folder / "certificate.der")


def _profiles(folder: Path, url: str, path_length: int) -> str:
    place = f"{folder.parent.name}/{folder.name}"
    addresses = (
        f"authorityInfoAccess = OCSP;URI:{url}/ocsp/{place}, caIssuers;URI:{url}/ca/{place}.cer\n"
        f"crlDistributionPoints = URI:{url}/crl/{place}.crl"
    )
    sections = []
    for name, lines in PROFILES.items():
        sections += [f"[for_{name}]", *lines]
    text = "\n".join(sections) + "\n"
    return text.replace("{addresses}", addresses if url else "").replace("{pathlen}", f", pathlen:{path_length}")


def _ca(kind: KeyType) -> list[str]:
    return ["ca", "-config", "ca.cnf", "-keyfile", "ca.key", "-cert", "ca.pem", "-md", kind.digest, *kind.sign]


def _sign(authority: Authority, options: list[str], profile: str, not_before: datetime, not_after: datetime) -> None:
    kind = authority.key_type
    times = ["-startdate", _time(not_before), "-enddate", _time(not_after)]
    arguments = [*_ca(kind), *kind.verify, "-batch", "-notext", "-preserveDN", "-extensions", f"for_{profile}"]
    if "-selfsign" in options:
        arguments[arguments.index("-cert") : arguments.index("-cert") + 2] = []
    run([*arguments, *times, *options], folder=authority.folder)


def _time(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError("a time of validity needs its time zone")
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ")


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The authorities of one algorithm family: a root, and below it who certifies whom."""

    folder: Path
    family: str
    """One of :data:`~testbed.openssl.FAMILIES`."""
    root: Authority
    signers: Authority
    """Certifies signers for government affairs (the Measures, Art. 12)."""
    commercial: Authority
    """Certifies signers for other uses."""
    makers: Authority
    """Certifies makers, and who signs answers of the seal status service."""
    internal: Authority
    """A unit's own, below no root: certifies a maker and signers for the unit's internal seals."""

    @property
    def tsa(self) -> Credential:
        """The time-stamp authority."""
        return self.root.known("time-stamp authority", "tsa")

    def authority(self, name: str) -> Authority:
        """Return one of them by name. :raises KeyError: there is none of this name."""
        if name not in NAMES:
            raise KeyError(name)
        found: Authority = getattr(self, name)
        return found


NAMES = ("root", "signers", "commercial", "makers", "internal")
_BELOW = {"signers": "e-government signers", "commercial": "commercial signers", "makers": "makers"}


def hierarchy(folder: Path, family: str, url: str, now: datetime) -> Hierarchy:
    """Make the authorities of a family below ``folder/family``, certificates for ten years from a year ago.

    :param url: base address of the services that answer for them.
    """
    validity = (now - timedelta(days=500), now + timedelta(days=3650))
    kind = FAMILIES[family]
    place = folder / family
    base = f"Test bed {family.upper()}"
    root = create_authority(place / "root", f"{base} root", *validity, kind, url=url, path_length=1)
    made = {
        "root": root,
        "internal": create_authority(place / "internal", f"{base} internal CA", *validity, kind, url=url),
    }
    for name, words in _BELOW.items():
        made[name] = create_authority(place / name, f"{base} CA of {words}", *validity, kind, parent=root, url=url)
    done = Hierarchy(place, family, **made)
    _ = done.tsa
    for authority in made.values():
        authority.known("OCSP responder", "ocsp")
    return done


def load_hierarchy(folder: Path, family: str) -> Hierarchy:
    """Find the authorities of a family that :func:`hierarchy` made. :raises OSError: there are none."""
    place = folder / family
    return Hierarchy(place, family, **{name: Authority.load(place / name) for name in NAMES})
