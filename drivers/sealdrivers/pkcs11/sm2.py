"""SM2 over PKCS#11: which of a token's mechanisms may do it, and what each was found to sign.

PKCS#11 has no SM2. Vendors' numbers come from the vendor table (:mod:`sealdrivers.vendors`); a module that no entry
fits is tried with every known number it offers, and with CKM_ECDSA at last. No number is believed: the first signature
of a mechanism is checked against the key's public half, and a mechanism is used for SM2 only if it signed e itself
(GM/T 0009: e = SM3(Z || M), computed by the caller). What was found is kept, by library, model of token and mechanism.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from sealdrivers import sm2
from sealdrivers.contract import ModuleInfo
from sealdrivers.errors import DeviceFailure, MechanismNotSupported
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import MechanismFacts
from sealdrivers.signatures import der_signature
from sealdrivers.vendors import Sm2Input, Sm2Profile

__all__ = ["CKM_ECDSA", "Findings", "Signed", "Sm2Support", "classify", "read_signature"]

CKM_ECDSA = 0x1041

MAX_FINDINGS = 64 << 10
"""Octets of a file of findings; a longer one counts as absent."""

MAX_INTEGER = 64
"""Octets of r or s in DER, superfluous zeros included."""

logger = logging.getLogger(__name__)


class Signed(StrEnum):
    """What a mechanism was found to sign."""

    E = "e"
    """SM2 over the 32 octets it was given: the only one that is used."""
    WITH_Z = "Z||M"
    """SM2 over SM3(Z || input): it hashes by itself, with the default ID."""
    WITHOUT_Z = "M"
    """SM2 over SM3(input): it hashes by itself, without Z."""
    ECDSA = "ecdsa"
    """ECDSA on the SM2 curve, which is no SM2 signature."""


_REFUSALS = {
    Signed.WITH_Z: "hashes what it is given, with Z",
    Signed.WITHOUT_Z: "hashes what it is given, without Z",
    Signed.ECDSA: "answers with ECDSA on the SM2 curve, which is no SM2 signature",
}


def read_signature(answer: bytes) -> tuple[int, int, str]:
    """Read r and s from what a device answered, and its form: ``raw`` (r || s, 64 octets) or ``der``.

    DER is read tolerantly: superfluous zeros before an integer, and a missing one before a high bit, are met in the
    field and change no number.

    :raises DeviceFailure: it is neither.
    """
    found = _from_der(answer)
    form = "der"
    if found is None and len(answer) == 64:
        found, form = (int.from_bytes(answer[:32], "big"), int.from_bytes(answer[32:], "big")), "raw"
    if found is None:
        raise DeviceFailure(f"the device answered with {len(answer)} octets that are no SM2 signature")
    return *found, form


def _from_der(octets: bytes) -> tuple[int, int] | None:
    if len(octets) < 8 or octets[0] != 0x30:
        return None
    start = 2 if octets[1] < 0x80 else 3 if octets[1] == 0x81 else 0
    if not start or octets[start - 1] != len(octets) - start:
        return None
    numbers = []
    for _ in range(2):
        if octets[start : start + 1] != b"\x02" or not 0 < (octets + b"\0")[start + 1] <= MAX_INTEGER:
            return None
        end = start + 2 + octets[start + 1]
        if end > len(octets):
            return None
        numbers.append(int.from_bytes(octets[start + 2 : end], "big"))
        start = end
    return (numbers[0], numbers[1]) if start == len(octets) else None


def classify(point: bytes, given: bytes, r: int, s: int) -> Signed | None:
    """Say what (r, s) is a signature of, or None if of nothing that is known.

    :param point: public key, 04 || X || Y. :param given: the octets the device was given.
    """
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:65], "big")
    if len(given) == 32:
        if sm2.verify(x, y, given, r, s):
            return Signed.E
        if sm2.verify_ecdsa(x, y, given, r, s):
            return Signed.ECDSA
    for found, octets in ((Signed.WITH_Z, _sm3(sm2.z_input(x, y)) + given), (Signed.WITHOUT_Z, given)):
        digest = _sm3(octets)
        if digest and sm2.verify(x, y, digest, r, s):
            return found
        if digest and sm2.verify_ecdsa(x, y, digest, r, s):
            return Signed.ECDSA
    return None


def _sm3(octets: bytes) -> bytes:
    """Return the SM3 digest, or nothing where Python's OpenSSL has no SM3: then the forms with a hash are not told."""
    try:
        return hashlib.new("sm3", octets).digest()
    except ValueError:
        return b""


