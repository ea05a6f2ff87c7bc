"""The parts of the probe that need no library: its table of findings, the file's facts, what is kept out."""

from __future__ import annotations

import ast
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from probe_parts import DATE, run
from sealagent.cli.probe_text import SECTIONS as TITLES
from sealdrivers.contract import Mechanism
from sealdrivers.pkcs11 import abi
from sealdrivers.probe.checking import is_minimal, verifies
from sealdrivers.probe.child import SECTIONS
from sealdrivers.probe.kinds import KINDS
from sealdrivers.probe.library import architecture, shown_path, vendor_entry
from sealdrivers.probe.model import Finding, LibraryFacts, Report, SectionReport, Severity
from sealdrivers.probe.pkcs11_names import FUNCTIONS, TOKEN_FLAGS, flag_names, mechanism_name
from sealdrivers.probe.skf_names import OTHERS, standard_functions
from sealdrivers.skf import abi as skf_abi
from sealdrivers.vendors import vendor_table

PROBE = Path(__file__).resolve().parents[2] / "drivers" / "sealdrivers" / "probe"


def _constants() -> set[str]:
    """Return every text that stands in the probe's source, the table aside."""
    found = set()
    for file in PROBE.glob("*.py"):
        if file.name != "kinds.py":
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.add(node.value)
    return found


def test_every_finding_is_in_the_table_and_every_entry_is_used() -> None:
    assert set(KINDS) - _constants() == set(), "in the table, and never reported"
    for file in PROBE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "finding":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    assert first.value in KINDS, (file.name, first.value)


def test_every_finding_speaks_both_languages() -> None:
    for code, kind in KINDS.items():
        assert kind.title, code
        assert any("一" <= letter <= "鿿" for letter in kind.title_zh), code
        assert bool(kind.handling) == bool(kind.handling_zh), code
        if kind.severity in (Severity.QUIRK, Severity.FAULT) and code not in ("call_failed", "p11_initialize_failed"):
            assert kind.handling, code


def test_every_section_has_a_title() -> None:
    assert {name for sections in SECTIONS.values() for name in sections} == set(TITLES)


def test_function_names_are_in_the_order_of_the_list() -> None:
    assert len(FUNCTIONS) == len(set(FUNCTIONS)) == len(abi.CK_FUNCTION_LIST._fields_) - 1
    for name, (field, *_) in zip(FUNCTIONS, abi.CK_FUNCTION_LIST._fields_[1:], strict=True):
        assert field in (name, f"function_{FUNCTIONS.index(name)}")


def test_skf_functions_are_listed_once() -> None:
    assert not set(OTHERS) & set(skf_abi.PROTOTYPES)
    assert len(set(standard_functions())) == len(list(standard_functions()))


def test_names() -> None:
    assert flag_names(0x20004 | 0x40000000, TOKEN_FLAGS) == ["LOGIN_REQUIRED", "USER_PIN_FINAL_TRY", "0x40000000"]
    assert mechanism_name(0x1041, {}) == "CKM_ECDSA"
    assert mechanism_name(0x80000B21, {0x80000B21: "SM2 over e"}) == "SM2 over e"
    assert mechanism_name(0x80000B21, {}) == ""


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", 62), "ELF 64-bit x86-64"),
        (b"\x7fELF\x01\x01" + bytes(12) + struct.pack("<H", 3), "ELF 32-bit x86"),
        (b"\x7fELF\x02\x02" + bytes(12) + struct.pack(">H", 258), "ELF 64-bit LoongArch"),
        (b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x14C), "PE 32-bit x86"),
        (b"\xcf\xfa\xed\xfe" + struct.pack("<I", 0x0100000C), "Mach-O 64-bit AArch64"),
        (b"\x7fELF", ""),
        (b"MZ", ""),
        (b"", ""),
    ],
)
def test_architectures(tmp_path: Path, head: bytes, said: str) -> None:
    (tmp_path / "library").write_bytes(head)
    assert architecture(tmp_path / "library") == said


def test_a_home_directory_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere/zhang.san")
    assert shown_path(Path("/somewhere/zhang.san/lib/x.so")) == "~/lib/x.so"
    assert shown_path(Path("/somewhere/zhang.sandra/x.so")) == "/somewhere/zhang.sandra/x.so"
    monkeypatch.setenv("HOME", "/")
    assert shown_path(Path("/usr/lib/x.so")) == "/usr/lib/x.so"


def test_the_entry_of_the_vendor_table() -> None:
    entries = vendor_table().modules
    found = vendor_entry(Path("/anywhere/libgm3000.1.0.so"), entries)
    assert found is not None
    assert found.name == "Longmai mToken GM3000 (SKF)"
    assert vendor_entry(Path("/anywhere/libother.so"), entries) is None


def report(*sections: SectionReport) -> Report:
    library = LibraryFacts("x.so", 1, "00", "", "skf", "exports")
    return Report("tool", "0", "2026-01-02T03:04:05Z", "", library, True, False, sections)


def fault(code: str) -> Finding:
    return Finding(code, Severity.FAULT, "", "")


def test_what_makes_a_library_unusable() -> None:
    assert report().usable
    assert report(SectionReport("abi", findings=[fault("crashed")])).blocking == ("crashed",)
    assert report(SectionReport("events", findings=[fault("crashed")])).usable
    key = SectionReport("signatures", findings=[fault("signature_wrong")])
    assert report(key).blocking == ("signature_wrong",)
    key.facts["keys"] = [{"works": True}]
    assert report(key).usable
    key.findings.append(fault("crashed"))
    assert report(key).blocking == ("crashed",)
    quirk = Finding("crashed", Severity.QUIRK, "", "")
    assert report(SectionReport("abi", findings=[quirk])).usable


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("no library\n")
    found = run(tmp_path / "x.so")
    assert found.blocking == ("load_failed",)
    assert found.date == DATE.isoformat().replace("+00:00", "Z")
    assert str(tmp_path) not in str([part.to_json() for part in found.sections])


def test_verification() -> None:
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    digest = hashes.Hash(hashes.SHA256())
    digest.update(b"message")
    value = digest.finalize()
    algorithm = hashes.SHA256()
    made = {
        Mechanism.RSA_PKCS1_SHA256: (rsa_key, rsa_key.sign(b"message", padding.PKCS1v15(), algorithm)),
        Mechanism.RSA_PSS_SHA256: (
            rsa_key,
            rsa_key.sign(b"message", padding.PSS(padding.MGF1(algorithm), 32), algorithm),
        ),
        Mechanism.ECDSA_SHA256: (ec_key, ec_key.sign(b"message", ec.ECDSA(algorithm))),
    }
    for mechanism, (key, signature) in made.items():
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert verifies(spki, mechanism, value, signature)
        assert not verifies(spki, mechanism, bytes(32), signature)
        assert not verifies(b"", mechanism, value, signature)


def test_minimal_der() -> None:
    assert is_minimal(bytes.fromhex("3006020105020107"))
    assert not is_minimal(bytes.fromhex("300702020005020107"))
    assert is_minimal(bytes([1]) * 64), "raw is no DER"
