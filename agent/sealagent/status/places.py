"""Where can certificates be asked about? At addresses of the configuration, of trust lists, of the certificates.

The last are the words of a stranger's CA: whoever asks there tells it what is looked at. They are used only if allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustEntry, TrustRole, TrustStore

__all__ = ["MAX_PLACES", "QUESTION_SECONDS", "Places", "by_issuer", "in_certificates", "in_trust", "together"]

MAX_PLACES = 8  # asked about one certificate; one or two are usual, and each may cost a time-out
QUESTION_SECONDS = 10.0  # after which no further place is asked about one certificate; one may take five

Places = Callable[[Sequence[Certificate]], Sequence[str]]
"""Gives the addresses at which ``chain[0]`` can be asked about, in order; the chain has two certificates or more."""

Kind = Literal["ocsp", "crls"]


def by_issuer(urls: Mapping[str, Sequence[str]]) -> Places:
    """Return places by the issuer. :param urls: by SHA-256 of the CA certificate, lower-case hexadecimal."""
    return lambda chain: urls.get(chain[1].sha256, ())


def in_trust(trust: Callable[[], TrustStore], kind: Kind) -> Places:
    """Return the places that trust lists name for the issuer, then for the anchor, whose services may serve both.

    :param trust: gives the trust in force.
    """

    def places(chain: Sequence[Certificate]) -> Sequence[str]:
        store = trust()
        entries = [entry for issuer in dict.fromkeys((chain[1], chain[-1])) for entry in _entries(store, issuer)]
        return [url for entry in entries for url in (entry.ocsp if kind == "ocsp" else entry.crls)]

    return places


def _entries(store: TrustStore, certificate: Certificate) -> list[TrustEntry]:
    found = [store.entry(certificate, role) for role in TrustRole]
    return [entry for entry in found if entry is not None]


def in_certificates(kind: Kind) -> Places:
    """Return the places that the certificate in question names itself."""

    def places(chain: Sequence[Certificate]) -> Sequence[str]:
        from sealagent.pki.ocsp import crl_urls, ocsp_urls  # most agents do not ask there

        return ocsp_urls(chain[0]) if kind == "ocsp" else crl_urls(chain[0])

    return places


def together(*places: Places) -> Places:
    """Return all places in order, each once, at most :data:`MAX_PLACES`."""
    return lambda chain: list(dict.fromkeys(url for each in places for url in each(chain)))[:MAX_PLACES]
