"""The fixtures themselves: another project may copy tests/softhsm2_fixtures, so what its README says is held here."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

import softhsm2_fixtures
from softhsm2_fixtures import KEY_KINDS, KeyKind, SoftHsm, SoftHsmError, SoftToken, certificate, session_key

FOLDER = Path(softhsm2_fixtures.__file__).parent

PROJECT = """
def test_token(softhsm_token):
    softhsm_token.add_key("ec-p256")
    assert {item["class"] for item in softhsm_token.objects()} == {"PRIVATE_KEY", "PUBLIC_KEY"}
"""


def test_configuration_reaches_children(softhsm: SoftHsm) -> None:
    assert os.environ["SOFTHSM2_CONF"] == str(softhsm.conf)
    assert softhsm.tokens.stat().st_mode & 0o777 == 0o700


def test_tokens_differ(softhsm_token: SoftToken, softhsm_new_token: Callable[..., SoftToken]) -> None:
    other = softhsm_new_token()
    for name in ("label", "serial", "user_pin", "so_pin", "directory"):
        assert getattr(other, name) != getattr(softhsm_token, name)
    assert softhsm_token.user_pin not in repr(softhsm_token)


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_imported_keys_are_protected(softhsm_token: SoftToken, kind: KeyKind) -> None:
    assert softhsm_token.add_key(kind) is session_key(kind)
    (private,) = [item for item in softhsm_token.objects() if item["class"] == "PRIVATE_KEY"]
    assert (private["sensitive"], private["extractable"], private["sign"], private["decrypt"]) == (
        True,
        False,
        True,
        False,
    )


def test_objects(softhsm_token: SoftToken) -> None:
    key = softhsm_token.add_key("ec-p256", public=False)
    softhsm_token.generate_key("ec-p384", object_id=b"\x02")
    der = certificate(key, "印章")
    assert x509.load_der_x509_certificate(der).subject.rfc4514_string() == "CN=印章"
    softhsm_token.add_certificate(der)
    softhsm_token.add_data(b"x" * (1 << 20), label="seal")
    classes = sorted(item["class"] for item in softhsm_token.objects())
    assert classes == ["CERTIFICATE", "DATA", "PRIVATE_KEY", "PRIVATE_KEY", "PUBLIC_KEY"]
    assert softhsm_token.delete("seal") == 1


def test_pulled_token(softhsm_token: SoftToken) -> None:
    softhsm_token.add_data(b"x")
    softhsm_token.remove()
    with pytest.raises(SoftHsmError):
        softhsm_token.objects()
    softhsm_token.insert()
    assert len(softhsm_token.objects()) == 1


def test_wrong_pin(softhsm_token: SoftToken) -> None:
    softhsm_token.enter_wrong_pin()
    softhsm_token.lock()
    assert softhsm_token.objects() == []


def test_folder_imports_nothing_of_the_project() -> None:
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.startswith("seal")], path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Another project with a copy of the folder."""
    shutil.copytree(FOLDER, tmp_path / "tests" / "softhsm2_fixtures")
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\npythonpath = ["tests"]\naddopts = ["-p", "softhsm2_fixtures"]\n'
    )
    (tmp_path / "tests" / "test_token.py").write_text(PROJECT)
    return tmp_path


def _pytest(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTHONPATH", "SOFTHSM2_CONF")}
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    return subprocess.run(
        command, cwd=project, env=kept | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_another_project_can_use_a_copy(project: Path) -> None:
    done = _pytest(project)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_missing_library_is_a_skip_with_a_reason_and_a_failure_in_ci(project: Path) -> None:
    missing = {"SOFTHSM2_MODULE": str(project / "libsofthsm2.so")}
    done = _pytest(project, **missing)
    assert "1 skipped" in done.stdout
    assert "SOFTHSM2_MODULE" in done.stdout
    done = _pytest(project, **missing, CI="true")
    assert done.returncode == 1
    assert "1 error" in done.stdout
