"""The main job over the real socket: seal, verify, record, refuse."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import zipfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import World
from sealagent.client import AgentError, at, invisible
from sealagent.records.check import check_export


def _change(package: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """Return the package with one entry's content changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == name:
                assert old in content
                content = content.replace(old, new)
            target.writestr(entry.filename, content)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["rsa-2048", "ec-p256", "ec-p384"])
@pytest.mark.parametrize("version", [4, 5])
def test_a_sealed_document_verifies_and_is_on_record(world: World, vectors: Path, kind: str, version: int) -> None:
    certificate = world.add_signer(kind)
    world.token.add_data(world.authority.make_seal([certificate], version=version), label="seal")
    with world.start().agent() as agent:
        (seal,) = agent.seals()["seals"]
        assert seal["usable"]
        assert seal["source"] == "token"
        sealed = agent.seal_document(vectors / "helloworld.ofd", seal=seal["id"], placements=[at(1, 120, 200)])
        report = agent.verify_document(sealed.document, name="a.ofd")
        assert report["verdict"] == "valid"
        (signature,) = report["signatures"]
        assert signature["intact"] is True
        assert signature["seal"]["version"] == version
        assert signature["signer"]["sha256"] == hashlib.sha256(certificate).hexdigest()

        intent, signed = agent.records()["records"]
        assert intent["kind"] == "intent"
        assert intent["body"]["document"]["name"] == "helloworld.ofd"
        assert intent["body"]["caller"]["pid"] > 0
        assert intent["body"]["seal"]["id"] == seal["id"]
        assert signed["kind"] == "signed"
        assert signed["body"]["intent"] == intent["number"]
        assert sealed.receipt["record"] == signed["number"]
        assert sealed.receipt["entry_hash"] == signed["hash"]
        with zipfile.ZipFile(io.BytesIO(sealed.document)) as package:
            value = package.read("Doc_0/Signs/Sign_0/SignedValue.dat")
        assert sealed.receipt["signature_sha256"] == hashlib.sha256(value).hexdigest()
        assert check_export(b"".join(agent.export_record()).splitlines()).ok


def test_a_changed_file_is_named(world: World, vectors: Path) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    with world.start().agent() as agent:
        sealed = agent.seal_document(
            vectors / "helloworld.ofd", seal="测试单位公章", placements=[at(1, 10, 10)], close=True
        )
        tampered = _change(sealed.document, "Doc_0/Pages/Page_0/Content.xml", b"OFD", b"0FD")
        report = agent.verify_document(tampered)
        assert report["verdict"] == "invalid"
        (signature,) = report["signatures"]
        assert signature["reasons"] == [{"code": "reference_digest", "detail": "/Doc_0/Pages/Page_0/Content.xml"}]
        with pytest.raises(AgentError) as refused:
            agent.seal_document(sealed.document, seal="测试单位公章", placements=[invisible()])
        assert refused.value.code == "ofd_closed"
        assert agent.records()["records"][-1]["body"]["reason"] == "ofd_closed"


def test_a_second_seal_leaves_the_first_intact(world: World, vectors: Path) -> None:
    certificate = world.add_signer()
    world.token.add_data(world.authority.make_seal([certificate]), label="seal")
    second = world.authority.make_seal([certificate], name="合同章", es_id="11010000000002")
    with world.start().agent() as agent:
        imported = agent.import_seal(second)
        assert imported["source"] == "store"
        assert imported["usable"]
        once = agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[at(1, 100, 20)])
        twice = agent.seal_document(once.document, seal=imported["id"], placements=[at(1, 50, 50)])
        report = agent.verify_document(twice.document)
        assert [signature["verdict"] for signature in report["signatures"]] == ["valid", "valid"]
        assert [signature["seal"]["name"] for signature in report["signatures"]] == ["测试单位公章", "合同章"]
        agent.remove_seal(imported["id"])
        with pytest.raises(AgentError, match="seal_not_found"):
            agent.seal(imported["id"])


def test_raw_digests_are_refused_unless_allowed(world: World) -> None:
    world.policy = '[defaults]\ndigest = "deny"\nraw = "deny"\n'
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    with daemon.agent() as agent:
        key = agent.keys()[0]["id"]
        for attempt in (
            lambda: agent.sign_digests([bytes(32)], key=key),
            lambda: agent.sign_digest_with_seal(bytes(32), seal="测试单位公章", property_info="/Signature.xml"),
        ):
            with pytest.raises(AgentError) as refused:
                attempt()
            assert refused.value.code == "use_denied"
        entries = agent.records()["records"]
        assert [entry["kind"] for entry in entries] == ["refused", "refused"]
        assert all(entry["body"]["raw_digest"] for entry in entries)


def test_bare_signatures_and_seal_signatures_over_digests(world: World) -> None:
    certificates = {
        kind: x509.load_der_x509_certificate(world.add_signer(kind, object_id=bytes([number])))
        for number, kind in enumerate(("rsa-2048", "ec-p256", "ec-p384"), 1)
    }
    digests = [hashlib.sha256(bytes([number])).digest() for number in range(3)]
    with world.start().agent() as agent:
        keys = {key["type"]: key for key in agent.keys()}
        rsa_key = certificates["rsa-2048"].public_key()
        assert isinstance(rsa_key, rsa.RSAPublicKey)
        for signed, digest in zip(agent.sign_digests(digests, key=keys["rsa-2048"]["id"]), digests, strict=True):
            rsa_key.verify(signed.signature, digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA256()))
        (signed,) = agent.sign_digests(digests[:1], key=keys["rsa-2048"]["id"], mechanism="rsa-pss-sha256")
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        rsa_key.verify(signed.signature, digests[0], pss, utils.Prehashed(hashes.SHA256()))
        ec_key = certificates["ec-p256"].public_key()
        assert isinstance(ec_key, ec.EllipticCurvePublicKey)
        (signed,) = agent.sign_digests(digests[:1], key=keys["ec-p256"]["id"])
        ec_key.verify(signed.signature, digests[0], ec.ECDSA(utils.Prehashed(hashes.SHA256())))
        with pytest.raises(AgentError, match="mechanism_not_supported"):
            agent.sign_digests(digests, key=keys["ec-p256"]["id"], mechanism="rsa-pss-sha256")
        with pytest.raises(AgentError, match="digest_invalid"):
            agent.sign_digests([b"short"], key=keys["ec-p256"]["id"])
        assert len(agent.records()["records"]) == 2 * 5


