"""The PIV application of the scripted card (NIST SP 800-73-4 part 2), as far as a user's token needs it. TEST ONLY.

Everything that needs the management key (importing, generating) answers as a card does that has not seen it. The
private-key operations are those of the cryptography library, but for raw RSA, which it does not offer: the host pads
and the card exponentiates.
"""

from __future__ import annotations

import hmac
from collections import Counter
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa, utils

from .tlv import TlvError, fields, tlv

__all__ = ["ATR", "GENERAL_AUTHENTICATE", "MAX_COMMAND", "SLOTS", "VERIFY", "Applet", "PrivateKey"]

ATR = bytes.fromhex("3bfd1300008131fe158073c021c057597562694b657940")
"""That of a YubiKey: OpenSC 0.23 offers no elliptic curves to an unknown PIV card."""

MAX_COMMAND = 4096
"""Octets of a chained command. GENERAL AUTHENTICATE has some 270."""

AID = bytes.fromhex("a000000308000010000100")
VERSION = bytes([5, 4, 3])

SELECT, VERIFY, CHANGE_PIN, RESET_TRIES, GENERAL_AUTHENTICATE = 0xA4, 0x20, 0x24, 0x2C, 0x87
GET_DATA, PUT_DATA, GENERATE, GET_RESPONSE, GET_VERSION, GET_SERIAL = 0xCB, 0xDB, 0x47, 0xC0, 0xFD, 0xF8

SLOTS = {0x9A: 0x5FC105, 0x9C: 0x5FC10A, 0x9D: 0x5FC10B, 0x9E: 0x5FC101, 0x82: 0x5FC10D}
"""Key reference: tag of the data object with its certificate. 82 is the first of the retired keys."""
_ALWAYS, _NEVER = 0x9C, 0x9E
"""The key that wants the PIN each time, and the one that never does."""

OK, MORE, TRIES, NOT_SATISFIED, BLOCKED = 0x9000, 0x6100, 0x63C0, 0x6982, 0x6983
WRONG_LENGTH, WRONG_DATA, NO_FUNCTION, NOT_FOUND, WRONG_P1P2, NO_REFERENCE, NO_INS, NO_CHAIN = (
    0x6700, 0x6A80, 0x6A81, 0x6A82, 0x6A86, 0x6A88, 0x6D00, 0x6883,
)  # fmt: skip

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
_ALGORITHMS = {("rsa", 2048): 0x07, ("ec", 256): 0x11, ("ec", 384): 0x14}


class Refused(Exception):
    """The card answers with this status word and nothing else."""

    def __init__(self, status: int) -> None:
        super().__init__(f"{status:04X}")
        self.status = status


@dataclass(frozen=True)
class _Command:
    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes
    expected: int
    """Octets of answer the host takes."""

    @classmethod
    def parse(cls, octets: bytes) -> _Command:
        """Read a short APDU (ISO/IEC 7816-3 clause 12.1.3), cases 1 to 4."""
        if len(octets) < 4:
            raise Refused(WRONG_LENGTH)
        body, data, expected = octets[4:], b"", 0
        if len(body) == 1:
            expected = body[0] or 256
        elif body:
            data, rest = body[1 : 1 + body[0]], body[1 + body[0] :]
            if body[0] == 0 or len(data) != body[0] or len(rest) > 1:
                raise Refused(WRONG_LENGTH)
            expected = (rest[0] or 256) if rest else 0
        return cls(octets[0], octets[1], octets[2], octets[3], data, expected)


