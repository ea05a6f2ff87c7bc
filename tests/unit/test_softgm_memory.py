"""The soft SKF library under valgrind: no invalid access and no leak on the way through its functions and faults."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import softgm


def test_functions_and_faults_leave_no_trace_in_memory(tmp_path: Path) -> None:
    """Where valgrind is not installed the same program runs plainly and checks the library's answers alone."""
    command = ["make", "-s", "-C", str(Path(softgm.__file__).parent / "skf"), "check", f"OUT={tmp_path}"]
    if shutil.which("valgrind") is None:
        command.append("VALGRIND=")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "softskf: every answer as expected\n", "")
