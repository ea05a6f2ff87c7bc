"""Making a picture smaller so that thin lines stay: each pixel is the mean of those it stands for.

Tk only drops rows and columns. Sums are taken over whole rows at once, as one large number with 16 bits for each
sample, which makes this as fast as it needs to be without a library.
"""

from __future__ import annotations

import sys
from array import array

__all__ = ["MAX_FACTOR", "shrunk"]

MAX_FACTOR = 8
"""64 samples of at most 255 fit into 16 bits; beyond, dropping rows and columns first is good enough."""


def shrunk(samples: bytes, width: int, height: int, factor: int) -> tuple[bytes, int, int]:
    """Shrink a picture; rows and columns that fill no whole pixel at the right and the bottom are left out.

    :param samples: red, green and blue of each pixel, row by row. :param factor: 1 to :data:`MAX_FACTOR`.
    :returns: samples likewise, width and height.
    :raises ValueError: there are more or fewer samples than pixels, or the factor is another.
    """
    if len(samples) != 3 * width * height or not 1 <= factor <= min(MAX_FACTOR, width, height):
        raise ValueError("the picture cannot be made smaller so")
    wide, high = width // factor, height // factor
    stride, used = 3 * width, 3 * wide * factor
    parts = factor * factor
    means = bytes((total + parts // 2) // parts for total in range(255 * parts + 1))
    result = bytearray()
    for top in range(0, high * factor, factor):
        rows = 0
        for row in range(top, top + factor):
            lanes = bytearray(2 * used)
            lanes[::2] = samples[row * stride : row * stride + used]
            rows += int.from_bytes(lanes, "little")
        squares = rows
        for column in range(1, factor):  # the neighbour at the right is three lanes of 16 bits away
            squares += rows >> 48 * column
        sums = array("H", squares.to_bytes(2 * used, "little"))
        if sys.byteorder == "big":
            sums.byteswap()
        line = bytearray(3 * wide)
        for channel in range(3):
            line[channel::3] = bytes(map(means.__getitem__, sums[channel :: 3 * factor]))
        result += line
    return bytes(result), wide, high
