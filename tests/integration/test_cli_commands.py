"""Every noun and verb of the command line, for people and as JSON, on one real daemon."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import Daemon, TestAuthority, World
from cli_parts import Done, Shell, has_no_control
from sealagent.seals.build import assemble_seal
from sealagent.seals.parse import parse_seal
from softhsm2_fixtures import SoftHsm

NAME = "测试单位公章"
CHINESE = {"LANG": "zh_CN.UTF-8"}


@dataclass
class Office:
    """A daemon, its token, and a shell beside it."""

    world: World
    daemon: Daemon
    shell: Shell
    certificate: bytes
    seal: bytes

    def document(self, hello: Path, name: str) -> Path:
        """Return a fresh folder's document of this name."""
        folder = Path(tempfile.mkdtemp(dir=self.shell.home))
        (folder / name).write_bytes(hello.read_bytes())
        return folder / name


@pytest.fixture(scope="module")
def office(softhsm: SoftHsm, authority: TestAuthority) -> Iterator[Office]:
    token = softhsm.new_token("单位公章钥匙")
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        world = World(Path(directory), token, authority)
        certificate = world.add_signer()
        seal = authority.make_seal([certificate], name=NAME)
        token.add_data(seal, label="seal")
        daemon = world.start()
        yield Office(world, daemon, Shell.of(daemon), certificate, seal)
        world.close()
        assert token.user_pin not in daemon.said()
    token.destroy()


@pytest.fixture
def hello(vectors: Path) -> Path:
    return vectors / "helloworld.ofd"


def good(done: Done) -> Done:
    assert done.status == 0, done.err
    return done


def seal_it(office: Office, document: Path, *more: str | Path) -> Done:
    return office.shell("document", "seal", document, "--seal", NAME, "--at", "1,120,200", *more)


def test_status(office: Office) -> None:
    good(office.shell("token", "list"))  # by then the module has started
    shown = good(office.shell("status")).out
    assert "libsofthsm2.so: ready" in shown
    assert good(office.shell("status", "--json")).json["modules"][0]["state"] == "ready"


def test_token_list_and_lock(office: Office) -> None:
    head, row = good(office.shell("token", "list")).out.splitlines()
    assert head.split() == ["ID", "LABEL", "SERIAL", "MODEL", "PIN", "STATE"]
    assert office.world.token.serial in row
    assert "(software: test only)" in row
    # Columns line up although Chinese characters take two.
    assert row.encode("gb18030").index(office.world.token.serial.encode()) == head.index("SERIAL")
    (token,) = good(office.shell("token", "list", "--json")).json["tokens"]
    assert token["label"] == "单位公章钥匙"
    for name in (token["id"], token["serial"], token["label"]):
        good(office.shell("token", "lock", name))


def test_key_list(office: Office) -> None:
    (key,) = [key for key in good(office.shell("key", "list", "--json")).json if key["label"] == "测试单位"]
    assert key["certificate"]["sha256"] == hashlib.sha256(office.certificate).hexdigest()
    shown = good(office.shell("key", "list")).out
    assert key["id"] in shown
    assert "CN=测试单位" in shown


def test_a_key_from_generation_to_certificate(office: Office, tmp_path: Path) -> None:
    made = good(office.shell("key", "generate", "单位公章钥匙", "--type", "ec-p256", "--label", "新", "--id", "77"))
    key = made.out.strip()
    assert f"key request {key}" in made.err  # what comes next
    asked = office.shell("key", "request", key, "--cn", "某公司", "--o", "某公司", "--ou", "部", "--c", "CN")
    request = x509.load_pem_x509_csr(good(asked).out.encode())
    issued = x509.load_der_x509_certificate(office.world.authority.issue(request.public_key(), "某公司"))
    (tmp_path / "c.pem").write_bytes(issued.public_bytes(Encoding.PEM))
    assert "CN=某公司" in good(office.shell("key", "import-certificate", key, tmp_path / "c.pem")).err
    as_json = office.shell("key", "generate", office.world.token.serial, "--type", "rsa-2048", "--label", "r", "--json")
    assert good(as_json).json["type"] == "rsa-2048"


def test_seal_list_and_show(office: Office) -> None:
    (seal,) = good(office.shell("seal", "list", "--json")).json["seals"]
    assert seal["name"] == NAME
    shown = good(office.shell("seal", "list")).out
    assert seal["id"] in shown
    assert shown.rstrip().endswith("yes (software key: test only)")
    assert good(office.shell("seal", "list", **CHINESE)).out.rstrip().endswith("可用（软件密钥，仅供测试）")
    for name in (seal["id"], seal["id"][:8], seal["es_id"], NAME):
        assert good(office.shell("seal", "show", name, "--json")).json["usable"] is True
    assert "verdict: valid; usable now: yes" in good(office.shell("seal", "show", NAME)).out


