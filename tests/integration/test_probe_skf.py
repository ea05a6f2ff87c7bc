"""``sealdrivers.probe`` on the soft SKF library: as it should be, and each fault as the finding that it is."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import softgm
from probe_parts import codes, findings, run, section, untranslated
from sealdrivers.errors import TokenNotFound
from sealdrivers.probe.child import SECTIONS
from sealdrivers.probe.model import Outcome, Report
from sealdrivers.probe.process import TokenChoice
from sealdrivers.skf import abi
from softgm import SoftSkf, SoftSkfToken

MakeToken = Callable[..., SoftSkfToken]


@pytest.fixture
def device(softskf_new_token: MakeToken) -> SoftSkfToken:
    """A device with an SM2 key and its certificate."""
    made = softskf_new_token()
    made.add_certificate(softgm.certificate(made.add_key("sm2")))
    return made


def probe_of(device: SoftSkfToken, **options: object) -> Report:
    """Probe with the right PIN."""
    assert device.library is not None
    return run(device.library, device.user_pin, **options)  # type: ignore[arg-type]


def public(device: SoftSkfToken, **options: object) -> Report:
    assert device.library is not None
    return run(device.library, **options)  # type: ignore[arg-type]


def test_a_good_library(device: SoftSkfToken) -> None:
    device.add_key("rsa-2048", container="rsa")
    device.add_file("seal", b"x" * 5000)
    report = probe_of(device)
    assert report.usable
    assert report.signatures
    assert codes(report, "fault", "quirk") == set()
    assert {each.name: each.outcome for each in report.sections} == {
        name: Outcome.DONE for name in ("load", *SECTIONS["skf"])
    }
    assert {"signature_verified", "threads_work", "events_work", "skf_handle_checked"} <= codes(report, "ok")
    assert report.library.driver == "skf"
    assert section(report, "devices").facts["devices"][0]["devinfo_octets"] == 294
    assert section(report, "devices").facts["bool_octets"] == 4
    assert {row["signing_key"] for row in section(report, "containers").facts["containers"]} == {"sm2", "rsa-2048"}
    assert [row["octets"] for row in section(report, "files").facts["files"]] == [5000]
    assert len(section(report, "errors").facts["wrong_handles"]) == 6
    assert {row["result"] for row in section(report, "signatures").facts["signatures"]} == {"verified"}
    timings = {timing.call: timing for timing in section(report, "signatures").timings}
    assert timings["SKF_VerifyPIN"].count == 1
    assert timings["SKF_ECCSignData"].min_ms <= timings["SKF_ECCSignData"].median_ms
    assert untranslated(report) == set()
    assert device.tries_left() == 6


def test_the_report_names_nobody(softskf_new_token: MakeToken) -> None:
    device = softskf_new_token("张三的钥匙", application="HOLDERAPP")
    device.add_certificate(softgm.certificate(device.add_key("sm2", container="holder"), "张三"), container="holder")
    hidden = [device.serial, device.user_pin, device.so_pin, "张三", "HOLDERAPP", "holder", device.name]
    text = json.dumps(probe_of(device).to_json(), ensure_ascii=False)
    assert [word for word in hidden if word in text] == []
    text = json.dumps(probe_of(device, serials=True).to_json(), ensure_ascii=False)
    assert all(word in text for word in (device.serial, "张三的钥匙", "HOLDERAPP", "holder"))
    assert device.user_pin not in text


def test_without_a_device(softskf: SoftSkf) -> None:
    report = run(softskf.library)
    assert report.usable
    assert "no_token" in codes(report, "note")
    assert section(report, "signatures").outcome is Outcome.NOT_RUN
    with pytest.raises(TokenNotFound):
        run(softskf.library, "123456")


LAYOUTS = [
    # fault, function, argument: section, finding, severity
    ("layout", "SKF_GetDevInfo", "natural", "devices", "skf_devinfo_natural", "quirk"),
    ("layout", "SKF_GetDevInfo", "packed64", "devices", "skf_devinfo_layout", "fault"),
    ("layout", "SKF_GetDevInfo", "short", "devices", "skf_devinfo_layout", "fault"),
    ("unterminated", "SKF_GetDevInfo", None, "devices", "skf_text_unterminated", "quirk"),
    ("wide_bool", "SKF_GetPINInfo", None, "devices", "skf_wide_bool", "quirk"),
    ("retries", "SKF_GetPINInfo", "none", "devices", "pin_counter_hidden", "quirk"),
    ("single_nul", "SKF_EnumContainer", None, "containers", "skf_list_end", "quirk"),
    ("unterminated", "SKF_EnumApplication", None, "devices", "skf_list_end", "quirk"),
    ("oversize", "SKF_EnumContainer", None, "containers", "answer_invalid", "fault"),
    ("overrun", "SKF_ExportPublicKey", None, "containers", "skf_key_blob", "fault"),
    ("length", "SKF_ExportPublicKey", "136", "containers", "skf_key_blob", "fault"),
    ("no_output", "SKF_OpenContainer", None, "containers", "answer_invalid", "fault"),
    ("return", "SKF_OpenApplication", "0x0A000001", "devices", "call_failed", "fault"),
    ("file_size", "SKF_GetFileInfo", "9000", "files", "skf_file_size", "fault"),
]


@pytest.mark.parametrize(("fault", "function", "argument", "where", "code", "severity"), LAYOUTS)
def test_each_fault_is_its_finding(
    device: SoftSkfToken, fault: str, function: str, argument: str | None, where: str, code: str, severity: str
) -> None:
    device.add_file("seal", b"x" * 500)
    device.set_fault(fault, function, argument)
    report = public(device, only=frozenset([where]))
    assert code in {each.code for each in section(report, where).findings if each.severity == severity}
    assert report.usable is (severity != "fault")
    assert section(report, "threads").reason == "not asked for"


@pytest.mark.parametrize(("fault", "code"), [("single_nul", "skf_list_end"), ("oversize", "answer_invalid")])
def test_faults_of_the_list_of_devices(device: SoftSkfToken, softskf: SoftSkf, fault: str, code: str) -> None:
    softskf.set_fault(fault, "SKF_EnumDev")
    assert code in codes(public(device, only=frozenset(["abi"])))


SIGNING = frozenset(["signatures"])
SIGNATURES = [
    ("flip", "signature_wrong", "unknown"),
    ("ecdsa", "signature_wrong", "ECDSA"),
    ("hash", "signature_wrong", "SM3(input)"),
    ("other_key", "signature_wrong", "unknown"),
    ("der", "skf_not_right_aligned", "DER"),
    ("left", "skf_not_right_aligned", "left-aligned, SM2 over e"),
    ("zero", "signature_malformed", "without output"),
]


@pytest.mark.parametrize(("kind", "code", "said"), SIGNATURES)
def test_each_wrong_signature(device: SoftSkfToken, kind: str, code: str, said: str) -> None:
    device.set_fault("signature", "SKF_ECCSignData", kind)
    report = probe_of(device, only=SIGNING)
    (finding,) = findings(report, code)
    assert said in finding.detail
    assert report.blocking == (code,)
    assert section(report, "signatures").facts["keys"] == [{"key": 1, "type": "sm2", "works": False}]


@pytest.mark.parametrize("kind", ["short_r", "short_s"])
def test_a_number_that_begins_with_zero_is_no_fault(device: SoftSkfToken, kind: str) -> None:
    device.set_fault("signature", "SKF_ECCSignData", kind)
    assert probe_of(device, only=SIGNING).usable


def test_one_key_that_works_is_enough(device: SoftSkfToken) -> None:
    device.add_key("rsa-2048", container="rsa")
    device.set_fault("signature", "SKF_ECCSignData", "flip")
    report = probe_of(device, only=SIGNING)
    assert "signature_wrong" in codes(report, "fault")
    assert report.usable


def test_a_certificate_of_another_key(device: SoftSkfToken) -> None:
    device.add_certificate(softgm.certificate(softgm.new_key("sm2")))
    report = public(device, only=frozenset(["containers"]))
    assert report.blocking == ("certificate_mismatch",)


def test_a_name_in_gbk(device: SoftSkfToken) -> None:
    device.add_container("印章".encode("gbk"))
    (finding,) = findings(public(device, only=frozenset(["containers"])), "text_encoding")
    assert finding.where == "SKF_EnumContainer"


# Crashes and hangs


@pytest.mark.parametrize(
    ("how", "outcome", "code", "said"),
    [
        ("segv", Outcome.CRASHED, "crashed", "signal 11 (SIGSEGV)"),
        ("abort", Outcome.CRASHED, "crashed", "signal 6 (SIGABRT)"),
        ("exit", Outcome.FAILED, "ended_process", "status 3"),
    ],
)
def test_a_crash_costs_its_section_alone(
    device: SoftSkfToken, how: str, outcome: Outcome, code: str, said: str
) -> None:
    device.set_fault("crash", "SKF_EnumContainer", how)
    report = public(device, only=frozenset(["devices", "containers", "threads"]))
    assert section(report, "containers").outcome is outcome
    finding = next(each for each in section(report, "containers").findings if each.code == code)
    assert said in finding.detail
    assert finding.where == "SKF_EnumContainer"
    assert section(report, "threads").outcome is Outcome.DONE
    assert section(report, "devices").facts["devices"]
    assert code in report.blocking


def test_a_hang_names_its_call(device: SoftSkfToken) -> None:
    device.set_fault("hang", "SKF_GetContainerType")
    report = public(device, call=2, only=frozenset(["containers", "files"]))
    (finding,) = findings(report, "hung")
    assert finding.detail == "did not return from SKF_GetContainerType within 2 s"
    assert section(report, "containers").outcome is Outcome.HUNG
    assert section(report, "files").outcome is Outcome.DONE


def test_a_crash_while_loading(device: SoftSkfToken, softskf: SoftSkf) -> None:
    softskf.set_fault("crash", "SKF_EnumDev")
    report = public(device)
    assert section(report, "load").outcome is Outcome.DONE
    assert {each.outcome for each in report.sections[1:-2]} == {Outcome.CRASHED}
    assert report.blocking == ("crashed",)


def test_a_crash_in_one_step_goes_on_with_the_next(device: SoftSkfToken) -> None:
    device.set_fault("crash", "SKF_ExportCertificate", "segv", times=1)
    report = public(device, only=frozenset(["containers", "errors"]))
    errors = section(report, "errors")
    # The containers' section met the fault, which counts down.
    assert section(report, "containers").outcome is Outcome.CRASHED
    assert len(errors.facts["wrong_handles"]) == 6
    device.set_fault("crash", "SKF_CloseApplication", "segv")
    errors = section(public(device, only=frozenset(["errors"])), "errors")
    assert errors.outcome is Outcome.CRASHED
    assert len(errors.facts["wrong_handles"]) == 5
    details = [each.detail for each in errors.findings if each.code == "crashed"]
    assert any("at SKF_EnumContainer with a closed handle" in detail for detail in details)


def test_a_crash_while_signing_spends_no_try(device: SoftSkfToken) -> None:
    device.add_key("rsa-2048", container="rsa")
    device.set_fault("crash", "SKF_RSASignData", "segv")
    report = probe_of(device, only=SIGNING)
    assert "crashed" in report.blocking
    assert section(report, "signatures").outcome is Outcome.CRASHED
    assert device.tries_left() == 6


def test_a_crash_in_the_login_is_not_repeated(device: SoftSkfToken) -> None:
    device.set_fault("crash", "SKF_VerifyPIN", "segv", late=True)
    device.set_tries_left(4)
    report = probe_of(device, only=SIGNING)
    assert findings(report, "crashed")[0].where == "SKF_VerifyPIN"
    assert device.tries_left() >= 3


# Events


def test_waiting_that_blocks_every_other_call(device: SoftSkfToken, softskf: SoftSkf) -> None:
    softskf.set_fault("holds_lock", "SKF_WaitForDevEvent")
    report = public(device, call=4, only=frozenset(["events"]))
    assert "wait_blocks_others" in codes(report, "quirk")
    assert "hung" not in codes(report)
    assert section(report, "events").outcome is Outcome.DONE
    assert report.usable


def test_waiting_that_cannot_be_cancelled(device: SoftSkfToken, softskf: SoftSkf) -> None:
    softskf.set_fault("hang", "SKF_WaitForDevEvent")
    report = public(device, call=4, only=frozenset(["events"]))
    assert "wait_not_ended" in codes(report, "quirk")
    assert "hung" not in codes(report)
    assert report.usable


def test_a_crash_in_an_event_call_makes_nothing_unusable(device: SoftSkfToken, softskf: SoftSkf) -> None:
    softskf.set_fault("crash", "SKF_WaitForDevEvent", "segv")
    report = public(device, only=frozenset(["events"]))
    assert findings(report, "crashed")[0].where == "SKF_WaitForDevEvent"
    assert report.usable


# PINs


def test_a_wrong_pin_is_offered_once(device: SoftSkfToken) -> None:
    assert device.library is not None
    report = run(device.library, "wrong-pin", only=SIGNING)
    (finding,) = findings(report, "pin_incorrect")
    assert finding.detail == "5 tries are left"
    assert device.tries_left() == 5
    assert "keys" not in section(report, "signatures").facts


@pytest.mark.parametrize(("left", "code"), [(1, "pin_last_try"), (0, "pin_locked")])
def test_the_last_try_is_never_spent(device: SoftSkfToken, left: int, code: str) -> None:
    def ask(token: TokenChoice) -> bytearray:
        raise AssertionError("nobody may be asked")

    device.set_tries_left(left)
    assert device.library is not None
    report = run(device.library, ask, only=SIGNING)
    assert section(report, "signatures").outcome is Outcome.NOT_RUN
    assert code in {each.code for each in section(report, "signatures").findings}
    assert not report.signatures
    assert device.tries_left() == left


def test_a_counter_that_falls_meanwhile_is_heeded(device: SoftSkfToken) -> None:
    def ask(token: TokenChoice) -> bytearray:
        assert token.tries_left == 6
        device.set_tries_left(1)
        return bytearray(device.user_pin.encode())

    assert device.library is not None
    assert "pin_last_try" in {
        each.code for each in section(run(device.library, ask, only=SIGNING), "signatures").findings
    }
    assert device.tries_left() == 1


def test_the_pin_is_wiped_and_the_holder_told(device: SoftSkfToken) -> None:
    kept: list[bytearray] = []

    def ask(token: TokenChoice) -> bytearray:
        assert (token.serial, token.application, token.tries_left) == (device.serial, device.application, 6)
        kept.append(bytearray(device.user_pin.encode()))
        return kept[0]

    assert device.library is not None
    assert run(device.library, ask, only=SIGNING).usable
    assert kept == [bytearray(len(device.user_pin))]


def test_which_token_is_meant(device: SoftSkfToken, softskf_new_token: MakeToken) -> None:
    other = softskf_new_token()
    with pytest.raises(TokenNotFound, match="2 tokens"):
        probe_of(device)
    report = run(other.library, other.user_pin, token=other.serial, only=SIGNING)  # type: ignore[arg-type]
    assert "no_key" in codes(report)


def test_a_factory_pin_is_noted(softskf_new_token: MakeToken) -> None:
    assert "factory_pin" in codes(public(softskf_new_token(factory_pin=True), only=frozenset(["devices"])), "note")


# Libraries that are made for one test


def compiled(folder: Path, source: str) -> Path:
    (folder / "library.c").write_text(source)
    command = ["cc", "-shared", "-fPIC", "-o", folder / "library.so", folder / "library.c"]
    subprocess.run(command, check=True, timeout=60)
    return folder / "library.so"


def functions(names: Iterable[str]) -> str:
    return "".join(f"unsigned {name}(void) {{ return 0x0A000003; }}\n" for name in names)


def test_required_functions_that_are_missing(tmp_path: Path) -> None:
    report = run(compiled(tmp_path, functions(name for name in abi.REQUIRED if name != "SKF_VerifyPIN")))
    (finding,) = findings(report, "skf_required_missing")
    assert finding.detail == "SKF_VerifyPIN"
    assert report.blocking == ("skf_required_missing",)
    assert section(report, "devices").reason == "the library cannot be used"


def test_decorated_names_and_missing_ones(tmp_path: Path) -> None:
    report = run(compiled(tmp_path, functions(f"_{name}" for name in abi.REQUIRED)), only=frozenset(["abi"]))
    assert findings(report, "skf_decorated")[0].detail.startswith(f"{len(abi.REQUIRED)}, such as _SKF_")
    assert "SKF_GetPINInfo" in findings(report, "skf_optional_missing")[0].detail
    assert "not_offered" in codes(report, "fault"), "SKF_EnumDev answers SAR_NOTSUPPORTYETERR"


FUNCTION_LIST = """
#include <stdio.h>
#include <string.h>
typedef unsigned long U;
static U ok(void *p) { printf("a trace\\n"); fflush(stdout); return 0; }
static struct { unsigned char version[2]; void *functions[68]; } list = {{2, 40}, {ok, ok, ok}};
U C_GetFunctionList(void **out) { *out = &list; return 0; }
unsigned SKF_EnumDev(void) { return 0; }
"""


def test_a_function_list_with_null_entries(tmp_path: Path) -> None:
    report = run(compiled(tmp_path, FUNCTION_LIST))
    assert "two_interfaces" in codes(report, "note")
    (finding,) = findings(report, "p11_null_required")
    assert "C_SignInit" in finding.detail
    assert report.library.driver == "pkcs11"
    assert section(report, "abi").facts["null_entries"][0] == "C_GetFunctionList"


def test_what_a_library_prints_is_counted_and_not_shown(tmp_path: Path) -> None:
    loud = 'static void __attribute__((constructor)) said(void) { puts("a secret"); fflush(stdout); }\n'
    report = run(compiled(tmp_path, "#include <stdio.h>\n" + loud + functions(abi.REQUIRED)), only=frozenset(["abi"]))
    assert "9 octets" in findings(report, "prints")[0].detail
    assert "a secret" not in json.dumps(report.to_json())


def test_a_library_that_writes_into_the_channel_or_floods(tmp_path: Path) -> None:
    source = """
#include <unistd.h>
static void __attribute__((constructor)) said(void) {
    for (int fd = 3; fd < 64; fd++) { char rubbish[64] = {0x7f, 0x7f, 0x7f, 0x7f}; write(fd, rubbish, 64); }
}
"""
    report = run(compiled(tmp_path, source + functions(abi.REQUIRED)))
    assert report.blocking == ("channel_damaged",)


def test_a_hang_while_loading(tmp_path: Path) -> None:
    source = "#include <unistd.h>\nstatic void __attribute__((constructor)) wait(void) { for (;;) pause(); }\n"
    report = run(compiled(tmp_path, source.replace("wait(", "stay(") + functions(abi.REQUIRED)), call=1)
    (finding,) = findings(report, "hung")
    assert finding.detail == "did not return from dlopen within 1 s"
    assert [part.name for part in report.sections] == ["load"]