@dataclass
class Applet:
    """One card. ``reset`` is power on; state that survives it is what a card keeps."""

    pin: bytes
    puk: bytes
    serial: bytes
    """16 octets: the GUID, by which OpenSC names the token."""
    max_tries: int = 3
    tries: int = 3
    puk_tries: int = 3
    keys: dict[int, PrivateKey] = field(default_factory=dict, repr=False)
    objects: dict[int, bytes] = field(default_factory=dict, repr=False)
    """Content of data objects by their tag."""
    log: list[tuple[int, int, int]] = field(default_factory=list, repr=False)
    """INS, octets of data and status of each command, a chain counting as one; no data, so no PIN."""

    def __post_init__(self) -> None:
        # FASC-N of an issuer outside the US government (agency 9999): OpenSC then looks at the GUID.
        fasc_n = bytes.fromhex("d4e739da739ced39ce739d836858210842108421c84210c3eb")
        chuid = tlv(0x30, fasc_n) + tlv(0x34, self.serial) + tlv(0x35, b"20401231") + tlv(0x3E, b"") + tlv(0xFE, b"")
        self.objects[0x5FC102] = chuid
        self.reset()

    def reset(self) -> None:
        """Forget what a card forgets without power."""
        self.selected = self.verified = self.fresh = False
        self._chain: tuple[int, int, int] | None = None
        self._received = self._answer = b""

    def counts(self) -> dict[str, int]:
        """Return how often each INS came; a VERIFY without a PIN only asks and is not counted."""
        return dict(Counter(f"{ins:02x}" for ins, size, _ in self.log if ins != VERIFY or size))

    def transmit(self, octets: bytes) -> bytes:
        """Carry out a command APDU and return the response APDU. Never raises, whatever the octets."""
        answer, ins, size = b"", octets[1] if len(octets) > 1 else 0, 0
        try:
            command = _Command.parse(octets)
            size = len(command.data)
            if command.ins == GET_RESPONSE:
                whole = self._answer
            else:
                self._answer = b""
                whole = self._carry_out(command)
            # The transport hands over what the host asked for; the rest waits for GET RESPONSE.
            limit = command.expected or 256
            answer, self._answer = whole[:limit], whole[limit:]
            status = OK if not self._answer else MORE | min(len(self._answer), 256) & 0xFF
        except Refused as refused:
            status = refused.status
        if not octets[:1] or not octets[0] & 0x10:  # a chain counts once, as its last command
            self.log.append((ins, size, status))
        return answer + status.to_bytes(2, "big")

    def _carry_out(self, command: _Command) -> bytes:
        """Return the whole answer. :raises Refused: with the status word."""
        head = (command.ins, command.p1, command.p2)
        if self._chain is not None and self._chain != head:
            self._chain, self._received = None, b""
            raise Refused(NO_CHAIN)
        data = self._received + command.data
        if len(data) > MAX_COMMAND:
            self._chain, self._received = None, b""
            raise Refused(WRONG_LENGTH)
        if command.cla & 0x10:
            self._chain, self._received = head, data
            return b""
        self._chain, self._received = None, b""
        if command.cla & ~0x10:
            raise Refused(0x6E00)
        if command.ins not in (SELECT, GET_VERSION, GET_SERIAL) and not self.selected:
            raise Refused(NO_INS)
        fresh, self.fresh = self.fresh, False  # PIN always: nothing may come between VERIFY and the use of the key
        match command.ins:
            case 0xA4:
                return self._select(command, data)
            case 0xCB:
                return self._get_data(command, data)
            case 0x20:
                return self._verify(command, data)
            case 0x24 | 0x2C:
                return self._change(command, data)
            case 0x87:
                return self._authenticate(command, data, fresh)
            case 0xDB | 0x47:
                raise Refused(NOT_SATISFIED)  # the management key's doing
            case 0xFD:
                return VERSION
            case 0xF8:
                return self.serial[-4:]
        raise Refused(NO_INS)

    def _select(self, command: _Command, data: bytes) -> bytes:
        if command.p1 != 0x04 or len(data) < 5 or not AID.startswith(data):
            raise Refused(NOT_FOUND)
        self.selected = True
        return tlv(0x61, tlv(0x4F, AID[5:]) + tlv(0x79, tlv(0x4F, AID[:5])))

    def _get_data(self, command: _Command, data: bytes) -> bytes:
        if (command.p1, command.p2) != (0x3F, 0xFF):
            raise Refused(WRONG_P1P2)
        tag = int.from_bytes(_field(data, 0x5C), "big")
        if tag == 0x7E:  # discovery: the application, and that its own PIN is the one to use
            return tlv(0x7E, tlv(0x4F, AID) + tlv(0x5F2F, b"\x40\x00"))
        if tag not in self.objects:
            raise Refused(NOT_FOUND)
        return tlv(0x53, self.objects[tag])

    def _verify(self, command: _Command, data: bytes) -> bytes:
        if command.p2 != 0x80:
            raise Refused(NO_REFERENCE)
        if command.p1 == 0xFF and not data:
            self.verified = False
            return b""
        if command.p1 != 0:
            raise Refused(WRONG_P1P2)
        if not data:
            if self.verified:
                return b""
            raise Refused(self._left())
        self._try(data)
        self.verified = self.fresh = True
        return b""

    def _change(self, command: _Command, data: bytes) -> bytes:
        """CHANGE REFERENCE DATA with the old PIN, RESET RETRY COUNTER with the PUK; then the new PIN."""
        if command.p1 != 0 or command.p2 != 0x80:
            raise Refused(NO_REFERENCE)
        if len(data) != 16 or len(data[8:].rstrip(b"\xff")) < 6:
            raise Refused(WRONG_DATA)
        if command.ins == CHANGE_PIN:
            self._try(data[:8])
        elif self.puk_tries == 0:
            raise Refused(BLOCKED)
        elif not _same(data[:8], self.puk):
            self.puk_tries -= 1
            raise Refused(TRIES | self.puk_tries if self.puk_tries else BLOCKED)
        self.pin, self.tries = data[8:].rstrip(b"\xff"), self.max_tries
        return b""

    def _try(self, pin: bytes) -> None:
        """Spend a try, and give it back where the PIN is right."""
        if self.tries == 0:
            raise Refused(BLOCKED)
        if len(pin) != 8:
            raise Refused(WRONG_DATA)
        if not _same(pin, self.pin):
            self.tries -= 1
            self.verified = False
            raise Refused(self._left())
        self.tries = self.max_tries

    def _left(self) -> int:
        return TRIES | self.tries if self.tries else BLOCKED

    def _authenticate(self, command: _Command, data: bytes, fresh: bool) -> bytes:
        key = self.keys.get(command.p2)
        if key is None:
            raise Refused(NO_REFERENCE)
        if command.p1 != algorithm(key):
            raise Refused(WRONG_P1P2)
        if command.p2 != _NEVER and not (fresh if command.p2 == _ALWAYS else self.verified):
            raise Refused(NOT_SATISFIED)
        try:
            challenge = fields(_field(data, 0x7C)).get(0x81, b"")
        except TlvError:
            raise Refused(WRONG_DATA) from None
        return tlv(0x7C, tlv(0x82, _sign(key, challenge)))


