"""A Chinese seal the Chinese way: an SM2 key behind SKF seals, and the OpenSSL command line accepts it."""

from __future__ import annotations

import io
import os
import signal
import ssl
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_world import TestAuthority, World, in_background, until
from demo.testca import KEY_TYPES, Authority, create_authority
from openssl_parts import openssl, parsed, sm3
from sealagent.client import Agent, AgentError, at
from softgm import SoftSkfToken

DISTID = "distid:1234567812345678"
SEAL = "测试单位公章"


@pytest.fixture
def skf_world(world: World, softskf_token: SoftSkfToken, authority: TestAuthority) -> World:
    """The usual world with a soft SKF device in place of SoftHSM, and an SM2 authority beside the usual one."""
    assert softskf_token.library is not None
    now = datetime.now(UTC).replace(microsecond=0)
    create_authority(world.directory / "sm2", "SM2 Root", now - timedelta(hours=1), now + timedelta(days=99), "sm2")
    world.modules = [softskf_token.library]
    world.driver = "skf"
    world.settings["trust"] = {"paths": [str(world.root_file), str(world.directory / "sm2" / "root.pem")]}
    world.pin_file.touch(0o600)
    world.pin_file.write_text(softskf_token.user_pin + "\n")
    return world


def _certified(agent: Agent, world: World) -> tuple[str, bytes]:
    """Generate an SM2 key on the device and have it certified; return its id and certificate."""
    now = datetime.now(UTC).replace(microsecond=0)
    (token,) = agent.tokens()["tokens"]
    key = agent.generate_key(token["id"], "sm2", "seal key")["id"]
    request = agent.certificate_request(key, {"CN": "测试单位", "C": "CN"})
    issuer = Authority(world.directory / "sm2", KEY_TYPES["sm2"])
    certificate = issuer.issue(request.encode(), now - timedelta(minutes=1), now + timedelta(days=30))
    agent.import_certificate(key, ssl.DER_cert_to_PEM_cert(certificate))
    return key, certificate


def test_an_sm2_key_behind_skf_seals_and_openssl_accepts_it(skf_world: World, vectors: Path, tmp_path: Path) -> None:
    with skf_world.start().agent() as agent:
        _, certificate = _certified(agent, skf_world)
        (token,) = agent.tokens()["tokens"]
        assert token["driver"] == "skf"
        assert token["software"]
        imported = agent.import_seal(skf_world.authority.make_seal([certificate]), token["id"])
        assert imported["source"] == "token"
        assert imported["usable"]
        sealed = agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 100, 100)])
        report = agent.verify_document(sealed.document)
        assert report["verdict"] == "valid"
        assert sealed.receipt["mechanism"] == "sm2-sm3"
    with zipfile.ZipFile(io.BytesIO(sealed.document)) as package:
        value = parsed(package.read("Doc_0/Signs/Sign_0/SignedValue.dat"))
        xml = package.read("Doc_0/Signs/Sign_0/Signature.xml")
    tbs, signer, algorithm, signature = value.children
    assert signer.content == certificate
    assert "SM2-with-SM3" in algorithm.text or "1.2.156.10197.1.501" in algorithm.text
    assert tbs.children[3].bits == sm3(xml)
    (tmp_path / "public.pem").write_bytes(openssl("x509", "-inform", "DER", "-pubkey", "-noout", data=certificate))
    (tmp_path / "signature").write_bytes(signature.bits)
    (tmp_path / "tbs").write_bytes(tbs.whole)
    said = openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "public.pem", "-rawin", "-digest", "sm3"),
        *("-in", tmp_path / "tbs", "-sigfile", tmp_path / "signature", "-pkeyopt", DISTID),
    )
    assert b"Signature Verified Successfully" in said
    (tmp_path / "leaf.pem").write_bytes(openssl("x509", "-inform", "DER", data=certificate))
    root = skf_world.directory / "sm2" / "root.pem"
    assert b": OK" in openssl("verify", "-vfyopt", DISTID, "-CAfile", root, tmp_path / "leaf.pem")


@pytest.mark.parametrize(
    "fault", [("signature", "zero"), ("signature", "flip"), ("signature", "ecdsa"), ("unplug", None)]
)
def test_a_device_that_lies_or_leaves_releases_nothing(
    skf_world: World, softskf_token: SoftSkfToken, vectors: Path, fault: tuple[str, str | None]
) -> None:
    with skf_world.start().agent() as agent:
        _, certificate = _certified(agent, skf_world)
        agent.import_seal(skf_world.authority.make_seal([certificate]))
        softskf_token.set_fault(fault[0], "SKF_ECCSignData", fault[1])
        with pytest.raises(AgentError) as caught:
            agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 100, 100)])
        assert caught.value.code in ("device_signature_wrong", "device_failure", "token_removed")
        intent, failed = agent.records(limit=1000)["records"][-2:]
        assert (intent["kind"], failed["kind"]) == ("intent", "failed")
        assert failed["body"]["reason"] == caught.value.code
        softskf_token.clear_faults()
        if fault[0] == "unplug":
            softskf_token.insert()
        agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 100, 100)])


def test_a_worker_killed_within_a_signature(skf_world: World, softskf_token: SoftSkfToken) -> None:
    skf_world.settings["signing"] = {"allow_raw_digests": True}
    daemon = skf_world.start()
    with daemon.agent() as agent:
        key, _ = _certified(agent, skf_world)
        agent.sign_digests([bytes(32)], key=key)  # so that the token is unlocked and the worker known
        (worker,) = daemon.workers()
        softskf_token.set_fault("delay", "SKF_ECCSignData", 60, times=1)

        def sign() -> None:
            with daemon.agent() as other:
                other.sign_digests([bytes(32)], key=key)

        thread, results = in_background(sign)
        faults = softskf_token.directory / "faults"
        until(lambda: not faults.read_text().strip())  # it counts down before it acts: the worker is inside
        os.kill(worker, signal.SIGKILL)
        thread.join(30)
        assert results == ["worker_died"]
        intent, failed = agent.records(limit=1000)["records"][-2:]
        assert (intent["kind"], failed["kind"], failed["body"]["reason"]) == ("intent", "failed", "worker_died")
        assert len(agent.sign_digests([bytes(32)], key=key)) == 1


def test_a_wrong_pin_says_how_many_tries_are_left(skf_world: World, softskf_token: SoftSkfToken) -> None:
    skf_world.pin_file.write_text("not-the-pin\n")
    with skf_world.start().agent() as agent:
        (token,) = agent.tokens()["tokens"]
        before = token["pin"]["tries_left"]
        with pytest.raises(AgentError) as caught:
            agent.generate_key(token["id"], "sm2", "key")
        assert caught.value.code == "pin_incorrect"
        assert caught.value.problem["tries_left"] == before - 1
        assert softskf_token.tries_left() == before - 1
        assert agent.records()["records"][-1]["body"]["tries_left"] == before - 1
