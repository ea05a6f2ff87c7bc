"""PKCS#11: what each mechanism that may be SM2 really signs.

PKCS#11 has no SM2, and nobody's number is believed. Each candidate gets 32 random octets, as if they were e, and a
random message of another length; what came back is checked against every meaning that is known.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from sealdrivers.errors import DriverError
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.sm2 import CKM_ECDSA, Signed
from sealdrivers.probe.checking import FOUND, challenge, is_minimal, looked_at
from sealdrivers.probe.pkcs11_names import mechanism_name
from sealdrivers.probe.pkcs11_objects import FoundKey
from sealdrivers.probe.pkcs11_signatures import Signer, SigningToken, unlocked
from sealdrivers.probe.section import Section
from sealdrivers.vendors import Sm2Input, Sm2Mechanism, Sm2Profile

__all__ = ["classification"]

MESSAGE = 50
"""Octets of the message: not 32, which are taken for e."""

VENDOR_DEFINED = 0x80000000

_CLAIMED = {Sm2Input.E: Signed.E, Sm2Input.MESSAGE: Signed.WITHOUT_Z, Sm2Input.MESSAGE_WITH_Z: Signed.WITH_Z}


@dataclass(slots=True)
class _Answers:
    """What came of one mechanism with inputs of one length."""

    found: set[Signed | None] = field(default_factory=set)
    refused: str = ""
    """The value it was refused with."""
    malformed: str = ""
    forms: set[str] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)
    minimal: bool = True
    milliseconds: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        if self.refused or self.malformed:
            return self.refused or self.malformed
        return " / ".join(sorted("unknown" if found is None else FOUND[found] for found in self.found))


def classification(section: Section) -> None:
    """Classify every signing mechanism of the token that may be SM2, with each SM2 key."""
    with unlocked(section) as token:
        if token is None:
            return
        keys = [(number, key) for number, key in enumerate(token.keys, 1) if key.is_sm2]
        if not keys:
            section.finding("sm2_no_key")
        profile = token.profiles[0] if len(token.profiles) == 1 else None
        section.fact("vendor_entry", profile.name if profile else "")
        signer = Signer(section, token.native, token.slot)
        for number, key in keys:
            _key(section, signer, token, number, key, profile)
        signer.close()


def _candidates(token: SigningToken) -> list[int]:
    """Return the mechanisms to try: the vendor table's, what else of the vendors' range signs, and CKM_ECDSA."""
    signing = [number for number, facts in token.offered.items() if facts.flags & abi.CKF_SIGN]
    known = [item.number for profile in token.profiles for item in profile.sign]
    wanted = known if len(token.profiles) == 1 else [number for number in known if number in signing]
    wanted += [number for number in signing if number >= VENDOR_DEFINED]
    return list(dict.fromkeys([*wanted, *([CKM_ECDSA] if CKM_ECDSA in signing else [])]))


def _key(
    section: Section, signer: Signer, token: SigningToken, number: int, key: FoundKey, profile: Sm2Profile | None
) -> None:
    named = {"key": number, **section.named("label", key.label), "type": "sm2"}
    if key.public is None:
        if section.step(f"key {number}"):
            section.finding("public_key_unreadable", "CKA_EC_POINT", f"key {number}")
            section.row("keys", {**named, "works": False, "mechanisms": 0})
        return
    names = profile.names if profile else {}
    claims = {item.number: item for item in profile.sign} if profile else {}
    candidates = _candidates(token)
    works = 0
    for mechanism in candidates:
        if not section.step(f"key {number}, mechanism 0x{mechanism:X}"):
            continue
        title = mechanism_name(mechanism, names)
        of_e = _ask(section, signer, key, mechanism, [32] * section.request.signatures)
        of_message = _ask(section, signer, key, mechanism, [MESSAGE])
        if of_e.found == {Signed.E}:
            section.remember(f"0x{mechanism:X} works with key {number}")
            works += 1
        claim = claims.get(mechanism)
        section.row(
            "mechanisms",
            {
                "key": number,
                "mechanism": f"0x{mechanism:08X}",
                "name": title,
                "claimed": _claimed(claim),
                "with_32_octets": str(of_e),
                "with_a_message": str(of_message),
                "form": "/".join(sorted(of_e.forms | of_message.forms)),
                "octets": sorted(of_e.lengths | of_message.lengths),
                "median_ms": round(statistics.median(of_e.milliseconds), 3) if of_e.milliseconds else None,
            },
        )
        _judge(section, f"0x{mechanism:X}", of_e, of_message, claim)
    works += sum(section.remembered(f"0x{mechanism:X} works with key {number}") for mechanism in candidates)
    if section.step(f"key {number} summed up"):
        if not works:
            section.finding("sm2_none", "C_Sign", f"key {number}")
        section.row("keys", {**named, "works": works > 0, "mechanisms": works})


def _claimed(claim: Sm2Mechanism | None) -> str:
    return "" if claim is None else f"{claim.input.value}{f', {claim.answer}' if claim.answer else ''}"


def _ask(section: Section, signer: Signer, key: FoundKey, mechanism: int, lengths: Sequence[int]) -> _Answers:
    assert key.public is not None
    answers = _Answers()
    for length in lengths:
        given = challenge(length)
        begun = time.perf_counter()
        try:
            answer = signer.sign(abi.CK_MECHANISM(mechanism), key, given)
            answers.milliseconds.append((time.perf_counter() - begun) * 1000)
            answers.lengths.add(len(answer))
            found, form = looked_at(key.public.material, given, answer)
        except DriverError as error:
            if error.native_code is None:
                answers.malformed = "no signature"
            else:
                answers.refused = error.native_name or f"0x{error.native_code:X}"
            return answers
        answers.found.add(found)
        answers.forms.add(form)
        answers.minimal &= is_minimal(answer)
    return answers


def _judge(section: Section, number: str, of_e: _Answers, of_message: _Answers, claim: Sm2Mechanism | None) -> None:
    found = of_e.found | of_message.found
    if of_e.found == {Signed.E}:
        section.finding("sm2_signs_e", "C_Sign", number)
    elif Signed.ECDSA in found:
        section.finding("sm2_ecdsa", "C_Sign", number)
    elif found & {Signed.WITH_Z, Signed.WITHOUT_Z}:
        said = " / ".join(sorted(FOUND[item] for item in found if item is not None))
        section.finding("sm2_hashes", "C_Sign", f"{number}: {said}")
    if None in found or of_e.malformed or of_message.malformed:
        section.finding("sm2_unknown", "C_Sign", f"{number}: 32 octets: {of_e}; message: {of_message}")
    if not (of_e.minimal and of_message.minimal):
        section.finding("der_not_minimal", "C_Sign", number)
    if claim is None:
        return
    forms = of_e.forms | of_message.forms
    wanted = _CLAIMED.get(claim.input)
    differs = [f"claimed {_claimed(claim)}, found 32 octets: {of_e}; message: {of_message}; {'/'.join(sorted(forms))}"]
    relevant = of_e if wanted is Signed.E else of_message
    wrong = wanted is not None and relevant.found != {wanted}
    if wrong or (claim.answer and forms and forms != {claim.answer}):
        section.finding("sm2_claim_differs", "C_Sign", f"{number}: {differs[0]}")
    elif wanted is not None:
        section.finding("sm2_claim_confirmed", "C_Sign", number)
