"""Hostile documents, lying devices and strangers at the daemon's door: named errors, bounded, nothing written."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_world import Daemon, World
from ofd_samples import RawEntry, document_files, pack, raw_zip
from sealagent.client import Agent, AgentError, at, invisible

SEAL = "测试单位公章"

LOL = b'<!DOCTYPE lol [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><ofd:OFD>&b;</ofd:OFD>'
EXTERNAL = b'<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><ofd:OFD>&f;</ofd:OFD>'


def _with(changes: dict[str, bytes]) -> bytes:
    return pack({**document_files(), **changes})


HOSTILE: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "empty": (lambda: b"", {"format_unknown", "ofd_not_zip"}),
    "text": (lambda: b"%PDF-1.7 not yet", {"format_unknown", "ofd_not_zip"}),
    "cut off": (lambda: _with({})[:-40], {"ofd_truncated", "ofd_not_zip"}),
    "no OFD": (lambda: pack({"word/document.xml": b"<a/>"}), {"ofd_main_missing", "format_unknown"}),
    "bomb": (lambda: raw_zip([RawEntry(b"OFD.xml", bytes(64 << 20), 8)]), {"ofd_ratio", "ofd_too_large"}),
    "hidden bomb": (
        lambda: raw_zip([RawEntry(b"OFD.xml", bytes(64 << 20), 8, size=1000)]),
        {"ofd_entry_damaged", "ofd_ratio"},
    ),
    "traversal": (lambda: _with({"../../etc/cron.d/x": b"x"}), {"ofd_entry_name"}),
    "absolute": (lambda: _with({"/etc/cron.d/x": b"x"}), {"ofd_entry_name"}),
    "entities": (lambda: _with({"OFD.xml": LOL}), {"xml_doctype"}),
    "external entity": (lambda: _with({"OFD.xml": EXTERNAL}), {"xml_doctype"}),
    "deep": (lambda: _with({"OFD.xml": b"<a>" * 100_000}), {"xml_too_deep", "xml_malformed", "xml_too_large"}),
    "not XML": (lambda: _with({"Doc_0/Document.xml": os.urandom(2000)}), {"xml_malformed", "xml_encoding"}),
}


def _peak_mib(daemon: Daemon) -> float:
    for line in Path(f"/proc/{daemon.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def _judgement(agent: Agent, octets: bytes) -> str:
    """Return the verdict on a document, or the code of the error that verifying it ends in."""
    try:
        return str(agent.verify_document(octets)["verdict"])
    except AgentError as error:
        return error.code


def test_hostile_documents_end_in_named_errors_and_leave_nothing(world: World) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    with daemon.agent(timeout=20) as agent:
        agent.verify_document(_with({}))
        before = _peak_mib(daemon)
        for name, (make, codes) in HOSTILE.items():
            octets = make()
            with pytest.raises(AgentError) as sealing:
                agent.seal_document(octets, seal=SEAL, placements=[invisible()])
            assert sealing.value.code in codes, (name, sealing.value)
            assert _judgement(agent, octets) in {*codes, "invalid", "indeterminate"}, name
        assert agent.records()["size"] == 0
        assert _peak_mib(daemon) - before < 64
    assert list((daemon.state / "spool").iterdir()) == []


def test_a_document_beyond_the_limit_is_cut_short(world: World) -> None:
    world.settings["limits"] = {"document_bytes": 1 << 20}
    daemon = world.start()
    with daemon.agent() as agent:
        before = _peak_mib(daemon)
        with pytest.raises(AgentError) as refused:
            agent.verify_document(bytes(64 << 20))
        # The daemon answers and closes while the client still sends; either may be seen first.
        assert refused.value.code in ("body_too_large", "agent_unreachable")
    with daemon.agent() as agent:
        assert agent.status()["version"]
    assert _peak_mib(daemon) - before < 32
    assert list((daemon.state / "spool").iterdir()) == []


def test_a_device_that_signs_with_another_key_is_caught(world: World, vectors: Path) -> None:
    world.token.add_key("ec-p256", label="real", public=False)
    stranger = world.authority.issue(world.authority.maker_key, "冒名")
    world.token.add_certificate(stranger, label="real")
    world.token.add_data(world.authority.make_seal([stranger]), label="seal")
    daemon = world.start()
    with daemon.agent() as agent:
        with pytest.raises(AgentError) as caught:
            agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 1, 1)])
        assert caught.value.code == "device_signature_wrong"
        intent, failed = agent.records()["records"]
        assert intent["kind"] == "intent"
        assert failed["body"]["reason"] == "device_signature_wrong"


def test_a_seal_signature_over_a_digest_verifies_and_is_marked(world: World) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    with world.start().agent() as agent:
        made = agent.sign_digest_with_seal(bytes(32), seal=SEAL, property_info="/Doc_0/Signs/Sign_0/Signature.xml")
        report = agent.verify_document(made.signature)
        assert report["format"] == "ses"
        assert [reason["code"] for reason in report["signatures"][0]["reasons"]] == ["document_not_checked"]
        intent = agent.record(made.receipt["intent"])
        assert intent["body"]["raw_digest"] is True
        assert made.receipt["signature_sha256"] == hashlib.sha256(made.signature).hexdigest()
        for digest, code in ((bytes(20), "digest_invalid"), (b"", "digest_invalid")):
            with pytest.raises(AgentError, match=code):
                agent.sign_digest_with_seal(digest, seal=SEAL, property_info="x")
        with pytest.raises(AgentError):
            agent.sign_digest_with_seal(bytes(32), seal=SEAL, property_info="不是ASCII")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_even_where_file_modes_would_let_it_in(world: World) -> None:
    daemon = world.start()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.socket.parent.stat().st_mode) == 0o700
    for path, mode in ((world.directory, 0o755), (daemon.socket.parent, 0o755), (daemon.socket, 0o666)):
        path.chmod(mode)
    program = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.connect(sys.argv[1]); s.sendall(b'GET /v1/status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(4096))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(daemon.socket)], capture_output=True, text=True, check=True, timeout=30
    )
    assert "403" in answer.stdout
    assert "caller_not_allowed" in answer.stdout


def test_a_large_document_is_streamed_through_the_state_directory(world: World, tmp_path: Path) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    noise = os.urandom(24 << 20)
    document = pack({**document_files(), "Doc_0/Res/noise.bin": noise})
    with Agent(daemon.socket) as agent:
        sealed = agent.seal_document(io.BytesIO(document), seal=SEAL, placements=[at(1, 1, 1)], idempotency_key="big")
        assert agent.verify_document(sealed.document)["verdict"] == "valid"
        # Too large to be remembered, but its signature is: the document is put together again, and nothing is signed.
        again = agent.seal_document(io.BytesIO(document), seal=SEAL, placements=[at(1, 1, 1)], idempotency_key="big")
        assert again.document == sealed.document
        assert agent.records()["size"] == 2
    assert list((daemon.state / "spool").iterdir()) == []
