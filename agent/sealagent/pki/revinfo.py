"""Judge evidence about certificates, offline: OCSP responses (RFC 6960) and revocation lists (RFC 5280 6.3).

The rules are those of pyhanko-certvalidator; here it is given our signatures (SM2 with the default ID), the chain that
was found valid, and one piece of evidence. Whatever is not a clear answer is ``UNKNOWN`` with the reason in ``detail``.

The issuer of the certificate in question counts as the anchor: the caller has validated its chain. Only it, and an OCSP
responder that it named itself, may speak (RFC 6960 4.2.2.2). The library would also believe the revocation list of any
CA that the issuer certified; so it is shown no certificates but these.

Imported only when evidence is judged: the library is slow to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from asn1crypto import algos, core, crl, keys, ocsp, x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from pyhanko_certvalidator.context import ValidationContext
from pyhanko_certvalidator.errors import (
    CRLNoMatchesError,
    CRLValidationError,
    OCSPNoMatchesError,
    OCSPValidationError,
    RevokedError,
    ValidationError,
)
from pyhanko_certvalidator.ltv.types import ValidationTimingInfo, ValidationTimingParams
from pyhanko_certvalidator.path import ValidationPath
from pyhanko_certvalidator.policy_decl import (
    FRESHNESS_FALLBACK_VALIDITY_DEFAULT,
    NO_REVOCATION,
    CertRevTrustPolicy,
)
from pyhanko_certvalidator.revinfo.archival import CRLContainer, OCSPContainer
from pyhanko_certvalidator.revinfo.validate_crl import verify_crl
from pyhanko_certvalidator.revinfo.validate_ocsp import verify_ocsp_response
from pyhanko_certvalidator.sig_validate import DEFAULT_VALIDATION_CONTEXT, SignatureValidationContext

from sealagent.errors import FormatError
from sealagent.pki import der
from sealagent.pki.certificates import Certificate
from sealagent.pki.chain import HOSTILE, Algorithms, Signatures, as_anchor, finish
from sealagent.pki.crl import RevocationList, read_crl
from sealagent.pki.der import DerError
from sealagent.pki.ocsp import MAX_OCSP_OCTETS, issuer_hashes
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.verdict import timestamp

__all__ = ["CLOCK_TOLERANCE", "WITHOUT_END", "judge_crl", "judge_ocsp"]

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far thisUpdate may lie ahead of ``now``, and ``now`` behind nextUpdate: clocks differ by minutes."""

WITHOUT_END: Final = FRESHNESS_FALLBACK_VALIDITY_DEFAULT
"""How long evidence without nextUpdate counts from its thisUpdate on."""

_CERT_ID_DIGESTS: Final = frozenset({"sha1", "sha256", "sha384", "sha512", "sm3"})
_RESPONSE_EXTENSIONS: Final = frozenset({"nonce", "extended_revoke"})
_EXPIRED_CERTS_ON_CRL: Final = "2.5.29.60"  # X.509 9.5.2.8: revoked certificates that expired since then are kept
_MAX_DETAIL: Final = 500  # characters of a message of the library, which may quote names

_HOSTILE: Final = (
    *HOSTILE,
    AttributeError,  # asn1crypto: a part of another kind than the structure around it announces
    IndexError,  # asn1crypto: an empty CHOICE
    UnsupportedAlgorithm,  # cryptography: what the library verifies without our signatures
)


def judge_ocsp(
    response: bytes,
    chain: Sequence[Certificate],
    now: datetime,
    *,
    nonce: bytes | None = None,
    responders: RevocationList | None = None,
) -> CertificateStatus:
    """Return what an OCSP response says of ``chain[0]``: also when the revocation lies after the moment that matters.

    A certificate that had expired when the answer was made is only known to be good where the responder says that it
    keeps such (archiveCutoff): RFC 6960 2.2 promises "good" for certificates within their validity alone.

    :param response: DER OCSPResponse.
    :param chain: the certificate, its issuers up to the anchor, already validated.
    :param now: against which the answer is fresh, and its signer valid.
    :param nonce: the request's. A response with another one is refused; one without any is taken, because responders
        may answer from stock (RFC 6960 4.4.1, RFC 5019 4); its freshness then rests on its times alone.
    :param responders: the issuer's revocation list, against which its responder's certificate is held where the
        issuer did not exempt it (id-pkix-ocsp-nocheck, RFC 6960 4.2.2.2.1).
    """
    if (hindrance := _hindrance(chain, now)) is not None:
        return _unknown(hindrance)
    if len(response) > MAX_OCSP_OCTETS:
        return _unknown(f"an OCSP response of {len(response)} octets; {MAX_OCSP_OCTETS} are allowed")
    try:
        return _Response(response, chain).judged(now, nonce, responders)
    except (DerError, FormatError) as error:
        return _unknown(f"the OCSP response cannot be read: {error}")
    except _HOSTILE as error:
        return _unknown(f"the OCSP response cannot be judged: {type(error).__name__}: {error}")


