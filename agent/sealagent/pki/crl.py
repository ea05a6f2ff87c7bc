"""Certificate revocation lists (RFC 5280 ch. 5) with many entries: read once, asked often.

The path library walks a whole list for every question, which takes seconds for 100,000 entries. Here the entries are
indexed once by serial number, and the library is shown the list cut down to the entries that could matter for one
certificate (:meth:`RevocationList.cut_down`). The signature is checked over the octets received all the same
(:mod:`.revinfo`).
"""

from __future__ import annotations

from array import array
from binascii import a2b_base64
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Final

from asn1crypto import crl

from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki import asn1, der
from sealagent.pki.der import DerError

__all__ = ["MAX_CRL_OCTETS", "RevocationList", "read_crl"]

MAX_CRL_OCTETS = 32 << 20  # the largest lists of public CAs have some 10 MiB, which is 300,000 entries
MAX_KEPT = 4  # lists of octets that were read and kept, with their index; whoever holds a RevocationList needs none
MAX_EXTENSIONS = 64  # of a list; five are usual
MAX_SPECIAL = 4096
"""Entries that are looked into for a critical extension: only lists that speak for several issuers have any. It takes
some 50 µs each."""
MAX_SAME = 64  # entries of one serial number: one for each issuer that the list speaks for

_OFFSET_BITS: Final = 25  # MAX_CRL_OCTETS is 2**25
_OFFSETS: Final = (1 << _OFFSET_BITS) - 1
_HASHES: Final = (1 << 64 - _OFFSET_BITS) - 1
_CRITICAL: Final = b"\x01\x01\xff"  # BOOLEAN TRUE, also by chance within a serial number
_CERTIFICATE_ISSUER: Final = bytes.fromhex("0603551d1d")  # RFC 5280 5.3.3
_KNOWN: Final = frozenset({"crl_reason", "hold_instruction_code", "invalidity_date", "certificate_issuer"})

_DELTA: Final = "2.5.29.27"  # deltaCRLIndicator

_BEGIN, _END = b"-----BEGIN X509 CRL-----", b"-----END X509 CRL-----"


class RevocationList:
    """A CRL whose structure was read and whose entries are indexed. Nothing is verified yet.

    It takes the list's octets and 8 octets for each entry.
    """

    __slots__ = (
        "_after",
        "_algorithm",
        "_before",
        "_index",
        "_issuers",
        "_looks",
        "_signature",
        "_tbs",
        "is_delta",
        "issuer",
        "next_update",
        "octets",
        "signers",
        "this_update",
    )

    def __init__(self, octets: bytes) -> None:
        """Read a list.

        :param octets: DER.
        :raises DerError: it is none, or not DER where that decides what an entry says.
        """
        self.octets: Final = octets
        self.signers: Final[set[bytes]] = set()
        """SubjectPublicKeyInfos (DER) with which the signature was found right."""
        tbs, algorithm, signature = (
            der.read(octets, "the list").expect(der.SEQUENCE, "the list").children("the list", 3, 3)
        )
        parts = tbs.expect(der.SEQUENCE, "tbsCertList").children("tbsCertList", 7, 3)
        after = [parts.pop().raw] if parts[-1].tag == der.CONTEXT_0 else []
        entries = parts.pop() if parts and parts[-1].tag == der.SEQUENCE and len(parts) > 3 else None
        versioned = parts[0].tag == der.INTEGER
        fields = parts[1:] if versioned else parts
        if not 3 <= len(fields) <= 4 or [each.tag for each in fields[:2]] != [der.SEQUENCE] * 2:
            raise DerError("not a revocation list")
        for small in (*(each.raw for each in fields), *after):
            der.walk(small, "the list's head")
        read = [asn1.read_algorithm(each.raw) for each in (fields[0], algorithm)]
        if (read[0].oid, read[0].pss) != (read[1].oid, read[1].pss):
            raise DerError("the signature algorithm is named in two ways")  # RFC 5280 5.1.1.2
        self.issuer: Final = asn1.read_name(fields[1].raw).comparable
        """Equal for equal names, as :attr:`.asn1.NameFields.comparable`."""
        this_update, *next_update = (each.time(each.tag, "a time of the list") for each in fields[2:])
        self.this_update: Final[datetime] = this_update
        self.next_update: Final[datetime | None] = next_update[0] if next_update else None
        self.is_delta: Final = _DELTA in _extensions(after)
        """Whether it holds changes to another list (RFC 5280 5.2.4)."""
        self._tbs = tbs
        self._algorithm, self._signature = algorithm.raw, signature.expect(der.BIT_STRING, "the signature").raw
        self._before, self._after = b"".join(each.raw for each in parts), b"".join(after)
        self._issuers: array[int] = array("Q")
        self._looks = 0
        self._index: array[int] = array("Q")
        if entries is not None:
            self._read_entries(octets, entries.body, entries.end)

    @property
    def tbs(self) -> bytes:
        """TBSCertList as received: what is signed."""
        return self._tbs.raw

    def cut_down(self, serial: bytes) -> bytes:
        """Return the list (DER) with the entries of one serial number only.

        Entries of lists for several issuers are preceded by the one that names their issuer (RFC 5280 5.3.3).

        :param serial: content octets of the INTEGER, as short as they can be.
        :raises DerError: an entry is malformed.
        """
        chosen: list[int] = []
        for offset in self._of(serial):
            named = bisect_right(self._issuers, offset)
            chosen += [*self._issuers[max(named - 1, 0) : named], offset]
        raws = b"".join(self._entry(offset) for offset in dict.fromkeys(chosen))
        tbs = der.sequence(self._before + (der.sequence(raws) if raws else b"") + self._after)
        return der.sequence(tbs + self._algorithm + self._signature)

    def _of(self, serial: bytes) -> Iterator[int]:
        """Yield where the entries of a serial number begin, in their order."""
        key = (hash(serial) & _HASHES) << _OFFSET_BITS
        position, found = bisect_left(self._index, key), 0
        while position < len(self._index) and self._index[position] & ~_OFFSETS == key:
            offset = self._index[position] & _OFFSETS
            body = _contents(self.octets, offset)
            size = self.octets[body + 1]
            if self.octets[body + 2 : body + 2 + size] == serial:
                found += 1
                if found > MAX_SAME:
                    raise DerError(f"more than {MAX_SAME} entries of one serial number")
                yield offset
            position += 1

    def _entry(self, offset: int) -> bytes:
        raw = self.octets[offset : _contents(self.octets, offset) + _length(self.octets, offset)]
        return der.walk(raw, "an entry").raw

    def _read_entries(self, octets: bytes, start: int, end: int) -> None:
        """Index the entries: hash of the serial number and offset, in one number each, sorted.

        Python seeds its hash, so nobody can prepare entries that all meet at one place.
        """
        special = octets.find(_CRITICAL, start, end) >= 0 or octets.find(_CERTIFICATE_ISSUER, start, end) >= 0
        index: list[int] = []
        offset = start
        try:
            while offset < end:
                size = octets[offset + 1]
                body = offset + 2
                if size >= 0x80:
                    body, size = _contents(octets, offset), _length(octets, offset)
                stop, serial, length = body + size, body + 2, octets[body + 1]
                if (
                    octets[offset] != 0x30
                    or octets[body] != 2
                    or not 0 < length < 0x80
                    or serial + length > stop
                    or stop > end
                ):
                    raise DerError(f"an entry that is none, at offset {offset}")
                if octets[serial] in (0, 0xFF) and length > 1 and (octets[serial] ^ octets[serial + 1]) < 0x80:
                    # The library compares octets: a number written longer than it need be would go unnoticed.
                    raise DerError(f"a serial number that is not DER, at offset {serial}")
                key = hash(octets[serial : serial + length]) & _HASHES
                index.append(key << _OFFSET_BITS | offset)
                if special:
                    self._look_into(octets[offset:stop], offset)
                offset = stop
        except IndexError:
            raise DerError("the list of entries is cut off") from None
        index.sort()
        self._index = array("Q", index)

    def _look_into(self, raw: bytes, offset: int) -> None:
        """Refuse an unknown critical extension (RFC 5280 5.3: then the whole list is of no use); note a new issuer."""
        if _CRITICAL not in raw and _CERTIFICATE_ISSUER not in raw:
            return
        self._looks += 1
        if self._looks > MAX_SPECIAL:
            raise DerError(f"more than {MAX_SPECIAL} entries with critical extensions")
        entry = crl.RevokedCertificate.load(der.walk(raw, "an entry").raw)
        try:
            unknown, issuer = entry.critical_extensions - _KNOWN, entry.issuer_name
        except (ValueError, TypeError, KeyError) as error:
            raise DerError(f"an entry's extensions cannot be read: {error}") from error
        if unknown:
            raise DerError(f"an entry has an unknown critical extension: {', '.join(sorted(unknown))}")
        if issuer is not None:
            self._issuers.append(offset)


