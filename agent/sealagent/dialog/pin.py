"""A PIN while it is typed: octets in one buffer that is wiped, never a string."""

from __future__ import annotations

__all__ = ["MAX_OCTETS", "PinBuffer", "wipe"]

MAX_OCTETS = 128
"""Octets of UTF-8 that an entry takes. No token wants more than 64; the client says what is too long for it."""

_PLAIN = frozenset(range(0x21, 0x7F)) - {0x25}
_HEX = b"0123456789ABCDEF"


class PinBuffer:
    """What was typed so far. It never grows beyond the room it got at first, so no copy is left anywhere."""

    def __init__(self) -> None:
        self._octets = bytearray(MAX_OCTETS)
        self._length = 0
        self._characters = 0

    def __repr__(self) -> str:
        return "PinBuffer()"

    def __len__(self) -> int:
        """Number of characters, which is the number of dots to show."""
        return self._characters

    def add(self, character: str) -> bool:
        """Append one typed character; False when there is no room for it.

        :param character: printable, what one press of a key gave. Python keeps the strings of single characters for
            good, so this leaves no trace of their order.
        """
        encoded = character.encode(errors="ignore")
        if not encoded or self._length + len(encoded) > MAX_OCTETS:
            return False
        self._octets[self._length : self._length + len(encoded)] = encoded
        self._length += len(encoded)
        self._characters += 1
        return True

    def remove(self) -> None:
        """Take the last character back, all octets of it."""
        while self._length:
            self._length -= 1
            octet = self._octets[self._length]
            self._octets[self._length] = 0
            if octet & 0xC0 != 0x80:  # no continuation: the character began here
                self._characters -= 1
                break

    def clear(self) -> None:
        """Wipe it."""
        wipe(self._octets)
        self._length = self._characters = 0

    def data_line(self) -> bytearray:
        """Return the line ``D …`` that gives it to the client, LF included; the caller wipes it."""
        line = bytearray(3 + 3 * MAX_OCTETS)
        line[0:2] = b"D "
        at = 2
        for index in range(self._length):
            octet = self._octets[index]
            if octet in _PLAIN or octet >= 0x80:
                line[at] = octet
                at += 1
            else:
                line[at], line[at + 1], line[at + 2] = 0x25, _HEX[octet >> 4], _HEX[octet & 0xF]
                at += 3
        line[at] = 0x0A
        del line[at + 1 :]  # nothing but zeros goes
        return line


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer in place with zeros; its length stays."""
    buffer[:] = bytes(len(buffer))
