"""Publishers of trust lists for tests. OpenSSL holds their keys, or ``cryptography`` where a test signs hundreds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sealagent.pki.certificates import Certificate
from sealagent.pki.signatures import default_algorithm
from sealagent.pki.signed import prepare_signed
from sealagent.pki.trust import TrustClass, TrustRole
from sealagent.pki.trustlist import ListedCertificate, ListedState, encode_trust_list

MONTH = timedelta(days=30)


def now() -> datetime:
    """Return the present time in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def listed(
    certificate: bytes,
    *roles: str,
    trust_class: str = "e-government",
    withdrawn: datetime | None = None,
    since: datetime | None = None,
    **urls: tuple[str, ...],
) -> ListedCertificate:
    """Return an entry; a maker's unless other roles are named."""
    parsed = Certificate.from_der(certificate)
    return ListedCertificate(
        parsed,
        frozenset(TrustRole(role) for role in roles or ("maker",)),
        TrustClass(trust_class),
        withdrawn or since or parsed.not_before,
        ListedState.RECOGNISED if withdrawn is None else ListedState.WITHDRAWN,
        **urls,
    )


@dataclass
class Publisher:
    """A production-management unit that publishes a trust list."""

    der: bytes
    """Its certificate."""
    key: Callable[[bytes], bytes]
    """Signs octets: DER for SM2 and ECDSA."""
    list_id: str = "beijing"
    region: str = "110000"
    region_name: str = "北京市"
    unit: str = "北京市印章制作管理中心"

    @property
    def certificate(self) -> Certificate:
        return Certificate.from_der(self.der)

    @property
    def sha256(self) -> str:
        return self.certificate.sha256

    def content(self, sequence: int = 1, entries: Sequence[ListedCertificate] = (), **changes: Any) -> bytes:
        """Return what is to be signed. :param changes: arguments of ``encode_trust_list``."""
        issued = changes.get("issued_at", now())
        values: dict[str, Any] = {
            "id": self.list_id,
            "region": self.region,
            "region_name": self.region_name,
            "unit": self.unit,
            "issued_at": issued,
            "next_update": issued + MONTH,
        }
        return encode_trust_list(sequence=sequence, entries=entries, **(values | changes))

    def sign(self, content: bytes) -> bytes:
        """Return the signed message around any content."""
        algorithm = default_algorithm(self.certificate.public_key)
        draft = prepare_signed(content, self.certificate, algorithm, now())
        return draft.finish(self.key(draft.to_sign))

    def publish(self, sequence: int = 1, entries: Sequence[ListedCertificate] = (), **changes: Any) -> bytes:
        """Return a signed list."""
        return self.sign(self.content(sequence, entries, **changes))


def canonical(value: Any) -> bytes:
    """Return what the tests put together by hand, in the form of RFC 8785."""
    import rfc8785

    return rfc8785.dumps(value)


def changed(content: bytes, **changes: Any) -> bytes:
    """Return a content with members replaced; None as ``...`` takes one out."""
    value = {**json.loads(content), **changes}
    return canonical({name: each for name, each in value.items() if each is not ...})
