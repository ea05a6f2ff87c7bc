"""Room for what a vendor's library answers. A library is not trusted to keep to the sizes it is given.

Every buffer has spare octets behind it and is filled before the call, so that what was written shows: nothing at all,
more than there was room for, or less than the library says.
"""

from __future__ import annotations

import ctypes
from typing import Final

from sealdrivers.errors import DeviceFailure

__all__ = ["FILLS", "Buffer"]

SPARE: Final = 4096
"""Octets behind each buffer, for what a library writes too much."""

TAIL: Final = 8
"""Octets at the end of an answer that tell whether it was written."""

FILLS: Final = (0xA5, 0x5A)
"""What buffers hold before a call; the second where an answer ends with the first."""


class Buffer:
    """Room for an answer, filled so that what was written shows."""

    def __init__(self, capacity: int, fill: int = FILLS[0]) -> None:
        self.capacity = capacity
        self._fill = fill
        self.octets = (ctypes.c_char * (capacity + SPARE))()
        ctypes.memset(self.octets, fill, capacity + SPARE)

    @property
    def address(self) -> int:
        """Where it lies, for a record that points to it."""
        return ctypes.addressof(self.octets)

    def refill(self) -> None:
        """Make it as it was before the first call, to be used again."""
        ctypes.memset(self.octets, self._fill, self.capacity)

    def written(self) -> int:
        """Return how many octets have been written, by the last one that changed."""
        return len(self.octets.raw.rstrip(bytes([self._fill])))

    def take(self, length: int, doing: str) -> bytes:
        """Return the answer.

        :param length: octets, as the library says. :param doing: the function that was called, for the message.
        :raises DeviceFailure: it is longer than the buffer, or was written beyond it.
        """
        data = self.octets.raw
        if length > self.capacity:
            raise DeviceFailure(f"{doing}: the library answers with {length} octets in a buffer of {self.capacity}")
        if data.count(self._fill, self.capacity) != SPARE:
            raise DeviceFailure(f"{doing}: the library wrote beyond the buffer it was given")
        return data[:length]

    def looks_unwritten(self, answer: bytes) -> bool:
        """Say whether an answer ends with what the buffer held before the call."""
        return bool(answer) and not answer[-TAIL:].strip(bytes([self._fill]))
