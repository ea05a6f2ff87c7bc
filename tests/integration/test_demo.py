"""``make demo`` as a newcomer runs it: it ends well, and says what it says because it happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def demo(folder: Path, *document: Path, driver: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo.main", *map(str, document)],
        env={
            **os.environ,
            "PYTHONPATH": f"{PROJECT / 'tests'}{os.pathsep}{PROJECT / 'scripts'}",
            "DRIVER": driver,
            "SEALAGENT_DEMO_DIR": str(folder),
        },
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.vectors
@pytest.mark.parametrize("driver", ["pkcs11", "pkcs11-sm2", ""])
def test_the_demo_seals_verifies_and_finds_the_change(tmp_path: Path, vectors: Path, driver: str) -> None:
    done = demo(tmp_path / "demo", driver=driver)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("verdict: valid") == 2
    accepted = "Verified OK" if driver == "pkcs11" else "Signature Verified Successfully"
    assert done.stdout.count(f"OpenSSL alone says the same ({accepted})") == 2
    assert ("soft SKF tokens" in done.stdout) is (not driver)
    assert done.stdout.count("✗ reference_digest: /Doc_0/Pages/Page_0/Content.xml") == 2
    assert "checked without the agent: ok: 12 entries" in done.stdout
    made = {path.name for path in (tmp_path / "demo").iterdir()}
    assert {"notice-sealed.ofd", "helloworld-sealed.ofd", "seal.png", "notice-preview.png", "record.jsonl"} <= made


@pytest.mark.vectors
def test_the_demo_takes_any_document_and_says_why_it_cannot(tmp_path: Path, vectors: Path) -> None:
    small = demo(tmp_path / "demo", vectors / "v4signed.ofd")
    assert small.returncode == 0, small.stdout + small.stderr
    assert "reference_digest" in small.stdout
    closed = demo(tmp_path / "demo", vectors / "V4RideRight.ofd")
    assert closed.returncode == 1
    assert "ofd_closed" in closed.stderr
    assert "Traceback" not in closed.stderr
    absent = demo(tmp_path / "demo", tmp_path / "no.ofd")
    assert absent.returncode == 1
    assert "no such file" in absent.stderr
