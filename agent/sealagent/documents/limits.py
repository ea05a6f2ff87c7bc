"""Every limit on the documents this package reads, named. Reaching one is :class:`~sealagent.errors.LimitExceeded`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_LIMITS", "Limits"]

_KIB = 1024
_MIB = 1024 * _KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on memory and time for one document. Sizes are octets."""

    package_octets: int = 256 * _MIB
    """A package as it lies on disk. Large scans stay far below it."""
    entries: int = 10_000
    """Files and folders in a package."""
    entry_octets: int = 256 * _MIB
    """One file of a package, expanded."""
    total_octets: int = 1024 * _MIB
    """All files of a package together, expanded. SM3 over this much takes some three seconds."""
    ratio: int = 250
    """Expanded size over compressed size of one file. Deflate ends at 1,032; documents seldom pass 50."""
    ratio_floor: int = 4 * _MIB
    """Files that expand to no more than this are not asked for their ratio: a blank bitmap compresses well."""
    path_octets: int = 1024
    """The name of one file, encoded."""
    xml_octets: int = 8 * _MIB
    """One XML file that is parsed whole (the list, a signature, the document root; pages are not)."""
    xml_depth: int = 64
    """Nesting of elements. The structures read here need 8."""
    xml_elements: int = 120_000
    """Elements in one XML file: more than the most pages or References need."""
    signed_value_octets: int = 16 * _MIB
    """A SignedValue, a seal file, or a seal, SES_Signature or CMS given by itself (pictures included)."""
    bodies: int = 64
    """DocBody elements of one package."""
    pages: int = 50_000
    """Pages of one document."""
    signatures: int = 200
    """Signatures of one package: each costs two public-key operations and two chains."""
    references: int = 100_000
    """References of all signatures of a package: two hundred signatures with five hundred files each."""
    uncovered_listed: int = 500
    """Files a signature does not protect that its report names; the rest is counted."""
    stamps: int = 5_000
    """StampAnnots of one signature: one for each page of a long contract."""
    unknown_signer_tries: int = 64
    """Pinned certificates tried on a bare signature that does not say whose it is."""


DEFAULT_LIMITS = Limits()