def judge_crl(
    listed: bytes | RevocationList,
    chain: Sequence[Certificate],
    now: datetime,
    *,
    delta: bytes | RevocationList | None = None,
) -> CertificateStatus:
    """Return what a revocation list says of ``chain[0]``: also when the revocation lies after the moment that matters.

    A list made after the certificate expired may have dropped it (RFC 5280 3.3). Where it does not name the certificate
    it says nothing, unless it tells that it keeps such (expiredCertsOnCRL).

    :param listed: a complete list: DER, PEM, or read before. Also one for several issuers, if the certificate's own
        issuer signed it.
    :param chain: the certificate, its issuers up to the anchor, already validated.
    :param now: against which the list is fresh, and its signer valid.
    :param delta: a list of changes to this one; it counts where the complete list announces such (freshestCRL).
    """
    if (hindrance := _hindrance(chain, now)) is not None:
        return _unknown(hindrance)
    try:
        whole = read_crl(listed) if isinstance(listed, bytes) else listed
        changes = read_crl(delta) if isinstance(delta, bytes) else delta
        return _judge_lists(whole, changes, chain, now)
    except FormatError as error:
        return _unknown(error.message)
    except DerError as error:
        return _unknown(f"the revocation list cannot be read: {error}")
    except _HOSTILE as error:
        return _unknown(f"the revocation list cannot be judged: {type(error).__name__}: {error}")


def _unknown(detail: str) -> CertificateStatus:
    return CertificateStatus(CertificateState.UNKNOWN, detail=detail[:_MAX_DETAIL])


def _hindrance(chain: Sequence[Certificate], now: datetime) -> str | None:
    """Say why nobody's word could count for this chain."""
    if len(chain) < 2:
        return "no issuer of the certificate is known that could be asked"
    for issuer in chain[1:]:
        if not issuer.valid_at(now):
            # RFC 5280 6.3.3 f: the path of whoever signs the evidence is valid now.
            period = f"{timestamp(issuer.not_before)} to {timestamp(issuer.not_after)}"
            return f"the certificate of {issuer.subject} is valid from {period} only: what it signs does not count now"
    return None


# --- what both kinds of evidence need of the library ---


class _Evidence(Signatures):
    """Signatures on evidence: held to the algorithms that certificates are held to, which the library does not do."""

    def __init__(self) -> None:
        self.complaint = ""

    def validate_signature(
        self,
        signature: bytes,
        signed_data: bytes,
        public_key_info: keys.PublicKeyInfo,
        signature_algorithm: algos.SignedDigestAlgorithm,
        context: SignatureValidationContext = DEFAULT_VALIDATION_CONTEXT,
    ) -> None:
        policy = Algorithms()  # type: ignore[no-untyped-call]
        allowed = policy.signature_algorithm_allowed(signature_algorithm, None, public_key_info)
        if not allowed.allowed:
            self.complaint = f"signed with an algorithm that does not count: {allowed.failure_reason or 'it is weak'}"
            raise InvalidSignature
        super().validate_signature(signature, signed_data, public_key_info, signature_algorithm, context)


