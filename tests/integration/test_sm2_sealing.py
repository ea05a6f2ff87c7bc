"""A Chinese seal the Chinese way: an SM2 key seals, behind SKF or PKCS#11, and the OpenSSL command line accepts it."""

from __future__ import annotations

import io
import os
import signal
import ssl
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_world import World, in_background, until
from demo.testca import KEY_TYPES, Authority, create_authority
from openssl_parts import openssl, parsed, sm3
from sealagent.client import Agent, AgentError, at
from softgm import SoftSkfToken, SoftSm2, SoftSm2Token
from softhsm2_fixtures import SM2_CURVE

DISTID = "distid:1234567812345678"
SEAL = "测试单位公章"


KINDS = {
    # fixture, function that signs, further keys of [[modules]]
    "skf": ("softskf_token", "SKF_ECCSignData", {}),
    "pkcs11": ("softsm2_token", "C_Sign", {"sm2_profile": "xipki placeholders"}),
}
Token = SoftSkfToken | SoftSm2Token


@pytest.fixture(params=KINDS)
def token(request: pytest.FixtureRequest) -> Token:
    """A soft GM token of each interface."""
    found: Token = request.getfixturevalue(KINDS[request.param][0])
    return found


@pytest.fixture
def function(token: Token) -> str:
    """The function of its library that signs."""
    return "SKF_ECCSignData" if isinstance(token, SoftSkfToken) else "C_Sign"


@pytest.fixture
def sm2_world(world: World, token: Token) -> World:
    """The usual world with a soft GM token in place of SoftHSM, and an SM2 authority beside the usual one."""
    assert token.library is not None
    now = datetime.now(UTC).replace(microsecond=0)
    create_authority(world.directory / "sm2", "SM2 Root", now - timedelta(hours=1), now + timedelta(days=99), "sm2")
    world.driver = "skf" if isinstance(token, SoftSkfToken) else "pkcs11"
    world.modules, world.module_settings = [token.library], dict(KINDS[world.driver][2])
    world.settings["trust"] = {"paths": [str(world.root_file), str(world.directory / "sm2" / "ca.pem")]}
    world.pin_file.touch(0o600)
    world.pin_file.write_text(token.user_pin + "\n")
    return world


def _certified(agent: Agent, world: World) -> tuple[str, bytes]:
    """Generate an SM2 key on the device and have it certified; return its id and certificate."""
    now = datetime.now(UTC).replace(microsecond=0)
    (shown,) = agent.tokens()["tokens"]
    key = agent.generate_key(shown["id"], "sm2", "seal key")["id"]
    request = agent.certificate_request(key, {"CN": "测试单位", "C": "CN"})
    issuer = Authority(world.directory / "sm2", KEY_TYPES["sm2"])
    certificate = issuer.issue(request.encode(), now - timedelta(minutes=1), now + timedelta(days=30))
    agent.import_certificate(key, ssl.DER_cert_to_PEM_cert(certificate))
    return key, certificate


def test_an_sm2_key_seals_and_openssl_accepts_it(sm2_world: World, vectors: Path, tmp_path: Path) -> None:
    with sm2_world.start().agent() as agent:
        _, certificate = _certified(agent, sm2_world)
        (shown,) = agent.tokens()["tokens"]
        assert shown["driver"] == sm2_world.driver
        assert shown["software"]
        imported = agent.import_seal(sm2_world.authority.make_seal([certificate]), shown["id"])
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
    root = sm2_world.directory / "sm2" / "ca.pem"
    assert b": OK" in openssl("verify", "-vfyopt", DISTID, "-CAfile", root, tmp_path / "leaf.pem")