def test_an_idempotency_key_signs_once(world: World, vectors: Path) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    with world.start().agent() as agent:
        document = (vectors / "helloworld.ofd").read_bytes()

        def ask(x: float) -> bytes:
            return agent.seal_document(
                document, seal="测试单位公章", placements=[at(1, x, 5)], idempotency_key="once"
            ).document

        assert ask(5) == ask(5)
        assert agent.records()["size"] == 2
        with pytest.raises(AgentError) as conflict:
            ask(6)
        assert conflict.value.code == "idempotency_conflict"


@pytest.mark.parametrize(
    ("seal", "signer", "reason"),
    [
        ({"days": (-10, -1)}, {}, "seal_expired"),
        ({"days": (1, 30)}, {}, "seal_not_yet_valid"),
        ({}, {"days": (-30, -1)}, "signed_outside_cert_validity"),
    ],
)
def test_a_seal_that_is_not_valid_now_is_refused_and_the_refusal_recorded(
    world: World, vectors: Path, seal: dict[str, object], signer: dict[str, object], reason: str
) -> None:
    certificate = world.add_signer(**signer)  # type: ignore[arg-type]
    world.token.add_data(world.authority.make_seal([certificate], **seal), label="seal")  # type: ignore[arg-type]
    with world.start().agent() as agent:
        shown = agent.seal("测试单位公章")
        assert not shown["usable"]
        with pytest.raises(AgentError) as refused:
            agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[invisible()])
        assert refused.value.code == "seal_not_valid"
        assert reason in [item["code"] for item in refused.value.problem["reasons"]]
        (entry,) = agent.records()["records"]
        assert entry["kind"] == "refused"
        assert reason in [item["code"] for item in entry["body"]["reasons"]]


def test_a_seal_nobody_vouches_for_is_refused(world: World, vectors: Path) -> None:
    world.settings["trust"] = {"paths": []}
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    with world.start().agent() as agent, pytest.raises(AgentError, match="seal_not_valid"):
        agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[invisible()])


def test_a_seal_whose_key_is_elsewhere_is_refused(world: World, vectors: Path) -> None:
    world.add_signer()
    stranger = world.authority.issue(world.authority.maker_key, "别的单位")
    with world.start().agent() as agent:
        agent.import_seal(world.authority.make_seal([stranger]))
        with pytest.raises(AgentError, match="seal_key_absent"):
            agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[invisible()])


def test_a_key_is_made_certified_and_used_through_the_socket(world: World, vectors: Path, tmp_path: Path) -> None:
    with world.start().agent() as agent:
        token = world.token.serial
        made = agent.generate_key(token, "ec-p256", "新密钥")
        assert made["certificate"] is None
        request = agent.certificate_request(made["id"], {"CN": "新单位", "O": "新单位", "C": "CN"})
        (tmp_path / "request.pem").write_text(request)
        checked = subprocess.run(
            ["openssl", "req", "-in", str(tmp_path / "request.pem"), "-verify", "-noout"],
            capture_output=True,
            text=True,
            check=False,
        )
        # Its exit status is 0 even when the signature is wrong (OpenSSL 3.0).
        assert "verify OK" in checked.stdout + checked.stderr
        parsed = x509.load_pem_x509_csr(request.encode())
        certificate = world.authority.issue(parsed.public_key(), "新单位")
        pem = x509.load_der_x509_certificate(certificate).public_bytes(Encoding.PEM).decode()
        wrong = x509.load_der_x509_certificate(world.authority.issue(world.authority.maker_key))
        with pytest.raises(AgentError, match="certificate_mismatch"):
            agent.import_certificate(made["id"], wrong.public_bytes(Encoding.PEM).decode())
        stored = agent.import_certificate(made["id"], pem)
        assert stored["certificate"]["sha256"] == hashlib.sha256(certificate).hexdigest()
        agent.import_seal(world.authority.make_seal([certificate], name="新公章"), token=token)
        (seal,) = agent.seals()["seals"]
        assert seal["source"] == "token"
        sealed = agent.seal_document(vectors / "helloworld.ofd", seal="新公章", placements=[at(1, 1, 1)])
        assert agent.verify_document(sealed.document)["verdict"] == "valid"
        kinds = [(entry["kind"], entry["body"].get("operation")) for entry in agent.records()["records"]]
        assert ("admin", "generate_key") in kinds
        assert ("intent", "certificate_request") in kinds
        assert ("admin", "import_certificate") in kinds
        assert ("admin", "import_seal") in kinds


def test_what_the_daemon_logs_holds_no_pin(world: World, vectors: Path) -> None:
    world.token.add_data(world.authority.make_seal([world.add_signer()]), label="seal")
    daemon = world.start()
    with daemon.agent() as agent:
        agent.seal_document(vectors / "helloworld.ofd", seal="测试单位公章", placements=[invisible()])
        exported = b"".join(agent.export_record()).decode()
        status = json.dumps(agent.status())
    assert daemon.stop() == 0
    for text in (exported, status, daemon.said()):
        assert world.token.user_pin not in text