class _Lists(_Evidence):
    """Signatures on revocation lists: over the octets received, whatever part of a list the library was shown.

    :param received: each whole list, by the TBSCertList that the library was shown of it.
    """

    def __init__(self, received: Mapping[bytes, RevocationList]) -> None:
        super().__init__()
        self._received = received

    def validate_signature(
        self,
        signature: bytes,
        signed_data: bytes,
        public_key_info: keys.PublicKeyInfo,
        signature_algorithm: algos.SignedDigestAlgorithm,
        context: SignatureValidationContext = DEFAULT_VALIDATION_CONTEXT,
    ) -> None:
        whole, key = self._received[signed_data], public_key_info.dump()
        if key not in whole.signers:
            super().validate_signature(signature, whole.tbs, public_key_info, signature_algorithm, context)
            whole.signers.add(key)


class _Link(ValidationPath):
    """The issuer, as the anchor, and the certificate in question.

    The library looks for the path of whoever signed a list among the issuers of that one's certificate, and so refuses
    the lists of an anchor that is not self-signed (0.33). The issuer of the certificate is at the beginning already.
    """

    def __init__(self, issuer: x509.Certificate, leaf: x509.Certificate) -> None:
        super().__init__(as_anchor(issuer), [], leaf)
        self._issuer = issuer

    def truncate_to_issuer_and_append(self, cert: x509.Certificate) -> ValidationPath:
        if cert.dump() == self._issuer.dump():
            return ValidationPath(self.trust_anchor, [], None)
        found: ValidationPath = super().truncate_to_issuer_and_append(cert)
        return found


def _context(issuer: x509.Certificate, now: datetime, signatures: _Evidence, **evidence: Any) -> ValidationContext:
    context = ValidationContext(
        trust_roots=[as_anchor(issuer)],
        moment=now,
        time_tolerance=CLOCK_TOLERANCE,
        revinfo_policy=CertRevTrustPolicy(NO_REVOCATION),
        algorithm_usage_policy=Algorithms(),  # type: ignore[no-untyped-call]
        signature_validator=signatures,
        **evidence,
    )
    # With a moment given, the library passes over revocations after it. Here each one is wanted, and the caller
    # compares; the moment is only what freshness is measured against.
    timing = ValidationTimingInfo(now, best_signature_time=now, point_in_time_validation=False)
    context.timing_params = ValidationTimingParams(timing, CLOCK_TOLERANCE)
    return context


def _counts_until(said: core.Sequence) -> datetime:
    end: datetime = said["next_update"].native or said["this_update"].native + WITHOUT_END
    return end


def _failures(error: Exception, evidence: _Evidence, otherwise: str) -> str:
    """Return what the library complains about, shortly."""
    if evidence.complaint:
        return evidence.complaint
    found = [str(failure[0]) for failure in getattr(error, "failures", ()) if isinstance(failure, tuple)]
    return "; ".join(dict.fromkeys(found)) or otherwise


def _revoked(error: RevokedError, status: CertificateStatus) -> CertificateStatus:
    return replace(
        status, state=CertificateState.REVOKED, revoked_at=error.revocation_dt, reason=str(error.reason.native)
    )


# --- OCSP (RFC 6960) ---


class _Responder(x509.Certificate):  # type: ignore[misc]
    """A certificate that came with a response, as the library is to see it."""

    _SIGNING = frozenset({"digital_signature", "non_repudiation"})

    ocsp_no_check_value = None
    """Hides id-pkix-ocsp-nocheck. For a responder that has it the library (0.33) validates with a context of its own,
    without our signatures, and SM2 fails with an error of another package; for one without it, the library uses ours.
    Nothing is lost: the revocation of responders is not the library's task here."""

    @property
    def exempt(self) -> bool:
        """Whether the issuer says that the responder's certificate is not to be asked about."""
        return super().ocsp_no_check_value is not None

    @property
    def extended_key_usage_value(self) -> Any:
        """The purposes; none where the key usage allows no signatures, which the library does not look at."""
        usage = self.key_usage_value
        return None if usage is not None and not usage.native & self._SIGNING else super().extended_key_usage_value