def algorithm(key: PrivateKey) -> int:
    """Return the algorithm identifier (SP 800-78-4 table 6-2). :raises ValueError: none of PIV's."""
    kind = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ec"
    number = _ALGORITHMS.get((kind, key.key_size))
    if number is None:
        raise ValueError("a PIV card of this kind has RSA-2048, P-256 and P-384 keys")
    return number


def _sign(key: PrivateKey, challenge: bytes) -> bytes:
    size = key.key_size // 8
    if isinstance(key, rsa.RSAPrivateKey):
        if len(challenge) != size:
            raise Refused(WRONG_DATA)
        numbers = key.private_numbers()
        n, value = numbers.public_numbers.n, int.from_bytes(challenge, "big")
        if value >= n:
            raise Refused(WRONG_DATA)
        return pow(value, numbers.d, n).to_bytes(len(challenge), "big")
    if not 0 < len(challenge) <= size:
        raise Refused(WRONG_DATA)
    digest = hashes.SHA256() if size == 32 else hashes.SHA384()
    return key.sign(challenge.rjust(size, b"\0"), ec.ECDSA(utils.Prehashed(digest)))


def _field(data: bytes, tag: int) -> bytes:
    try:
        return fields(data)[tag]
    except (TlvError, KeyError):
        raise Refused(WRONG_DATA) from None


def _same(pin: bytes, stored: bytes) -> bool:
    return hmac.compare_digest(pin, stored.ljust(8, b"\xff"))
