"""SKF: what the library exports, and how it lists devices."""

from __future__ import annotations

import ctypes

from sealdrivers.probe.loading import exported, loaded
from sealdrivers.probe.section import Section
from sealdrivers.probe.skf_names import EXTENSIONS, OTHERS, standard_functions, words_of
from sealdrivers.probe.skf_native import Native
from sealdrivers.skf import abi
from sealdrivers.skf.device import PRESENT

__all__ = ["interface"]

SUPPORTED = 0
"""SKF_EnumDev: every device that the library knows, plugged in or not."""


def interface(section: Section) -> None:
    """Look at the exports, then at the list of devices."""
    library = loaded(section)
    if library is None:
        return
    found = {name: _exported_as(library, name) for name in dict.fromkeys([*standard_functions(), *EXTENSIONS])}
    decorated = [alias for name, alias in found.items() if alias and alias != name]
    missing = [name for name in standard_functions() if not found[name]]
    section.fact("exported", sum(1 for name in standard_functions() if found[name]))
    section.fact("of_the_standard", len(abi.PROTOTYPES) - 1 + len(OTHERS))
    section.fact("extensions", [name for name in EXTENSIONS if found[name]])
    if decorated:
        section.finding("skf_decorated", "exports", f"{len(decorated)}, such as {decorated[0]}")
    required = [name for name in missing if name in abi.REQUIRED]
    if required:
        section.finding("skf_required_missing", "exports", ", ".join(required))
        return
    used = [name for name in missing if name in abi.PROTOTYPES]
    if used:
        section.finding("skf_optional_missing", "exports", ", ".join(used))
    section.fact("missing_and_not_needed", [name for name in missing if name in OTHERS])
    native = Native(section)
    with section.attempt("SKF_EnumDev"):
        section.fact("devices_plugged_in", len(native.names("SKF_EnumDev", PRESENT)))
        native.look_at_list("SKF_EnumDev", PRESENT)
    with section.attempt("SKF_EnumDev", optional=True):
        section.fact("devices_supported", len(native.names("SKF_EnumDev", SUPPORTED)))


def _exported_as(library: ctypes.CDLL, name: str) -> str:
    """Return the name under which a function is exported; empty where it is not."""
    octets = 4 * words_of(name)
    for alias in (name, f"_{name}", f"{name}@{octets}", f"_{name}@{octets}"):
        if exported(library, alias):
            return alias
    return ""