def _extensions(after: list[bytes]) -> set[str]:
    """Return which extensions a list has, dotted."""
    found: set[str] = set()
    for explicit in after:
        (listed,) = der.read(explicit, "crlExtensions").children("crlExtensions", 1, 1)
        for extension in listed.expect(der.SEQUENCE, "crlExtensions").children("crlExtensions", MAX_EXTENSIONS):
            found.add(extension.expect(der.SEQUENCE, "Extension").children("Extension", 3, 2)[0].oid("extnID"))
    return found


def _contents(octets: bytes, offset: int) -> int:
    """Return where the content of the element at an offset begins; its length has at most four octets."""
    size = octets[offset + 1]
    if size < 0x80:
        return offset + 2
    if not 0x81 <= size <= 0x84:
        raise DerError(f"a length that is not DER, at offset {offset}")
    return offset + 2 + (size & 0x7F)


def _length(octets: bytes, offset: int) -> int:
    size = octets[offset + 1]
    return size if size < 0x80 else int.from_bytes(octets[offset + 2 : offset + 2 + (size & 0x7F)], "big")


def read_crl(data: bytes) -> RevocationList:
    """Read a revocation list; the same octets are not read again soon.

    :param data: DER, or PEM text with one list.
    :raises FormatError: ``crl_invalid``.
    :raises LimitExceeded: ``crl_invalid``: more than :data:`MAX_CRL_OCTETS` (for PEM: of text).
    """
    if len(data) > MAX_CRL_OCTETS:
        raise LimitExceeded("crl_invalid", f"a revocation list of {len(data)} octets; {MAX_CRL_OCTETS} are allowed")
    return _read(bytes(data))


@lru_cache(maxsize=MAX_KEPT)
def _read(data: bytes) -> RevocationList:
    try:
        return RevocationList(_from_pem(data) if data.lstrip().startswith(_BEGIN) else data)
    except (DerError, FormatError) as error:
        raise FormatError("crl_invalid", f"not a revocation list: {error}") from error


def _from_pem(text: bytes) -> bytes:
    body, end, _ = text.partition(_BEGIN)[2].partition(_END)
    if not end:
        raise DerError("the PEM block has no end")
    try:
        return a2b_base64(b"".join(body.split()), strict_mode=True)
    except ValueError as error:
        raise DerError(f"the PEM block is not base64: {error}") from error
