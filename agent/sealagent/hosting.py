"""From configured and discovered driver modules to the token service, the same for every process that uses tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sealagent import paths
from sealagent.errors import SealAgentError
from sealagent.sections import Discovery, Module, Timeouts
from sealdrivers.discovery import AllowList, ModuleCandidate, check_command, find_modules
from sealdrivers.errors import DriverError
from sealdrivers.host import supervisor
from sealdrivers.host.service import HostedTokens, ModuleSpec
from sealdrivers.vendors import ModuleOptions, Sm2Profile, VendorTable, vendor_table

__all__ = ["hosted_tokens", "operator_table"]


def _vendor_files() -> list[Path]:
    """Return where an operator's vendor tables are, if there are any: beside agent.toml, for every process."""
    return [file.with_name("vendors.toml") for file in paths.config_files()]


def operator_table() -> VendorTable:
    """Return the vendor table with what the operator added to it."""
    return vendor_table(_vendor_files())


def hosted_tokens(
    modules: Sequence[Module],
    discovery: Discovery,
    timeouts: Timeouts,
    profiles: tuple[Sm2Profile, ...],
    state_dir: Path,
) -> tuple[HostedTokens, list[str]]:
    """Return the token service, and a sentence for each configured module that may not be loaded.

    :param profiles: the ``[[sm2]]`` entries of the vendor table.
    :param state_dir: findings about modules are kept below it.
    :raises SealAgentError: ``config_invalid``: a module names an SM2 profile that does not exist.
    """
    specs, refused = _specs(modules, discovery, profiles, state_dir)
    seconds = supervisor.Timeouts(
        sign=timeouts.sign, login=timeouts.login, generate=timeouts.generate, other=timeouts.other
    )
    return HostedTokens(specs, seconds), refused


def _specs(
    modules: Sequence[Module], discovery: Discovery, profiles: tuple[Sm2Profile, ...], state_dir: Path
) -> tuple[list[ModuleSpec], list[str]]:
    """Return the modules to load, and a sentence for each that may not be."""
    candidates: list[ModuleCandidate] = [
        ModuleCandidate(path=module.path, source="configuration", name=module.path.name, driver=module.driver)
        for module in modules
    ]
    configured = {module.path: module for module in modules}
    candidates += find_modules(
        p11_kit=discovery.p11_kit,
        vendor_table=discovery.vendor_table,
        vendor_files=_vendor_files(),
    )
    _check_profiles(modules, profiles)
    allowed = AllowList(paths=[module.path for module in modules], directories=discovery.trusted_directories)
    specs: dict[str, ModuleSpec] = {}
    refused: list[str] = []
    for candidate in candidates:
        module = configured.get(candidate.path)
        command = module.worker if module else ()
        try:
            real = allowed.resolve(candidate.path)
            check_command(command)
        except DriverError as error:
            if candidate.source == "configuration":
                refused.append(error.message)
            continue
        options = ModuleOptions(
            sm2=profiles if candidate.driver == "pkcs11" else (),
            sm2_profile=module.sm2_profile if module else "",
            findings=str(state_dir / "findings"),
        )
        spec = ModuleSpec(real, candidate.driver, module.workers if module else 1, options)
        specs.setdefault(str(real), replace(spec, command=command) if command else spec)
    return list(specs.values()), refused


def _check_profiles(modules: Iterable[Module], profiles: tuple[Sm2Profile, ...]) -> None:
    known = [profile.name for profile in profiles]
    for each in modules:
        if each.sm2_profile and each.sm2_profile not in known:
            message = f"modules: the vendor table has no [[sm2]] entry {each.sm2_profile!r}; it has {', '.join(known)}"
            raise SealAgentError("config_invalid", message, key="modules")