class _Responders(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Responder


class _BasicResponse(ocsp.BasicOCSPResponse):  # type: ignore[misc]
    _fields: ClassVar = [
        *ocsp.BasicOCSPResponse._fields[:3],
        ("certs", _Responders, {"explicit": 0, "optional": True}),
    ]


class _Response:
    """An OCSP response and whom it is asked about.

    :raises DerError: it is none.
    """

    def __init__(self, response: bytes, chain: Sequence[Certificate]) -> None:
        self._octets, self._chain = response, chain
        self._leaf, self._issuer = (x509.Certificate.load(each.der) for each in chain[:2])
        _walk(response)
        self._whole = ocsp.OCSPResponse.load(response, strict=True)

    def judged(self, now: datetime, nonce: bytes | None, responders: RevocationList | None) -> CertificateStatus:
        status = self._whole["response_status"].native
        if status != "successful":
            return _unknown(f"the responder does not answer: {status}")
        wrapped = self._whole["response_bytes"]
        if wrapped["response_type"].native != "basic_ocsp_response":
            return _unknown("the response is of a kind that is not known")
        basic = wrapped["response"].parse(spec=_BasicResponse)
        data = basic["tbs_response_data"]
        answers = [index for index, each in enumerate(data["responses"]) if self._is_about(each["cert_id"])]
        if len(answers) != 1:
            count = f"it has {len(answers)} answers" if answers else "it is for another certificate"
            return _unknown(f"the response does not answer the question: {count}")
        answer = data["responses"][answers[0]]
        if nonce is not None and (given := self._whole.nonce_value) is not None and given.native != nonce:
            return _unknown("the response has another nonce than the request: it answers somebody else's question")
        strange = (self._whole.critical_extensions - _RESPONSE_EXTENSIONS) | _strange(answer)
        if strange:
            return _unknown(f"the response has critical extensions that are not known: {', '.join(sorted(strange))}")
        return self._ask_library(OCSPContainer(self._whole, answers[0]), basic, answer, now, responders)

    def _is_about(self, identifier: ocsp.CertId) -> bool:
        """Compare a CertID with the certificate; and let the library do so, which knows SHA-1 and SHA-256 only."""
        name = identifier["hash_algorithm"]["algorithm"].native
        if name not in _CERT_ID_DIGESTS:
            return False
        issuer_name, issuer_key = issuer_hashes(self._leaf, self._issuer, name)
        if name not in ("sha1", "sha256"):
            # The library looks for attributes of this name.
            setattr(self._leaf.issuer, name, issuer_name)
            setattr(self._issuer.public_key, name, issuer_key)
        return bool(
            identifier["issuer_name_hash"].native == issuer_name
            and identifier["issuer_key_hash"].native == issuer_key
            and identifier["serial_number"].native == self._leaf.serial_number
        )

    def _ask_library(
        self,
        container: OCSPContainer,
        basic: _BasicResponse,
        answer: ocsp.SingleResponse,
        now: datetime,
        responders: RevocationList | None,
    ) -> CertificateStatus:
        evidence = _Evidence()
        context = _context(self._issuer, now, evidence, ocsps=[container])
        path = _Link(self._issuer, self._leaf)
        known = answer["cert_status"].name != "unknown"
        found = CertificateStatus(
            CertificateState.GOOD,
            source="ocsp",
            produced_at=answer["this_update"].native,
            next_update=_counts_until(answer),
            evidence=self._octets,
        )
        try:
            finish(verify_ocsp_response(self._leaf, path, context))
        except RevokedError as error:
            found = _revoked(error, found)
        except OCSPNoMatchesError:
            return _unknown("the response is for another certificate")
        except OCSPValidationError as error:
            if known or evidence.complaint or getattr(error, "failures", ()):
                return _unknown(_failures(error, evidence, "the response could not be verified"))
            detail = "the responder does not know the certificate"
            found = replace(found, state=CertificateState.UNKNOWN, detail=detail)
        except ValidationError as error:
            return _unknown(f"the responder's certificate is not valid: {error}")
        if (why := self._distrusted(basic, context, responders, now)) is not None:
            return _unknown(why)
        if found.state is CertificateState.GOOD and not _still_kept(self._leaf, answer):
            return _unknown(
                "the certificate had expired when the response was made; good does not say that it was good"
            )
        return found

    def _distrusted(
        self, basic: _BasicResponse, context: ValidationContext, responders: RevocationList | None, now: datetime
    ) -> str | None:
        """Say that the responder's certificate was revoked, where the issuer's list tells."""
        for each in basic["certs"] if responders is not None and basic["certs"] else ():
            if each.exempt or each.dump() == self._issuer.dump() or context.check_validation(each) is None:  # type: ignore[no-untyped-call]
                continue
            responder = Certificate.from_der(each.dump())
            status = judge_crl(responders, (responder, *self._chain[1:]), now)  # type: ignore[arg-type]
            if status.state is CertificateState.REVOKED:
                return f"the certificate of the responder {responder.subject} was revoked"
        return None


def _walk(response: bytes) -> None:
    """Look at every element before asn1crypto does, which reads nested structures recursively."""
    parts = der.walk(response, "the response").expect(der.SEQUENCE, "the response").children("the response", 2, 1)
    if len(parts) == 2:
        (wrapped,) = parts[1].expect(der.CONTEXT_0, "responseBytes").children("responseBytes", 1, 1)
        _, octets = wrapped.expect(der.SEQUENCE, "responseBytes").children("responseBytes", 2, 2)
        der.walk(octets.expect(der.OCTET_STRING, "response").contents, "the response")


def _strange(answer: ocsp.SingleResponse) -> set[str]:
    """Return the critical extensions of an answer that are not known: those that are known may be ignored."""
    return {name for name in answer.critical_extensions if name[0].isdigit()}


def _still_kept(leaf: x509.Certificate, answer: ocsp.SingleResponse) -> bool:
    cutoff = answer.archive_cutoff_value
    return bool(
        answer["this_update"].native <= leaf.not_valid_after
        or (cutoff is not None and cutoff.native <= leaf.not_valid_after)
    )


# --- revocation lists (RFC 5280) ---


def _judge_lists(
    whole: RevocationList, changes: RevocationList | None, chain: Sequence[Certificate], now: datetime
) -> CertificateStatus:
    leaf, issuer = (x509.Certificate.load(each.der) for each in chain[:2])
    serial = leaf["tbs_certificate"]["serial_number"].contents
    if len(serial) > 1 and serial[0] in (0, 0xFF) and (serial[0] ^ serial[1]) < 0x80:
        return _unknown("the certificate's serial number is not DER: a list need not find it")
    shown = [(each, crl.CertificateList.load(each.cut_down(serial), strict=True)) for each in (whole, changes) if each]
    complete = shown[0][1]
    if whole.is_delta:
        return _unknown("the list holds changes to another list only")
    if len(shown) == 2 and not _continues(shown[1][1], complete):
        return _unknown("the list of changes does not belong to this list")
    evidence = _Lists({each["tbs_cert_list"].dump(): received for received, each in shown})
    context = _context(issuer, now, evidence, crls=[CRLContainer(each) for _, each in shown])
    path = _Link(issuer, leaf)
    head = complete["tbs_cert_list"]
    found = CertificateStatus(
        CertificateState.GOOD,
        source="crl",
        produced_at=head["this_update"].native,
        next_update=_counts_until(head),
        evidence=whole.octets,
    )
    try:
        finish(verify_crl(leaf, path, context, use_deltas=changes is not None))
    except RevokedError as error:
        return _revoked(error, found)
    except CRLNoMatchesError:
        return _unknown("the list is not one of the certificate's issuer, or not about such certificates")
    except CRLValidationError as error:
        return _unknown(_failures(error, evidence, "the list could not be verified"))
    except ValidationError as error:
        return _unknown(f"the list could not be verified: {error}")
    if head["this_update"].native > leaf.not_valid_after and not _keeps_expired(complete, leaf.not_valid_after):
        return _unknown("the certificate had expired when the list was made, which need not name it any more")
    return found


def _continues(delta: crl.CertificateList, complete: crl.CertificateList) -> bool:
    """Say whether a list of changes may be applied to a complete list (RFC 5280 5.2.4); the library does not ask."""
    base, number, own = delta.delta_crl_indicator_value, complete.crl_number_value, delta.crl_number_value
    return None not in (base, number, own) and base.native <= number.native <= own.native


def _keeps_expired(complete: crl.CertificateList, expired: datetime) -> bool:
    for extension in complete["tbs_cert_list"]["crl_extensions"]:
        if extension["extn_id"].native == _EXPIRED_CERTS_ON_CRL:
            with suppress(DerError):
                value = der.read(extension["extn_value"].contents, "expiredCertsOnCRL")
                return value.time(der.GENERALIZED_TIME, "expiredCertsOnCRL") <= expired
    return False
