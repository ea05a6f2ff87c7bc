"""Where modules are found, and which may be loaded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sealdrivers import discovery
from sealdrivers.discovery import (
    AllowList,
    check_command,
    find_modules,
    p11_kit_directories,
    survey_modules,
)
from sealdrivers.errors import ModuleNotAllowed, ModuleNotLoadable

SYSTEM, PACKAGES, USER = "etc", "share", "user"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point discovery at directories of the test: p11-kit's three, and one of libraries."""
    for name in (SYSTEM, PACKAGES, USER, "lib/pkcs11"):
        (tmp_path / name).mkdir(parents=True)
    directories = (tmp_path / USER, tmp_path / SYSTEM, tmp_path / PACKAGES)
    monkeypatch.setattr(discovery, "p11_kit_directories", lambda: directories)
    monkeypatch.setattr(discovery, "LIBRARY_DIRECTORIES", (tmp_path / "lib",))
    return tmp_path


def library(places: Path, name: str) -> Path:
    path = places / "lib" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x7fELF")
    return path


def module_file(places: Path, directory: str, name: str, text: str) -> None:
    (places / directory / f"{name}.module").write_text(text, encoding="utf-8")


def test_modules_of_p11_kit_come_by_priority(places: Path) -> None:
    first, second, third = (library(places, name) for name in ("pkcs11/a.so", "b.so", "c.so"))
    module_file(places, PACKAGES, "a", "# a comment\n\nmodule: a.so\n")
    module_file(places, PACKAGES, "b", f"module:{second}\npriority: 10\ncritical: no\n")
    module_file(places, SYSTEM, "c", f"module: {third}\npriority: -1")
    found = find_modules(vendor_table=False)
    assert [(item.name, item.path) for item in found] == [("b", second), ("a", first), ("c", third)]
    assert found[0].source == str(places / PACKAGES / "b.module")


def test_the_users_file_wins_key_by_key(places: Path) -> None:
    path = library(places, "a.so")
    module_file(places, PACKAGES, "a", f"module: {path}\ndisable-in: sealagent")
    module_file(places, USER, "a", "disable-in: other")
    [found] = find_modules(vendor_table=False)
    assert found.path == path
    assert found.source == str(places / USER / "a.module")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("disable-in: firefox, sealagent", "disable-in"),
        ("enable-in: firefox", "enable-in"),
        ("remote: |ssh host p11-kit remote", "remote"),
        ("trust-policy: yes", "certificates"),
        ("nonsense", "line"),
        ("priority 3", "line"),
        ("\udcff", "cannot be read"),
        ("# " + "x" * (64 << 10), "longer"),
    ],
)
def test_a_module_that_is_not_for_us_is_named_with_the_reason(places: Path, text: str, reason: str) -> None:
    path = library(places, "a.so")
    (places / PACKAGES / "a.module").write_bytes(f"module: {path}\n{text}\n".encode("utf-8", "surrogateescape"))
    assert find_modules(vendor_table=False) == []
    [skipped] = survey_modules(vendor_table=False)
    assert skipped.skipped is not None
    assert reason in skipped.skipped


def test_enable_in_may_name_us(places: Path) -> None:
    path = library(places, "a.so")
    module_file(places, PACKAGES, "a", f"module: {path}\nenable-in: firefox sealagent")
    assert [item.path for item in find_modules(vendor_table=False)] == [path]


def test_a_missing_library_and_a_file_without_module_are_skipped(places: Path) -> None:
    module_file(places, PACKAGES, "a", "module: gone.so")
    module_file(places, PACKAGES, "b", "priority: 1")
    assert find_modules(vendor_table=False) == []
    assert {item.name: item.skipped for item in survey_modules(vendor_table=False)} == {
        "a": "the file does not exist",
        "b": "the file names no module",
    }


def test_one_library_is_used_once(places: Path) -> None:
    path = library(places, "softhsm/libsofthsm2.so")
    (places / "lib" / "link.so").symlink_to(path)
    module_file(places, PACKAGES, "a", f"module: {places / 'lib' / 'link.so'}")
    assert len(find_modules()) == 1
    [_, twice] = survey_modules()
    assert twice.source == "vendor table"
    assert twice.skipped is not None
    assert "same file" in twice.skipped


def test_sources_can_be_switched_off(places: Path) -> None:
    path = library(places, "opensc-pkcs11.so")
    module_file(places, PACKAGES, "a", f"module: {path}")
    assert find_modules(p11_kit=False, vendor_table=False) == []
    assert [item.name for item in find_modules(p11_kit=False)] == ["OpenSC"]


def test_a_further_table_adds_and_replaces(places: Path) -> None:
    path = library(places, "vendor/libx-1.2.so")
    table = places / "vendors.toml"
    entry = '[[module]]\nname = "{}"\ndriver = "pkcs11"\nfiles = ["vendor/libx-*.so"]\nsource = "test"\n'
    table.write_text(entry.format("X") + entry.format("OpenSC"))
    found = find_modules(p11_kit=False, vendor_files=[table, places / "absent.toml"])
    assert [(item.name, item.path) for item in found] == [("OpenSC", path)]


def test_p11_kit_directories_follow_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert p11_kit_directories()[0] == tmp_path / "pkcs11" / "modules"