def test_seal_files(office: Office, tmp_path: Path) -> None:
    good(office.shell("seal", "export", NAME, "-o", tmp_path / "my.esl"))
    assert (tmp_path / "my.esl").read_bytes() == office.seal
    good(office.shell("seal", "image", NAME, "-o", tmp_path / "my.png"))
    assert (tmp_path / "my.png").read_bytes().startswith(b"\x89PNG")
    assert good(office.shell("document", "verify", tmp_path / "my.esl")).out.startswith("my.esl: valid\n  seal 测试")


def test_a_seal_is_imported_and_removed(office: Office, tmp_path: Path) -> None:
    other = office.world.authority.make_seal([office.certificate], name="合同章", es_id="11010000000009")
    (tmp_path / "other.esl").write_bytes(other)
    assert "usable now: yes" in good(office.shell("seal", "import", tmp_path / "other.esl")).out
    assert good(office.shell("seal", "import", tmp_path / "other.esl", "--json")).json["source"] == "store"
    good(office.shell("seal", "remove", "合同章"))
    assert office.shell("seal", "show", "合同章").status == 4


def test_why_a_seal_cannot_be_used(office: Office, tmp_path: Path) -> None:
    old = office.world.authority.make_seal([office.certificate], name="旧章", es_id="110199", days=(-10, -1))
    stranger = office.world.authority.issue(office.world.authority.maker_key, "别的单位")
    absent = office.world.authority.make_seal([stranger], name="别的章", es_id="110198")
    for number, der in enumerate((old, absent)):
        (tmp_path / f"{number}.esl").write_bytes(der)
        good(office.shell("seal", "import", tmp_path / f"{number}.esl"))
    try:
        assert "The seal has expired [seal_expired]: valid until" in good(office.shell("seal", "show", "旧章")).out
        assert "印章已过期 [seal_expired]" in good(office.shell("seal", "show", "旧章", **CHINESE)).out
        listed = good(office.shell("seal", "list")).out
        assert "no: seal_expired" in listed
        assert "plug in its key" in listed
    finally:
        for name in ("旧章", "别的章"):
            good(office.shell("seal", "remove", name))