class Findings:
    """What was found out of one library's mechanisms, by model of token; kept in a file where a folder is given.

    A finding is of the library's octets: another version starts anew. Losing the file costs nothing but another look.
    """

    def __init__(self, module: ModuleInfo, folder: Path | None) -> None:
        self._module = module
        self._folder = folder
        self._known: dict[str, dict[int, Signed]] | None = None

    def of(self, model: str) -> Mapping[int, Signed]:
        """Return what is known of the mechanisms of a model of token, now and later."""
        return self._load().setdefault(model, {})

    def add(self, model: str, number: int, found: Signed) -> None:
        """Keep a finding. A file that cannot be written is only logged: the finding holds in this process."""
        self._load().setdefault(model, {})[number] = found
        if self._folder is None:
            return
        mechanisms = {
            each: {f"0x{number:X}": found.value for number, found in numbers.items()}
            for each, numbers in self._load().items()
        }
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(prefix=".draft.", dir=self._folder)
            with os.fdopen(handle, "w", encoding="utf-8") as out:
                json.dump({"library": self._module.path, "mechanisms": mechanisms}, out, ensure_ascii=False, indent=1)
            os.replace(draft, self._file())
        except OSError as error:
            logger.warning("what mechanisms sign could not be kept in %s: %s", self._folder, error.strerror)

    def _load(self) -> dict[str, dict[int, Signed]]:
        if self._known is None:
            self._known = _read_findings(self._file()) if self._folder is not None else {}
        return self._known

    def _file(self) -> Path:
        assert self._folder is not None
        with open(self._module.path, "rb") as library:
            identity = hashlib.file_digest(library, "sha256")
        identity.update(repr((self._module.manufacturer, self._module.description, self._module.version)).encode())
        return self._folder / f"sm2-{identity.hexdigest()[:32]}.json"


def _read_findings(file: Path) -> dict[str, dict[int, Signed]]:
    """Return what a file of findings says; one that is damaged counts as absent."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_FINDINGS + 1)
        if len(data) > MAX_FINDINGS:
            raise ValueError
        return {
            str(model): {int(number, 16): Signed(found) for number, found in numbers.items()}
            for model, numbers in json.loads(data)["mechanisms"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s cannot be used (%s); mechanisms are checked anew", file, type(error).__name__)
        return {}


class Sm2Support:
    """SM2 on one model of token.

    :param profile: the module's entry of the vendor table, if one fits.
    :param known: all entries, for a module that none fits.
    :param offered: the token's mechanism list.
    :param model: names the model of token among the findings.
    """

    def __init__(
        self,
        profile: Sm2Profile | None,
        known: Sequence[Sm2Profile],
        offered: Mapping[int, MechanismFacts],
        findings: Findings,
        model: str,
    ) -> None:
        self.profile = profile
        self.key_types = frozenset(
            each.key_type for each in ([profile] if profile else known) if each.key_type is not None
        )
        """CKA_KEY_TYPE values of SM2 keys beside CKK_EC."""
        self._findings = findings
        self._model = model
        self._found = findings.of(model)
        self.candidates = _candidates(profile, known, offered)
        """Mechanisms that may sign e, best first."""

    @property
    def usable(self) -> tuple[int, ...]:
        """Mechanisms that sign e, or were not looked at yet."""
        kept = [number for number in self.candidates if self._found.get(number, Signed.E) is Signed.E]
        return tuple(sorted(kept, key=lambda number: number not in self._found))

    @property
    def refusal(self) -> str | None:
        """Why no mechanism can be used; None where one can, as far as is known."""
        if self.usable:
            return None
        if not self.candidates:
            return "the module offers no mechanism that may sign with SM2; name its entry of the vendor table, if any"
        number = self.candidates[0]
        return f"mechanism 0x{number:X} {_REFUSALS[self._found[number]]}"

    def found(self, number: int) -> Signed | None:
        """Return what a mechanism is known to sign."""
        return self._found.get(number)

    def signature(self, number: int, point: bytes, e: bytes, answer: bytes) -> bytes | None:
        """Return the device's answer as DER SEQ{r, s}; None if the mechanism does not sign e, which is kept in mind.

        :raises DeviceFailure: it is no signature of anything. That is not kept: a fault is no property of a product.
        """
        r, s, _ = read_signature(answer)
        found = self._found.get(number)
        if found is None:
            found = self.look(number, point, e, r, s)
            if found is None:
                raise DeviceFailure("the device's answer is neither an SM2 signature of e nor any other that is known")
        return der_signature(r, s, sm2.N) if found is Signed.E else None

    def look(self, number: int, point: bytes, given: bytes, r: int, s: int) -> Signed | None:
        """Find out what a mechanism signs, and keep it."""
        found = classify(point, given, r, s)
        if found is not None:
            self._findings.add(self._model, number, found)
            logger.info("mechanism 0x%X of %s signs %s", number, self._model, found.value)
        return found

    def unsupported(self) -> MechanismNotSupported:
        """Return the error for a key that cannot be used, with the reason."""
        return MechanismNotSupported(f"the token has no mechanism for SM2: {self.refusal}")


def _candidates(
    profile: Sm2Profile | None, known: Iterable[Sm2Profile], offered: Mapping[int, MechanismFacts]
) -> tuple[int, ...]:
    numbers = [
        item.number for each in ([profile] if profile else known) for item in each.sign if item.input is Sm2Input.E
    ]
    able = [number for number in numbers if number in offered and offered[number].flags & abi.CKF_SIGN]
    if profile and numbers:
        # Some modules leave vendors' mechanisms out of their list, or out of its flags.
        return tuple(dict.fromkeys(able + numbers))
    if CKM_ECDSA in offered and offered[CKM_ECDSA].flags & abi.CKF_SIGN:
        able.append(CKM_ECDSA)
    return tuple(dict.fromkeys(able))
