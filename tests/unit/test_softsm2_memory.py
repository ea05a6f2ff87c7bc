"""The soft SM2 module under valgrind: no invalid access and no leak on the way through its functions and faults."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import softgm
from softgm import SoftSm2Token, certificate


def test_functions_and_faults_leave_no_trace_in_memory(softsm2_token: SoftSm2Token, tmp_path: Path) -> None:
    """Where valgrind is not installed the same program runs plainly and checks the module's answers alone."""
    softsm2_token.add_certificate(certificate(softsm2_token.add_key("sm2")))
    alone = tmp_path / "tokens"
    alone.mkdir()
    (alone / "module.conf").write_text("profile=sansec\n")
    token = alone / softsm2_token.name
    shutil.copytree(softsm2_token.directory, token)
    (token / "softhsm2.conf").write_text(
        (token / "softhsm2.conf").read_text().replace(str(softsm2_token.directory), str(token))
    )
    make = ["make", "-s", "-C", str(Path(softgm.__file__).parent / "pkcs11"), "check", f"OUT={tmp_path}"]
    make += [f"TOKEN={token}", f"PIN={softsm2_token.user_pin}"]
    if shutil.which("valgrind") is None:
        make.append("VALGRIND=")
    done = subprocess.run(make, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "softgm-pkcs11: every answer as expected\n", "")