def test_document_seal_writes_beside_and_never_over(office: Office, hello: Path) -> None:
    document = office.document(hello, "合同.ofd")
    target = document.with_name("合同-sealed.ofd")
    assert good(seal_it(office, document)).out.startswith(f"{target}  (record ")
    before = target.read_bytes()
    again = seal_it(office, document)
    assert (again.status, again.out) == (2, "")
    assert "exists; use --force or --out" in again.err
    assert target.read_bytes() == before
    good(seal_it(office, document, "--force"))
    assert target.read_bytes() != before
    (receipt,) = good(seal_it(office, document, "--json", "-o", document.with_name("other.ofd"))).json
    assert receipt["file"].endswith("other.ofd")
    assert receipt["record"] > receipt["intent"]
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert sorted(file.name for file in document.parent.iterdir()) == ["other.ofd", "合同-sealed.ofd", "合同.ofd"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_several_documents_are_a_batch_and_one_that_is_bad_fails_alone(office: Office, hello: Path) -> None:
    document = office.document(hello, "a.ofd")
    (document.with_name("b.ofd")).write_bytes(hello.read_bytes())
    (document.with_name("no.ofd")).write_bytes(b"no package")
    a, b, no = document, document.with_name("b.ofd"), document.with_name("no.ofd")
    done = good(seal_it(office, a, b))
    assert [line[:6] for line in done.out.splitlines()] == ["[1/2] ", "[2/2] "]
    assert f"2 documents for the seal '{NAME}':\n  {a}\n  {b}\n" in done.err
    assert "\x1b" not in done.err + done.out  # a bar is for terminals
    batch = good(office.shell("batch", "list", "--json")).json[0]
    assert (batch["state"], batch["signed"], batch["total"]) == ("done", 2, 2)
    some = seal_it(office, a, no, b, "--force", "--json")
    assert some.status == 1
    first, second, bad = some.json
    assert [first["file"], second["file"]] == [str(each.with_name(f"{each.stem}-sealed.ofd")) for each in (a, b)]
    assert (bad["file"], bad["problem"]["code"]) == (str(no), "ofd_not_zip")
    assert f"[2/3] {no}: not sealed\n  ✗ The file is no OFD package [ofd_not_zip]" in some.err
    assert "2 sealed, 1 not; batch " in some.err
    stopped = seal_it(office, a, no, b, "--force", "--json", "--stop-on-error")
    assert stopped.status == 1
    assert [each["file"] for each in stopped.json] == [str(a.with_name("a-sealed.ofd")), str(no)]
    assert "To go on with the rest: sealagent document seal --resume " in stopped.err
    for wrong in (["-o", "x.ofd"], [str(a)], ["--resume", "x"]):
        assert seal_it(office, a, b, "--force", *wrong).status == 2


def test_nothing_is_signed_when_the_place_or_the_output_is_wrong(office: Office, hello: Path) -> None:
    document = office.document(hello, "a.ofd")
    size = good(office.shell("record", "list", "--json")).json["size"]
    for words in (
        ["--seal", NAME],
        ["--seal", NAME, "--at", "1,2"],
        ["--seal", NAME, "--riding", "top"],
        ["--invisible"],
        ["--seal", NAME, "--invisible", "-o", document.parent],
        ["--seal", NAME, "--invisible", "-o", document.parent / "missing" / "a.ofd"],
    ):
        done = office.shell("document", "seal", document, *words)
        assert (done.status, done.out) == (2, ""), words
    for words, code in ((["--at", "9,1,1"], "page_not_found"), (["--riding"], "riding_pages")):
        done = office.shell("document", "seal", document, "--seal", NAME, *words)
        assert done.status == 1
        assert code in done.err
        assert "--at PAGE,X,Y" in done.err
    assert good(office.shell("record", "list", "--json")).json["size"] == size
    assert [file.name for file in document.parent.iterdir()] == ["a.ofd"]


def test_document_verify(office: Office, hello: Path, tmp_path: Path) -> None:
    document = office.document(hello, "a.ofd")
    sealed = document.with_name("a-sealed.ofd")
    good(seal_it(office, document, "--close"))
    assert good(office.shell("document", "verify", sealed)).out.startswith(
        f"a-sealed.ofd: valid\n  signature s001: valid  {NAME}, "
    )
    assert good(office.shell("document", "verify", sealed, "--json", "--offline")).json["signatures"][0]["closed"]
    assert good(office.shell("document", "verify", sealed, **CHINESE)).out.startswith("a-sealed.ofd: 有效\n")
    assert office.shell("document", "verify", sealed, "--at", "yesterday").status == 2
    none = office.shell("document", "verify", hello)
    assert none.status == 3
    assert none.out == "helloworld.ofd: indeterminate\n  ✗ The file carries no signature [no_signature]\n"


@pytest.mark.vectors
def test_trust_is_brought_as_file_or_folder_pem_or_der(office: Office, vectors: Path, tmp_path: Path) -> None:
    """The certificates of the other software's test set, judged when they were good; the seal is from 2021."""
    seal = vectors / "UserV4.esl"
    at = ("--at", "2021-01-01T00:00:00Z")
    assert office.shell("document", "verify", seal, *at).status == 3
    maker = office.shell("document", "verify", seal, *at, "--json").json["signatures"][0]["maker"]["sha256"]
    der = seal.read_bytes()
    start = next(n for n in range(len(der)) if _certificate_at(der, n, maker))
    certificate = der[start : start + _length(der, start)]
    (tmp_path / "maker.cer").write_bytes(certificate)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "maker.cer").write_bytes(certificate)
    for trust in ("maker.cer", "folder"):
        done = good(office.shell("document", "verify", seal, *at, "--trust", tmp_path / trust))
        assert done.out.startswith("UserV4.esl: valid\n")
    (tmp_path / "big").write_bytes(bytes((1 << 20) + 1))
    assert office.shell("document", "verify", seal, "--trust", tmp_path / "big").status == 2


def _length(der: bytes, start: int) -> int:
    return 4 + int.from_bytes(der[start + 2 : start + 4], "big")


def _certificate_at(der: bytes, start: int, sha256: str) -> bool:
    if der[start : start + 2] != b"\x30\x82":
        return False
    return hashlib.sha256(der[start : start + _length(der, start)]).hexdigest() == sha256


@pytest.mark.vectors
def test_a_folder_of_documents_in_one_command(office: Office, vectors: Path) -> None:
    """One file that is no document does not keep the others from being judged."""
    files = sorted(file for file in vectors.iterdir() if file.suffix in (".ofd", ".esl", ".dat", ".md"))
    done = office.shell("document", "verify", *files)
    assert done.status == 3
    lines = done.out.splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")][:-1] == [file.name for file in files]
    assert "README.md: not checked" in lines
    assert "v4signed-tampered.ofd: invalid" in lines
    assert "    ✗ A protected file was changed [reference_digest]: /Doc_0/Document.xml" in lines
    judged = len(files) - 1
    assert lines[-1].endswith(", 1 not checked")
    assert sum(int(part.split()[0]) for part in lines[-1].split(", ")[:-1]) == judged
    as_json = office.shell("document", "verify", *files, "--json")
    assert as_json.status == 3
    assert [report["file"] for report in as_json.json] == [file.name for file in files]
    (odd,) = [report for report in as_json.json if report["verdict"] is None]
    assert odd["problem"]["code"] == "format_unknown"
    # A file that could not be judged is no success, even when the others are valid.
    assert office.shell("document", "verify", vectors / "README.md", vectors / "README.md").status == 1


