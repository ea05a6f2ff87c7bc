"""The Makefile, .ci/run and scripts/bootstrap.sh. Programs that would change the machine are replaced on PATH."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


class Machine:
    """A checkout with the set-up files only, and a folder of programs that come first on PATH."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.programs = folder / "programs"
        self.log = folder / "log"
        self.programs.mkdir()
        (folder / "venv").mkdir()
        (folder / "venv" / "bin").symlink_to(self.programs)
        for name in (
            "Makefile",
            ".ci/run",
            "scripts/bootstrap.sh",
            "scripts/i386.sh",
            "requirements/dev.txt",
            "pyproject.toml",
        ):
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, self.checkout / name)
        # sudo, for those who run the tests as themselves: drops its option and goes on.
        self.program("sudo", '[ "$1" = -n ] && shift\nexec "$@"')
        self.program("dpkg-query", "printf installed")
        self.program("dpkg", "echo riscv64")

    def program(self, name: str, script: str) -> None:
        path = self.programs / name
        path.write_text(f'#!/bin/sh\nLOG="{self.log}"\n{script}\n')
        path.chmod(0o755)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "CI"}
        path = f"{self.programs}{os.pathsep}{os.environ['PATH']}"
        environment = kept | {"PYTHON": sys.executable} | variables | {"PATH": path}
        return subprocess.run(
            command, cwd=self.checkout, env=environment, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    "target", ["help", "setup", "demo", "test", "bench", "lint", "format", "udev", "requirements", "clean"]
)
def test_make_has_the_target(machine: Machine, target: str) -> None:
    done = machine.run("make", "-n", target)
    assert done.returncode == 0, done.stderr


def test_help_lists_the_targets(machine: Machine) -> None:
    shown = machine.run("make").stdout
    assert all(f"make {target} " in shown for target in ("demo", "test", "bench", "lint", "requirements"))


@pytest.mark.parametrize(("document", "arguments"), [("", []), ("my file's.ofd", ["my file's.ofd"])])
def test_demo_gets_the_document_as_it_is_written(machine: Machine, document: str, arguments: list[str]) -> None:
    machine.program("python", """printf '%s\\n' "$@" """)
    done = machine.run(
        "make", "--old-file=setup", "demo", f"VENV={machine.programs.parent / 'venv'}", f"DOC={document}"
    )
    assert done.stdout.splitlines() == ["-m", "demo.main", *arguments]


def test_ci_sets_ci_and_passes_the_failure_on(machine: Machine) -> None:
    machine.program("make", 'echo "$CI $*"; exit 5')
    done = machine.run(".ci/run")
    assert (done.returncode, done.stdout) == (5, "true --no-print-directory test\n")


def test_missing_packages_are_installed_after_a_refresh(machine: Machine) -> None:
    """The first try fails, as it does where the lists were never fetched; then they are, and the second one works."""
    machine.program("dpkg-query", 'case "$*" in *softhsm2|*tmux) exit 1;; esac; printf installed')
    machine.program("apt-get", 'echo "$DEBIAN_FRONTEND $*" >>"$LOG"\n[ "$(wc -l <"$LOG")" -gt 1 ]')
    machine.program("python-too-old", "exit 1")  # ends the run after the packages
    done = machine.run("scripts/bootstrap.sh", ".venv", PYTHON="python-too-old")
    options = "noninteractive -qq -o DPkg::Lock::Timeout=300"
    install = f"{options} install -y --no-install-recommends softhsm2 tmux"
    assert machine.log.read_text().splitlines() == [install, f"{options} update", install]
    assert "installing softhsm2 tmux" in done.stderr


def test_packages_that_cannot_be_installed_are_named(machine: Machine) -> None:
    machine.program("dpkg-query", "exit 1")
    machine.program("apt-get", "exit 100")
    done = machine.run("scripts/bootstrap.sh", ".venv")
    assert done.returncode == 1
    assert "apt could not install: softhsm2 openssl" in done.stderr


def test_an_old_python_is_refused_by_name(machine: Machine) -> None:
    machine.program("python-too-old", "exit 1")
    done = machine.run("scripts/bootstrap.sh", ".venv", PYTHON="python-too-old")
    assert done.returncode == 1
    assert "Python 3.11 or newer is needed" in done.stderr
    assert "python-too-old" in done.stderr


def test_a_folder_that_is_no_virtual_environment_is_left_alone(machine: Machine) -> None:
    precious = machine.checkout / "notes" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("mine")
    done = machine.run("scripts/bootstrap.sh", "notes")
    assert done.returncode == 1
    assert "notes is no virtual environment" in done.stderr
    assert [path.name for path in precious.parent.iterdir()] == ["precious.txt"]


def test_another_architecture_has_no_32_bit_python_and_says_so(machine: Machine) -> None:
    machine.program("apt-get", 'echo "$*" >>"$LOG"')
    done = machine.run("scripts/i386.sh", XDG_CACHE_HOME=str(machine.checkout / "cache"))
    assert (done.returncode, done.stdout) == (3, "")
    assert "this machine is riscv64" in done.stderr
    assert not machine.log.exists()


@pytest.mark.parametrize(
    ("depends", "status", "said"),
    [
        ("exit 100", 1, "apt knows no i386 package of Python"),
        ("echo '  Depends: python3.11-minimal\n  Depends: libssl3'", 1, "apt could not fetch: python3.11-minimal"),
        ("echo '  Depends: python3.10-minimal\n  Depends: libssl3'", 3, "the worker needs 3.11"),
    ],
    ids=["unknown", "unreachable", "too old"],
)
def test_a_32_bit_python_that_cannot_be_had(machine: Machine, depends: str, status: int, said: str) -> None:
    """What will not change is remembered, what may change is tried again; the machine's own apt state is left alone."""
    machine.program("dpkg", "echo amd64")
    machine.program("apt-get", 'echo "$*" >>"$LOG"; echo no network; exit 100')
    machine.program("apt-cache", depends)
    cache = machine.checkout / "cache"
    for _ in range(2):
        done = machine.run("scripts/i386.sh", XDG_CACHE_HOME=str(cache))
        assert (done.returncode, done.stdout) == (status, "")
        assert said in done.stderr
        assert ("no network" in done.stderr) == (status == 1)
    calls = machine.log.read_text().splitlines()
    assert all(f"-c {cache}/sealagent/i386-" in call for call in calls)
    assert {call.split()[3] for call in calls} <= {"update", "download"}
    assert len([call for call in calls if call.split()[3] == "update"]) == (2 if status == 1 else 1)
    left = [path for path in (cache / "sealagent").iterdir() if path.is_dir()]
    assert [sorted(path.name for path in folder.iterdir()) for folder in left] == [["unable"]] * (status == 3)
