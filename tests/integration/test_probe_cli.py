"""``sealagent driver probe`` as a person or a script runs it: no agent, exit status, languages, files, PIN sources."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import softgm
from cli_parts import SECONDS, Done, Shell, command, has_no_control
from sealdrivers.probe.kinds import KINDS
from softgm import SoftSkf, SoftSkfToken

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")

REPORT: dict[str, Any] = {
    "report": str,
    "format": int,
    "version": str,
    "date": str,
    "system": str,
    "library": {
        "path": str,
        "size": int,
        "sha256": str,
        "architecture": str,
        "driver": str,
        "driver_chosen_by": str,
        "manufacturer": str,
        "description": str,
        "version": str,
        "vendor_entry": str,
        "sm2_profile": str,
        "sm2_profile_chosen_by": str,
    },
    "usable": bool,
    "blocking": [str],
    "signatures": bool,
    "serials": bool,
    "sections": [
        {
            "name": str,
            "outcome": str,
            "reason": str,
            "seconds": float,
            "facts": dict,
            "findings": [
                {
                    "code": str,
                    "severity": str,
                    "where": str,
                    "detail": str,
                    "times": int,
                    "title": str,
                    "clause": str,
                    "handling": str,
                }
            ],
            "timings": [{"call": str, "count": int, "min_ms": float, "median_ms": float, "max_ms": float}],
        }
    ],
}
"""The JSON form: keys and types."""


def fits(value: Any, form: Any) -> bool:
    if isinstance(form, dict):
        return isinstance(value, dict) and value.keys() == form.keys() and all(fits(value[k], form[k]) for k in form)
    if isinstance(form, list):
        return isinstance(value, list) and all(fits(item, form[0]) for item in value)
    return type(value) is form or (form is float and type(value) is int)


@pytest.fixture
def device(softskf_token: SoftSkfToken) -> SoftSkfToken:
    softskf_token.add_certificate(softgm.certificate(softskf_token.add_key("sm2")))
    return softskf_token


class ProbeShell(Shell):
    """A shell without an agent, in which the soft SKF library finds its devices."""

    def environment(self, **changes: str) -> dict[str, str]:
        return super().environment(**{"SOFTSKF_DIR": os.environ["SOFTSKF_DIR"], **changes})

    def probe(self, library: Path, *arguments: str | Path, **environment: str) -> Done:
        return self("driver", "probe", library, *arguments, **environment)


@pytest.fixture
def shell(softskf: SoftSkf) -> Iterator[ProbeShell]:
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        yield ProbeShell(Path(directory), Path(directory) / "nobody.sock")


def pin_file(shell: ProbeShell, pin: str) -> Path:
    path = shell.home / "pin"
    path.write_text(pin + "\n")
    path.chmod(0o600)
    return path


def test_json(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    done = shell.probe(softskf.library, "--json", "--pin-file", pin_file(shell, device.user_pin))
    assert done.status == 0, done.err
    assert fits(done.json, REPORT)
    assert done.json["format"] == 1
    assert done.json["usable"]
    assert done.json["signatures"]
    assert "PIN tries left: 6" in done.err
    for secret in (device.user_pin, device.so_pin, device.serial):
        assert secret not in done.out + done.err
    assert {finding["code"] for part in done.json["sections"] for finding in part["findings"]} <= set(KINDS)


def test_people_read_it_in_their_language(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    device.set_fault("single_nul", "SKF_EnumContainer")
    english = shell.probe(softskf.library)
    assert english.status == 0, english.err
    assert has_no_control(english.out)
    assert "usable, as far as can be known without a PIN" in english.out
    assert re.search(r"quirk  SKF_EnumContainer: A list of names .*\n +→ read by the size.*GM/T 0016-2012", english.out)
    assert "SKF_EnumDev" in english.out.partition("\nTimes\n")[2]
    assert english.err == ""
    chinese = shell.probe(softskf.library, LANG="zh_CN.UTF-8")
    assert "偏差  SKF_EnumContainer: 名称列表未以双 NUL 结尾" in chinese.out


def test_a_report_in_a_file(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    done = shell.probe(softskf.library, "--only", "abi", "--json", "-o", "report.json")
    assert (done.status, done.out) == (0, "")
    assert "usable" in done.err
    assert fits(json.loads((shell.home / "report.json").read_text()), REPORT)


def test_status_of_a_library_that_is_of_no_use(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    device.set_fault("crash", "SKF_OpenApplication")
    done = shell.probe(softskf.library, "--only", "devices")
    assert done.status == 1
    assert "NOT USABLE: crashed" in done.out


def test_status_of_a_wrong_pin(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    done = shell.probe(softskf.library, "--only", "signatures", "--pin-file", pin_file(shell, "wrong-pin"))
    assert done.status == 5
    assert "5 tries are left" in done.out
    device.set_tries_left(1)
    done = shell.probe(softskf.library, "--only", "signatures", "--pin-file", pin_file(shell, device.user_pin))
    assert done.status == 5
    assert "no PIN was offered" in done.out
    assert device.tries_left() == 1


def test_a_pin_from_a_descriptor(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    reading, writing = os.pipe()
    os.write(writing, device.user_pin.encode())
    os.close(writing)
    done = subprocess.run(
        command("driver", "probe", softskf.library, "--only", "signatures", "--json", "--pin-fd", str(reading)),
        env=shell.environment(),
        pass_fds=(reading,),
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    os.close(reading)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["signatures"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["/nowhere/library.so"], 1, "module_not_loadable"),
        (["library.txt"], 1, "load_failed"),
        (["{library}", "--driver", "pkcs11"], 1, "no_driver_library"),
        (["{library}", "--profile", "Nobody"], 2, "there is no [[sm2]] entry"),
        (["{library}", "--only", "nothing"], 2, "there is no section"),
        (["{library}", "--pin", "--pin-file", "pin"], 2, "exclude each other"),
        (["{library}", "--pin-file", "absent", "--only", "signatures"], 4, "token_not_found"),
    ],
)
def test_what_cannot_be(shell: ProbeShell, softskf: SoftSkf, arguments: list[str], status: int, said: str) -> None:
    (shell.home / "library.txt").write_text("no library\n")
    done = shell("driver", "probe", *(word.format(library=softskf.library) for word in arguments))
    assert done.status == status, done.err
    assert said in done.out + done.err
    assert "Traceback" not in done.err


def test_a_library_others_could_replace_is_not_loaded(shell: ProbeShell, softskf: SoftSkf) -> None:
    copy = shell.home / "libskf.so"
    copy.write_bytes(softskf.library.read_bytes())
    copy.chmod(0o777)
    done = shell.probe(copy)
    assert done.status == 1
    assert "module_not_allowed" in done.err


def test_the_commands_of_the_readme(shell: ProbeShell, softskf: SoftSkf, device: SoftSkfToken) -> None:
    text = README.partition("## For integrators: probe a driver\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (sealagent .*)$", text, flags=re.M)
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        pin = pin_file(shell, device.user_pin)
        real = {"LIBRARY": softskf.library, "--pin": "--pin-file"}
        named: list[str | Path] = []
        for word in words:
            named.append(real.get(word, word))
            if word == "--pin":  # there is no terminal here
                named.append(pin)
        done = shell(*named)
        assert done.status == 0, (line, done.err)
