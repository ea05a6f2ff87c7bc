"""What a caller may want to do with a seal or a key: the words that grants, policy, prompts and the record share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Operation", "Use"]


class Operation(StrEnum):
    """Kinds of use. Each needs a permission of its own."""

    DOCUMENT = "document"
    """A document that the agent reads and hashes itself is sealed."""
    DIGEST = "digest"
    """A seal signature (SES_Signature) over a digest that the caller computed: the agent cannot look into it."""
    RAW = "raw"
    """A bare signature over a digest that the caller computed; likewise blind."""
    MANAGE = "manage"
    """A token is changed (key made, certificate or seal written), or a certificate request is signed."""

    @property
    def blind(self) -> bool:
        """Whether nobody but the caller knows what is signed."""
        return self in (Operation.DIGEST, Operation.RAW)


@dataclass(frozen=True, slots=True)
class Use:
    """One use of a key that somebody asks for; what grants and policy are matched with."""

    operation: Operation
    key: str
    """URI of the key; of the token, where no key is used (``MANAGE``)."""
    token: str
    """URI of the token."""
    seal: str | None = None
    """Id of the seal; None without one."""
    seal_names: tuple[str, ...] = ()
    """esID and name of the seal, by which policy may name it, too."""
    format: str | None = None
    """``ofd``; None where the agent cannot know."""
    count: int = 1
    """Signatures asked for at once (a batch)."""