@pytest.mark.parametrize(
    "fault", [("signature", "zero"), ("signature", "flip"), ("signature", "other_key"), ("unplug", None)]
)
def test_a_device_that_lies_or_leaves_releases_nothing(
    sm2_world: World, token: Token, function: str, vectors: Path, fault: tuple[str, str | None]
) -> None:
    with sm2_world.start().agent() as agent:
        _, certificate = _certified(agent, sm2_world)
        agent.import_seal(sm2_world.authority.make_seal([certificate]))
        token.set_fault(fault[0], function, fault[1])
        with pytest.raises(AgentError) as caught:
            agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 100, 100)])
        assert caught.value.code in ("device_signature_wrong", "device_failure", "token_removed")
        intent, failed = agent.records(limit=1000)["records"][-2:]
        assert (intent["kind"], failed["kind"]) == ("intent", "failed")
        assert failed["body"]["reason"] == caught.value.code
        token.clear_faults()
        if fault[0] == "unplug":
            token.insert()
        agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 100, 100)])


def test_a_worker_killed_within_a_signature(sm2_world: World, token: Token, function: str) -> None:
    daemon = sm2_world.start()
    with daemon.agent() as agent:
        key, _ = _certified(agent, sm2_world)
        agent.sign_digests([bytes(32)], key=key)  # so that the token is unlocked and the worker known
        (worker,) = daemon.workers()
        token.set_fault("delay", function, 60, times=1)

        def sign() -> None:
            with daemon.agent() as other:
                other.sign_digests([bytes(32)], key=key)

        thread, results = in_background(sign)
        faults = token.directory / "faults"
        until(lambda: not faults.read_text().strip())  # it counts down before it acts: the worker is inside
        os.kill(worker, signal.SIGKILL)
        thread.join(30)
        assert results == ["worker_died"]
        intent, failed = agent.records(limit=1000)["records"][-2:]
        assert (intent["kind"], failed["kind"], failed["body"]["reason"]) == ("intent", "failed", "worker_died")
        assert len(agent.sign_digests([bytes(32)], key=key)) == 1


def test_a_wrong_pin_says_how_many_tries_are_left(sm2_world: World, token: Token) -> None:
    sm2_world.pin_file.write_text("not-the-pin\n")
    with sm2_world.start().agent() as agent:
        (shown,) = agent.tokens()["tokens"]
        with pytest.raises(AgentError) as caught:
            agent.generate_key(shown["id"], "sm2", "key")
        assert caught.value.code == "pin_incorrect"
        assert token.tries_left() == 5
        refused = agent.records()["records"][-1]["body"]
        if sm2_world.driver == "skf":  # PKCS#11 counts by flags only
            assert (shown["pin"]["tries_left"], caught.value.problem["tries_left"], refused["tries_left"]) == (6, 5, 5)
        else:
            assert caught.value.problem["count_low"]
            assert refused["count_low"]


def test_what_a_mechanism_signs_is_kept_for_the_next_daemon(
    world: World, softsm2: SoftSm2, softsm2_new_token: Callable[..., SoftSm2Token]
) -> None:
    """On a module that no entry of the table fits: the first signature finds the mechanism out, on record as one."""
    softsm2.profile = "luna"
    token = softsm2_new_token()
    token.add_key("sm2")
    world.modules = [token.library]
    world.pin_file.touch(0o600)
    world.pin_file.write_text(token.user_pin + "\n")
    for _ in range(2):
        daemon = world.start()
        with daemon.agent() as agent:
            (key,) = agent.keys()
            assert key["mechanisms"] == ["sm2-sm3"]
            agent.sign_digests([bytes(range(32))], key=key["id"])
        daemon.stop()
    (file,) = (world.directory / "state" / "findings").iterdir()
    assert '"0x80000B21": "e"' in file.read_text()


def test_softhsm_is_refused_for_sm2_with_the_reason(world: World, vectors: Path) -> None:
    world.token.generate_curve_key(SM2_CURVE, object_id=b"\x01")
    with world.start().agent() as agent:
        (key,) = agent.keys()
        for _ in range(2):
            with pytest.raises(AgentError) as caught:
                agent.sign_digests([bytes(range(32))], key=key["id"])
            assert caught.value.code == "mechanism_not_supported"
            assert "ECDSA on the SM2 curve" in caught.value.detail
        failed = [entry["body"] for entry in agent.records()["records"] if entry["kind"] == "failed"]
        assert "ECDSA on the SM2 curve" in failed[0]["detail"]
        (key,) = agent.keys()
        assert key["mechanisms"] == []
        assert "ECDSA on the SM2 curve" in key["fault"]
