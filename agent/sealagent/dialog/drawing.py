"""The picture of the seal in the window."""

from __future__ import annotations

import tkinter as tk

from sealagent.dialog.pictures import Cleaned, Picture, PictureRefused, cleaned
from sealagent.dialog.scaling import MAX_FACTOR, shrunk

__all__ = ["PictureView"]

FINE_PIXELS = 400_000
"""Up to so many pixels a picture is scaled by halves where it fills more of the square so: four times the work."""


class PictureView(tk.Frame):
    """A frame with the picture on white paper, or with why there is none.

    :param sorry: shown when there is none. :param side: pixels of the frame's sides; the picture fills it.
    """

    def __init__(self, parent: tk.Misc, picture: Picture, sorry: str, *, side: int) -> None:
        super().__init__(parent, width=side + 16, height=side + 16, background="white")
        self.configure(highlightthickness=1, highlightbackground="#c0bfbc")
        self.pack_propagate(False)
        try:
            self.image: tk.PhotoImage | None = _photo(self, cleaned(picture), side)
        except (PictureRefused, tk.TclError):
            self.image = None
        label = tk.Label(self, background="white", foreground="#5e5c64", wraplength=side - 8)
        if self.image is None:
            label.configure(text=sorry)
        else:
            label.configure(image=self.image)
        label.pack(expand=True)


def _filled(longest: int, side: int) -> int:
    """Return how long the longest side becomes when it is divided by a whole number so that it fits."""
    return longest // -(-longest // side)


def _photo(master: tk.Misc, picture: Cleaned, side: int) -> tk.PhotoImage:
    """Decode a picture and fit it into a square.

    :raises PictureRefused: it has not the size that it said. :raises tk.TclError: Tk cannot decode it.
    """
    decoded = tk.PhotoImage(master=master, data=picture.octets, format=picture.type)
    width, height = decoded.width(), decoded.height()
    if (width, height) != (picture.width, picture.height):
        raise PictureRefused("it has another size than it says")
    longest = max(width, height)
    if longest <= side:
        return decoded.zoom(max(1, side // longest)) if longest < side // 2 else decoded
    if longest > side * MAX_FACTOR:
        decoded = decoded.subsample(-(-longest // (side * MAX_FACTOR)))
        width, height = decoded.width(), decoded.height()
    if width * height <= FINE_PIXELS and _filled(2 * longest, side) > _filled(longest, side):
        decoded = decoded.zoom(2)
        width, height = decoded.width(), decoded.height()
    factor = min(-(-max(width, height) // side), width, height)
    paper = tk.PhotoImage(master=master, width=width, height=height)
    paper.put("white", to=(0, 0, width, height))
    paper.tk.call(paper, "copy", decoded, "-compositingrule", "overlay")
    ppm = paper.tk.call(paper, "data", "-format", "ppm")
    octets = ppm if isinstance(ppm, bytes) else str(ppm).encode("latin-1")
    small, width, height = shrunk(octets[-3 * width * height :], width, height, factor)
    return tk.PhotoImage(master=master, data=b"P6\n%d %d\n255\n" % (width, height) + small, format="ppm")