def test_record(office: Office, hello: Path, tmp_path: Path) -> None:
    good(seal_it(office, office.document(hello, "a.ofd")))
    listed = good(office.shell("record", "list", "--limit", "1000")).out.splitlines()
    assert listed[0].split() == ["NUMBER", "TIME", "KIND", "WHAT", "HASH"]
    last = int(listed[-1].split()[0])
    (entry,) = good(office.shell("record", "list", "--after", str(last - 1), "--json")).json["records"]
    assert entry["kind"] == "signed"
    assert good(office.shell("record", "show", str(last - 1), "--json")).json["body"]["document"]["name"] == "a.ofd"
    missing = office.shell("record", "show", str(last + 1))
    assert (missing.status, "record_not_found" in missing.err) == (1, True)
    good(office.shell("record", "export", "-o", tmp_path / "record.jsonl"))
    (tmp_path / "kept.txt").write_text(good(office.shell("record", "checkpoint")).out)
    kept = ("--checkpoint", tmp_path / "kept.txt")
    assert good(office.shell("record", "verify", tmp_path / "record.jsonl", *kept, "--json")).json["ok"] is True


def test_help_and_version(office: Office) -> None:
    top = good(office.shell("-h")).out
    assert good(office.shell("--version")).out.startswith("sealagent, version ")
    for noun in ("daemon", "document", "key", "record", "seal", "token"):
        assert f"  {noun} " in top
        group = good(office.shell(noun, "--help")).out
        assert f"sealagent {noun} " in group  # an example to copy
    assert office.shell("nonsense").status == 2
    assert office.shell("token", "nonsense").status == 2


def _seal_named(name: str, office: Office) -> bytes:
    """Return a seal with a name that our own builder refuses; es_id 110166."""
    authority = office.world.authority
    stand_in = "x" * len(name.encode())
    made = parse_seal(authority.make_seal([office.certificate], name=stand_in, es_id="110166"))
    info = made.info.replace(stand_in.encode(), name.encode())
    assert isinstance(authority.maker_key, ec.EllipticCurvePrivateKey)
    value = authority.maker_key.sign(info, ec.ECDSA(hashes.SHA256()))
    return assemble_seal(info, made.maker_certificate, made.algorithm, value)


def test_names_from_files_cannot_steer_the_terminal(office: Office, hello: Path) -> None:
    """A seal's name, a file's name and a document's name with an escape sequence, C1 controls and a text override."""
    evil = "章\x1b[2J\x9b31m\u202e\x7f"
    seal = _seal_named(evil, office)
    document = office.document(hello, f"{evil}.ofd")
    (document.parent / "evil.esl").write_bytes(seal)
    good(office.shell("seal", "import", document.parent / "evil.esl"))
    commands: list[list[str | Path]] = [
        ["seal", "list"],
        ["seal", "list", "--json"],
        ["seal", "show", "110166"],
        ["document", "seal", document, "--seal", "110166", "--invisible"],
        ["document", "seal", document, "--seal", "110166", "--invisible"],
        ["document", "seal", document, "--seal", "110166", "--invisible", "--force", "--json"],
        ["document", "seal", document.parent / f"{evil}-none.ofd", "--seal", "110166", "--invisible"],
        ["document", "verify", document.with_name(f"{evil}-sealed.ofd")],
        ["document", "verify", document.with_name(f"{evil}-sealed.ofd"), "--json"],
        ["document", "verify", document, document.parent / "evil.esl"],
        ["record", "list", "--limit", "1000"],
        ["record", "list", "--limit", "1000", "--json"],
        ["doctor"],
        ["seal", "export", "110166", "-o", document.parent / evil / evil],
        ["seal", "show", evil + "x"],
    ]
    try:
        for words in commands:
            done = office.shell(*words)
            assert has_no_control(done.out), words
            assert has_no_control(done.err), words
            assert "章" in done.out + done.err, words
    finally:
        good(office.shell("seal", "remove", "110166"))
    assert json.loads(office.shell("status", "--json").out)  # nothing of it harmed the agent


def test_no_pin_is_shown(office: Office, hello: Path) -> None:
    document = office.document(hello, "a.ofd")
    good(office.shell("token", "lock", office.world.token.serial))
    for words in (
        ["document", "seal", str(document), "--seal", NAME, "--invisible", "--json"],
        ["token", "list", "--json"],
        ["record", "list", "--json", "--limit", "1000"],
        ["status", "--json"],
        ["doctor"],
    ):
        done = good(office.shell(*words))
        assert office.world.token.user_pin not in done.out + done.err