# The allow-list


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "lib"
    folder.mkdir(mode=0o755)
    path = folder / "module.so"
    path.write_bytes(b"\x7fELF")
    path.chmod(0o644)
    return path


def test_a_configured_module_is_allowed_by_its_real_path(module: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.so"
    link.symlink_to(module)
    allowed = AllowList(paths=[link])
    assert allowed.resolve(link) == module
    assert allowed.resolve(str(module)) == module


def test_a_trusted_directory_allows_what_is_really_in_it(module: Path, tmp_path: Path) -> None:
    allowed = AllowList(directories=[module.parent])
    assert allowed.resolve(module.parent / ".." / "lib" / "module.so") == module
    outside = tmp_path / "outside.so"
    outside.write_bytes(b"")
    (module.parent / "inside.so").symlink_to(outside)
    with pytest.raises(ModuleNotAllowed, match="allow-list"):
        allowed.resolve(module.parent / "inside.so")


def test_a_sibling_directory_with_the_same_beginning_is_not_trusted(module: Path, tmp_path: Path) -> None:
    with pytest.raises(ModuleNotAllowed):
        AllowList(directories=[tmp_path / "li"]).resolve(module)


def test_anything_else_is_refused_with_the_next_step(module: Path) -> None:
    with pytest.raises(ModuleNotAllowed, match=r"\[\[modules\]\]"):
        AllowList(paths=[Path("/usr/lib/other.so")], directories=[Path("/usr/lib")]).resolve(module)


def test_a_relative_path_is_refused(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(module.parent)
    with pytest.raises(ModuleNotAllowed, match="absolute"):
        AllowList(paths=[module]).resolve("module.so")


def test_a_directory_is_no_module(module: Path) -> None:
    with pytest.raises(ModuleNotAllowed, match="regular"):
        AllowList(directories=[module.parent]).resolve(module.parent)


@pytest.mark.parametrize("name", ["gone.so", "module.so/x", "nul\0.so", "x" * 300, "loop.so"])
def test_what_cannot_be_reached_is_not_loadable(module: Path, name: str) -> None:
    (module.parent / "loop.so").symlink_to(module.parent / "loop.so")
    with pytest.raises(ModuleNotLoadable):
        AllowList(directories=[module.parent]).resolve(module.parent / name)


def test_a_file_that_everybody_may_write_is_refused(module: Path) -> None:
    module.chmod(0o646)
    with pytest.raises(ModuleNotAllowed, match="chmod"):
        AllowList(paths=[module]).resolve(module)


def test_a_directory_that_everybody_may_write_is_refused_unless_sticky(module: Path) -> None:
    module.parent.chmod(0o777)
    with pytest.raises(ModuleNotAllowed, match="chmod"):
        AllowList(paths=[module]).resolve(module)
    module.parent.chmod(0o1777)
    assert AllowList(paths=[module]).resolve(module) == module


def test_a_file_of_another_user_is_refused(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = module.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        os.chown(module, 12345, -1)
    with pytest.raises(ModuleNotAllowed, match="another user"):
        AllowList(paths=[module]).resolve(module)


# What may serve a module


@pytest.fixture
def program(module: Path) -> Path:
    path = module.parent / "worker"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_a_program_of_ours_may_be_a_worker(program: Path, tmp_path: Path) -> None:
    link, around = tmp_path / "link", tmp_path / "around"
    link.symlink_to(program)
    around.symlink_to(Path("lib", "..", "lib", "worker"))
    for path in (program, link, around, program.parent / ".." / "lib" / "worker", Path("/bin/sh")):
        check_command([str(path), "-I", "no path", "/not/there", "/\0"])
    check_command([])


@pytest.mark.parametrize("name", ["gone", "worker/x", "nul\0", "loop", "../lib", "module.so"])
def test_what_is_no_program_is_no_worker(program: Path, name: str) -> None:
    (program.parent / "loop").symlink_to(program.parent / "loop")
    with pytest.raises(ModuleNotAllowed, match="worker"):
        check_command([str(program.parent / name)])


def test_a_worker_is_named_by_its_full_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(program.parent)
    with pytest.raises(ModuleNotAllowed, match="absolute"):
        check_command(["worker"])


def test_a_worker_that_others_could_replace_is_refused(program: Path, module: Path, tmp_path: Path) -> None:
    """Also where it is the directory of a link on the way, or the script that an interpreter is given."""
    open_to_all, closed = tmp_path / "open", tmp_path / "closed"
    open_to_all.mkdir()
    (open_to_all / "middle").symlink_to(program)
    closed.symlink_to(open_to_all / "middle")
    check_command([str(closed)])
    open_to_all.chmod(0o777)
    with pytest.raises(ModuleNotAllowed, match="open can be written by everybody, who could replace the worker"):
        check_command([str(closed)])
    module.chmod(0o666)
    with pytest.raises(ModuleNotAllowed, match="could replace the worker"):
        check_command([str(program), str(module)])
    program.chmod(0o757)
    with pytest.raises(ModuleNotAllowed, match="could replace the worker"):
        check_command([str(program)])


def test_a_worker_of_another_user_is_refused(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = program.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner == 0:
        os.chown(program, 12345, -1)
    with pytest.raises(ModuleNotAllowed, match="another user"):
        check_command([str(program)])
