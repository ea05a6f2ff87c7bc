"""Path building and validation by pyhanko-certvalidator, with our signatures plugged in.

Imported only when a path must be built or revocation evidence judged (:mod:`.revinfo`): the library is slow to load.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from asn1crypto import algos, keys, x509
from cryptography.exceptions import InvalidSignature
from pyhanko_certvalidator.authority import Authority, AuthorityWithCert, CertTrustAnchor, derive_quals_from_cert
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import PathBuildingError, ValidationError
from pyhanko_certvalidator.policy_decl import (
    NO_REVOCATION,
    AlgorithmUsageConstraint,
    CertRevTrustPolicy,
    DisallowWeakAlgorithmsPolicy,
    PKIXValidationParams,
)
from pyhanko_certvalidator.registry import TrustManager
from pyhanko_certvalidator.sig_validate import (
    DEFAULT_VALIDATION_CONTEXT,
    SignatureValidationContext,
    SignatureValidator,
)
from pyhanko_certvalidator.validate import async_validate_path

from sealagent.errors import FormatError
from sealagent.pki import signatures
from sealagent.pki.certificates import Certificate
from sealagent.pki.keys import load_public_key
from sealagent.pki.path import PathResult, PathStatus

__all__ = ["HOSTILE", "Algorithms", "Signatures", "as_anchor", "finish", "validate"]

MAX_STEPS = 256  # certificates looked at while building: cross-certified CAs make exponentially many paths
MAX_PATHS = 8  # complete paths tried
MAX_LENGTH = 10  # certificates of a path below the anchor

HOSTILE = (
    ValueError,  # asn1crypto: an extension is malformed; text in no encoding
    TypeError,  # the library: policyConstraints without the number it counts down
    KeyError,  # the library: a name constraint of another kind than its table has
    NotImplementedError,  # the library: name constraints over IP addresses
)
"""What hostile (or unusual) certificates make asn1crypto and the path library raise, found by fuzzing extensions."""

T = TypeVar("T")


class _TooMuch(Exception):
    """A limit of this module was met."""


def validate(
    certificate: Certificate, candidates: Sequence[Certificate], anchors: Sequence[Certificate], at: datetime
) -> PathResult:
    """Find a valid path from an anchor to a certificate.

    :param candidates: CA certificates that are not trusted.
    :param anchors: CA certificates that are.
    """
    if certificate.algorithm is None:
        return _invalid(f"{certificate.subject}: the signature algorithm is not supported, or named in two ways")
    try:
        return finish(_validate(certificate, [each for each in candidates if each.algorithm], anchors, at))
    except PathBuildingError as error:
        return PathResult(PathStatus.no_anchor, detail=str(error))
    except _TooMuch as error:
        return _invalid(str(error))
    except HOSTILE as error:
        return _invalid(f"the path cannot be checked: {type(error).__name__}: {error}")


def _invalid(detail: str) -> PathResult:
    return PathResult(PathStatus.invalid, "chain", detail)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits: where nothing is fetched the library has nothing to wait for.

    So no event loop is needed, and this works in threads and inside a running loop alike.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        coroutine.close()
    raise RuntimeError("the path library waited for something")


async def _validate(
    certificate: Certificate, candidates: Sequence[Certificate], anchors: Sequence[Certificate], at: datetime
) -> PathResult:
    leaf = x509.Certificate.load(certificate.der)
    trusted = _Anchors(leaf, anchors)
    context = ValidationContext(
        trust_manager=trusted,
        other_certs=[x509.Certificate.load(each.der) for each in candidates],
        moment=at,
        time_tolerance=timedelta(0),
        revinfo_policy=CertRevTrustPolicy(NO_REVOCATION),
        algorithm_usage_policy=Algorithms(),  # type: ignore[no-untyped-call]
        signature_validator=Signatures(),
    )
    refused: list[str] = []
    async for path in context.path_builder.async_build_paths_lazy(leaf):
        if path.pkix_len > MAX_LENGTH:
            raise _TooMuch(f"the path has more than {MAX_LENGTH} certificates")
        try:
            await async_validate_path(context, path)
        except ValidationError as error:
            refused.append(str(error))
        else:
            authority = path.trust_anchor.authority
            assert isinstance(authority, AuthorityWithCert)
            anchor = trusted.certificate(authority.certificate)
            links = tuple(Certificate.from_der(each.dump()) for each in reversed(list(path.iter_certs(False))))
            return PathResult(PathStatus.trusted, anchor=anchor, chain=(*links, anchor))
        if len(refused) == MAX_PATHS:
            raise _TooMuch(f"{MAX_PATHS} paths were tried: {refused[0]}")
    return _invalid("; ".join(dict.fromkeys(refused)))


class _Anchors(TrustManager):
    """The trust list as the library wants it, which also counts the steps of the path builder."""

    def __init__(self, leaf: x509.Certificate, anchors: Sequence[Certificate]) -> None:
        self._leaf = leaf
        self._own = {anchor.der: anchor for anchor in anchors}
        self._anchors = [as_anchor(x509.Certificate.load(anchor.der)) for anchor in anchors]
        self._steps = 0

    def certificate(self, found: x509.Certificate) -> Certificate:
        return self._own[found.dump()]

    def as_trust_anchor(self, authority: Authority) -> CertTrustAnchor | None:
        # The library takes any certificate with an anchor's name and key for that anchor and checks nothing more. For
        # an issuer that is sound (RFC 5280 6.1.1 d); the certificate in question must not pass that way.
        if isinstance(authority, AuthorityWithCert) and authority.certificate is self._leaf:
            return None
        return next((anchor for anchor in self._anchors if anchor.authority == authority), None)

    def find_potential_issuers(self, cert: x509.Certificate) -> Iterator[CertTrustAnchor]:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _TooMuch(f"building the path took more than {MAX_STEPS} steps")
        return (anchor for anchor in self._anchors if anchor.authority.is_potential_issuer_of(cert))


def as_anchor(cert: x509.Certificate) -> CertTrustAnchor:
    """Hold an anchor to its own validity period, path length and name constraints, but not to its policies.

    Policies in roots are declarations; few CAs repeat them below, and nobody asked for one here.
    """
    found = derive_quals_from_cert(cert)
    names = found.standard_parameters and PKIXValidationParams(
        initial_permitted_subtrees=found.standard_parameters.initial_permitted_subtrees,
        initial_excluded_subtrees=found.standard_parameters.initial_excluded_subtrees,
    )
    # The library takes the limit for attribute certificates from here wherever the anchor limits its path length, finds
    # None and fails on the first intermediate.
    quals = replace(found, standard_parameters=names, max_aa_path_length=found.max_path_length)
    return CertTrustAnchor(cert, quals)


class Signatures(SignatureValidator):
    """Signatures as :mod:`.signatures` verifies them, SM2 with the default ID included."""

    def validate_signature(
        self,
        signature: bytes,
        signed_data: bytes,
        public_key_info: keys.PublicKeyInfo,
        signature_algorithm: algos.SignedDigestAlgorithm,
        context: SignatureValidationContext = DEFAULT_VALIDATION_CONTEXT,
    ) -> None:
        try:
            key = load_public_key(public_key_info.dump())
            algorithm = signatures.parse_algorithm(signature_algorithm.dump())
        except FormatError as error:
            raise InvalidSignature(error.message) from error
        if not signatures.verify(key, algorithm, signature, signed_data).ok:
            raise InvalidSignature


class Algorithms(DisallowWeakAlgorithmsPolicy):
    """No SHA-1 or MD5 and no RSA key below 2,048 bits above the certificate, the Chinese identifiers included."""

    def signature_algorithm_allowed(
        self,
        algo: algos.SignedDigestAlgorithm,
        moment: datetime | None,
        public_key: keys.PublicKeyInfo | None,
    ) -> AlgorithmUsageConstraint:
        try:
            if signatures.parse_algorithm(algo.dump()).weak:
                return AlgorithmUsageConstraint(allowed=False, failure_reason="its digest is weak")
        except FormatError as error:
            return AlgorithmUsageConstraint(allowed=False, failure_reason=error.message)
        return super().signature_algorithm_allowed(algo, moment, public_key)
