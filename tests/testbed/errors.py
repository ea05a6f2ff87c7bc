"""How making or removing a test bed ends when it does not succeed."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["TestbedError", "Trouble"]


class Trouble(StrEnum):
    """What is wrong, for the command line to say what to do."""

    PACKAGES = "packages"
    """Programs or libraries of the system are missing."""
    BUSY = "busy"
    """Another command is at work on the same test bed."""
    UNFINISHED = "unfinished"
    """There is what an interrupted command, or a restart of the machine, left."""
    FOREIGN = "foreign"
    """The folder is not a test bed."""
    PORT = "port"
    """The address that its certificates name is taken."""
    STEP = "step"
    """A step failed."""


class TestbedError(RuntimeError):
    """A named error. :param trouble: what is wrong. :param message: one sentence."""

    __test__ = False

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble
