"""What holds for every file of the repository, and for the pinned requirements."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[2]
LONGEST_MODULE = 600  # lines; beyond that a module is designed anew
MACHINE_PATH = re.compile(r"(?<![\w.~}$/-])/(root|home|work|Users)/\w")
REGISTRY = re.compile(r"https?://[^ \"]*(/simple|/packages/|registry)|py(pi|thonhosted)\.org|\bnpmjs\b")
PLUGINS = ("softgm", "softhsm2_fixtures", "piv_card")
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)( ;[^\\]*)? \\$")


def files() -> list[Path]:
    """Return the files that are tracked, or would be if they were added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True).stdout.decode().split("\0")
    found = [PROJECT / name for name in names if name and (PROJECT / name).is_file()]
    assert len(found) > 50
    return found


def texts() -> Iterator[tuple[Path, str]]:
    for path in files():
        data = path.read_bytes()
        if b"\0" not in data:
            yield path, data.decode()


def test_no_module_outgrows_the_limit() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in files() if path.suffix == ".py"}
    assert {str(path): n for path, n in lengths.items() if n > LONGEST_MODULE} == {}


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY], ids=["machine path", "registry address"])
def test_no_file_names(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(PROJECT)}:{number}: {line.strip()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def pins(name: str) -> dict[str, str]:
    """Return the versions a requirements file pins, by canonical name; each must carry a hash."""
    found: dict[str, str] = {}
    lines = (PROJECT / "requirements" / name).read_text().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        match = PIN.match(line)
        if match:
            assert following.startswith("    --hash=sha256:"), line
            found[canonicalize_name(match[1])] = match[2]
        else:
            assert not line or line.startswith(("#", "    --hash=sha256:")), line
    return found


def declared(*groups: str) -> list[Requirement]:
    document = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    lines = list(document["project"]["dependencies"])
    pending = list(groups)
    while pending:
        for item in document["dependency-groups"][pending.pop()]:
            if isinstance(item, str):
                lines.append(item)
            else:
                pending.append(item["include-group"])
    return [Requirement(line) for line in lines]


@pytest.mark.parametrize(("name", "groups"), [("runtime.txt", ()), ("dev.txt", ("dev",))])
def test_requirements_pin_what_the_project_declares(name: str, groups: tuple[str, ...]) -> None:
    pinned = pins(name)
    for requirement in declared(*groups):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not in {name}; run make requirements"
        assert requirement.specifier.contains(version), f"{requirement} and {version}; run make requirements"


def test_extras_are_part_of_what_is_tested() -> None:
    pinned = pins("dev.txt")
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for requirement in [Requirement(line) for lines in extras.values() for line in lines]:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_development_runs_on_the_versions_that_are_shipped() -> None:
    assert pins("runtime.txt").items() <= pins("dev.txt").items()


@pytest.mark.parametrize("name", ["runtime.txt", "dev.txt"])
def test_requirements_hold_no_address(name: str) -> None:
    text = (PROJECT / "requirements" / name).read_text()
    assert "://" not in text
    assert "index" not in text.replace("pip-compile", "")


def test_hooks_fetch_nothing() -> None:
    lines = (PROJECT / ".pre-commit-config.yaml").read_text().splitlines()
    assert [line.strip() for line in lines if "repo:" in line] == ["- repo: local"]
    assert {line.strip() for line in lines if "language:" in line} == {"language: system"}


def test_units_keep_the_socket_private_and_start_nothing_by_themselves() -> None:
    socket = (PROJECT / "config/systemd/sealagent.socket").read_text().splitlines()
    assert {"ListenStream=%t/sealagent/agent.sock", "SocketMode=0600", "DirectoryMode=0700"} <= set(socket)
    service = (PROJECT / "config/systemd/sealagent.service").read_text().splitlines()
    assert {"Type=notify", "ExecStart=sealagent daemon run", "NoNewPrivileges=yes", "LimitCORE=0"} <= set(service)
    assert not any(line.startswith("WantedBy") for line in service)
    maker = (PROJECT / "config/systemd/sealagent-maker.service").read_text().splitlines()
    assert {"ExecStart=sealagent maker serve", "NoNewPrivileges=yes", "LimitCORE=0"} <= set(maker)


def _fixtures(plugin: Path) -> set[str]:
    tree = ast.parse(plugin.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {each.name for each in functions if any("fixture" in ast.unparse(mark) for mark in each.decorator_list)}


def test_no_test_imports_a_fixture_of_a_plugin() -> None:
    """It would be another one, of the session all the same, and leave its environment to the tests that follow."""
    plugins = {name: _fixtures(PROJECT / "tests" / name / "__init__.py") for name in PLUGINS}
    assert all(plugins.values())
    for path in sorted((PROJECT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module in plugins:
                imported = {alias.name for alias in node.names}
                assert not imported & plugins[node.module], path
