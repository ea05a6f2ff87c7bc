"""A 32-bit SKF library behind a 32-bit worker, served by the 64-bit daemon."""

from __future__ import annotations

import io
import ssl
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import utils

from agent_world import World
from demo.testca import KEY_TYPES, Authority, create_authority
from host_parts import DIGEST, MODULE_TIMEOUTS, hosted, run, workers
from i386_parts import Machine32, is_32bit
from openssl_parts import openssl, parsed
from sealagent.client import Agent, at
from sealagent.pki.sm2 import SM2PublicKey
from sealdrivers.binary import Binary, read_binary
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import DeviceFailure, LoginRequired, PinIncorrect, TokenRemoved, WorkerDied, WorkerTimeout
from sealdrivers.host.service import HostedTokens, ModuleSpec
from softgm import SoftSkf, SoftSkfToken

SM2 = Mechanism.SM2_SM3
SEAL = "测试单位公章"


@pytest.fixture
def spec(i386: Machine32) -> ModuleSpec:
    return ModuleSpec(i386.library, driver="skf", command=i386.worker)


@pytest.fixture
def device(softskf_token: SoftSkfToken) -> SoftSkfToken:
    softskf_token.add_key("sm2")
    return softskf_token


async def unlock(tokens: HostedTokens, device: SoftSkfToken) -> tuple[str, str, bytes]:
    """Log in and return the URIs of the token and of its only key, and that key's SubjectPublicKeyInfo."""
    (token,) = [token for token in await tokens.tokens() if token.serial == device.serial]
    await tokens.login(token.uri, bytearray(device.user_pin.encode()))
    (key,) = (await tokens.contents(token.uri)).keys
    assert key.public_key
    return token.uri, key.uri, key.public_key


def check(spki: bytes, signature: bytes) -> None:
    public_key = SM2PublicKey.from_spki(spki)
    assert public_key is not None
    assert public_key.verify(DIGEST, *utils.decode_dss_signature(signature))


def test_from_listing_to_signature(spec: ModuleSpec, device: SoftSkfToken) -> None:
    device.add_file("seal.esl", b"a seal")

    async def main() -> None:
        async with hosted(spec) as tokens:
            uri, key, spki = await unlock(tokens, device)
            (worker,) = workers(tokens)
            assert is_32bit(worker.pid)
            check(spki, await tokens.sign(key, SM2, DIGEST))
            assert [data.value for data in (await tokens.contents(uri)).data_objects] == [b"a seal"]
            made = await tokens.generate_key(uri, KeyType.SM2, "新密钥", b"\1\2")
            assert made.public_key
            check(made.public_key, await tokens.sign(made.uri, SM2, DIGEST))
            rsa = await tokens.generate_key(uri, KeyType.RSA_2048, "rsa", b"\3")
            assert len(await tokens.sign(rsa.uri, Mechanism.RSA_PKCS1_SHA256, DIGEST)) == 256
            await tokens.import_data(uri, bytes(range(256)) * 64, "印章", "")
            await tokens.change_pin(uri, bytearray(device.user_pin.encode()), bytearray(b"another-pin"))
            await tokens.logout(uri)
            with pytest.raises(LoginRequired):
                await tokens.sign(key, SM2, DIGEST)
            with pytest.raises(PinIncorrect) as caught:
                await tokens.login(uri, bytearray(device.user_pin.encode()))
            assert caught.value.tries_left == 5

    run(main)


@pytest.mark.parametrize(
    "fault",
    [
        ("layout", "SKF_GetDevInfo", "natural"),
        ("wide_bool", "SKF_GetPINInfo", None),
        ("single_nul", "SKF_EnumDev", None),
    ],
    ids=lambda fault: fault[0],
)
def test_what_products_do_differently(
    spec: ModuleSpec, device: SoftSkfToken, softskf: SoftSkf, fault: tuple[str, str, str | None]
) -> None:
    (softskf if fault[1] == "SKF_EnumDev" else device).set_fault(*fault)

    async def main() -> None:
        async with hosted(spec) as tokens:
            _, key, spki = await unlock(tokens, device)
            check(spki, await tokens.sign(key, SM2, DIGEST))

    try:
        run(main)
    finally:
        softskf.clear_faults()


@pytest.mark.parametrize(
    "fault",
    [
        ("layout", "SKF_GetDevInfo", "wide"),
        ("length", "SKF_ExportPublicKey", 0xFFFFFFFF),
        ("oversize", "SKF_ExportCertificate", None),
        ("overrun", "SKF_ExportPublicKey", 64),
        ("no_output", "SKF_ECCSignData", None),
    ],
    ids=lambda fault: f"{fault[0]}-{fault[1]}",
)
def test_what_no_product_may_do(
    spec: ModuleSpec, device: SoftSkfToken, fault: tuple[str, str, str | int | None]
) -> None:
    device.add_certificate(b"\x30\x03\x02\x01\x01")

    async def main() -> None:
        async with hosted(spec) as tokens:
            uri, key, spki = await unlock(tokens, device)
            pid = workers(tokens)[0].pid
            calls = {
                "SKF_GetDevInfo": tokens._modules[0].supervisor.tokens,
                "SKF_ECCSignData": partial(tokens.sign, key, SM2, DIGEST),
            }
            device.set_fault(*fault)
            with pytest.raises(DeviceFailure):
                await calls.get(fault[1], partial(tokens.contents, uri))()
            device.clear_faults()
            await unlock(tokens, device)
            check(spki, await tokens.sign(key, SM2, DIGEST))
            assert workers(tokens)[0].pid == pid

    run(main)


def test_a_crash_a_hang_and_a_pull(spec: ModuleSpec, device: SoftSkfToken) -> None:
    async def main() -> None:
        timeouts = replace(MODULE_TIMEOUTS, sign=1.0)
        async with hosted(spec, timeouts=timeouts) as tokens:
            for fault, error in (("crash", WorkerDied), ("hang", WorkerTimeout), ("unplug", TokenRemoved)):
                _, key, spki = await unlock(tokens, device)
                device.set_fault(fault, "SKF_ECCSignData", times=1)
                with pytest.raises(error):
                    await tokens.sign(key, SM2, DIGEST)
                device.clear_faults()
                device.insert()
            _, key, spki = await unlock(tokens, device)
            check(spki, await tokens.sign(key, SM2, DIGEST))
            assert is_32bit(workers(tokens)[0].pid)

    run(main)


def test_libraries_of_both_sizes_side_by_side(spec: ModuleSpec, device: SoftSkfToken, softskf: SoftSkf) -> None:
    """The first module serves the device, the second one sees it as well; either would do."""
    wide = ModuleSpec(softskf.library.resolve(), driver="skf")

    async def main() -> None:
        for order in ((spec, wide), (wide, spec)):
            async with hosted(*order) as tokens:
                _, key, spki = await unlock(tokens, device)
                check(spki, await tokens.sign(key, SM2, DIGEST))
                assert [is_32bit(worker.pid) for worker in workers(tokens)] == [module is spec for module in order]
                assert [health["state"] for health in tokens.health()] == ["ready", "ready"]
                shown = [health["worker"] for health in tokens.health()]
                assert shown == [spec.command[0] if module is spec else None for module in order]

    run(main)


def test_a_library_of_the_other_size_is_named_with_what_to_do(
    i386: Machine32, softskf: SoftSkf, device: SoftSkfToken
) -> None:
    wide = ModuleSpec(softskf.library.resolve(), driver="skf", command=i386.worker)
    narrow = ModuleSpec(i386.library, driver="skf")
    pkcs11 = ModuleSpec(i386.library)

    async def main() -> None:
        async with hosted(wide, narrow, pkcs11) as tokens:
            assert await tokens.tokens() == []
            faults = [health["fault"] for health in tokens.health()]
            assert {health["last_error"]["code"] for health in tokens.health()} == {"module_not_loadable"}
            assert "64-bit library (x86-64), and the worker is 32-bit (i386)" in faults[0]
            assert "name a 64-bit worker for it, or none at all" in faults[0]
            for fault in faults[1:]:
                assert "32-bit library (i386), and the worker is 64-bit (x86-64)" in fault
                assert "name a 32-bit worker for this one ([[modules]] worker)" in fault

    run(main)


def test_the_worker_needs_nothing_that_is_compiled(i386: Machine32) -> None:
    code = (
        f"import sys; sys.path[:0] = {list(i386.places)!r}; before = set(sys.modules)\n"
        "import sealdrivers.host.worker, sealdrivers.skf.driver\n"
        "found = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*found - sys.stdlib_module_names)\n"
    )
    done = subprocess.run([i386.python, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert set(done.stdout.split()) == {"sealdrivers", "asn1crypto"}


HIGH = """
typedef unsigned U;
U SKF_ConnectDev(char *name, void **handle) { *handle = (void *)0xF0000010u; return 0; }
U SKF_DisConnectDev(void *handle) { return (U)handle; }
U SKF_GetPINInfo(void *a, U kind, U *most, U *left, int *factory) { *most = kind; *left = 3; *factory = -1; return 0; }
U SKF_VerifyPIN(void *a, U kind, char *pin, U *left) { *left = (U)pin[0] << 8 | pin[1]; return 0x0A000024; }
"""
HIGH_USE = """
import sys; sys.path[:0] = {places!r}
from pathlib import Path
from sealdrivers.skf import abi
abi.REQUIRED = ("SKF_ConnectDev",)
from sealdrivers.skf.library import Library, Number, secret
library = Library(Path({library!r}))
handle = library.open("SKF_ConnectDev", b"name")
most, left, factory = Number(), Number(), Number()
library.call("SKF_GetPINInfo", handle, 0xFFFFFFFF, most, left, factory)
pin = bytearray(b"1")
with secret(pin) as lent:
    code = library.status("SKF_VerifyPIN", handle, abi.USER, lent, left)
print(handle, library.status("SKF_DisConnectDev", handle), most.value, factory.value, code, left.value, lent.raw)
"""


def test_values_with_the_highest_bit_set_pass_a_32_bit_call(i386: Machine32, tmp_path: Path) -> None:
    """Handles are pointers, which lie in the upper half there; return values and numbers are unsigned."""
    library = tmp_path / "libhigh.so"
    compiler = i386.python.with_name("cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-xc", "-", "-o", library], input=HIGH, text=True, check=True)
    code = HIGH_USE.format(places=list(i386.places), library=str(library))
    done = subprocess.run([i386.python, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    expected = (0xF0000010, 0xF0000010, 0xFFFFFFFF, 0xFFFFFFFF, 0x0A000024, ord("1") << 8, bytes(2))
    assert done.stdout.strip() == " ".join(map(str, expected))


def test_a_real_32_bit_library_is_known_by_its_header(i386: Machine32) -> None:
    for library in (i386.library, i386.system_library):
        assert read_binary(library) == Binary("ELF", 32, "i386", "library")


# The whole daemon


@pytest.fixture
def world_32(world: World, i386: Machine32, softskf_token: SoftSkfToken) -> World:
    """The usual world with the 32-bit library in place of SoftHSM, and an SM2 authority beside the usual one."""
    now = datetime.now(UTC).replace(microsecond=0)
    create_authority(world.directory / "sm2", "SM2 Root", now - timedelta(hours=1), now + timedelta(days=99), "sm2")
    world.modules = [i386.library]
    world.driver = "skf"
    world.module_settings["worker"] = list(i386.worker)
    world.settings["trust"] = {"paths": [str(world.root_file), str(world.directory / "sm2" / "ca.pem")]}
    world.pin_file.touch(0o600)
    world.pin_file.write_text(softskf_token.user_pin + "\n")
    return world


def _certified(agent: Agent, world: World) -> bytes:
    """Generate an SM2 key on the device and have it certified; return its certificate."""
    now = datetime.now(UTC).replace(microsecond=0)
    (token,) = agent.tokens()["tokens"]
    key = agent.generate_key(token["id"], "sm2", "seal key")["id"]
    request = agent.certificate_request(key, {"CN": "测试单位", "C": "CN"})
    issuer = Authority(world.directory / "sm2", KEY_TYPES["sm2"])
    certificate = issuer.issue(request.encode(), now - timedelta(minutes=1), now + timedelta(days=30))
    agent.import_certificate(key, ssl.DER_cert_to_PEM_cert(certificate))
    return certificate


def test_the_daemon_seals_through_a_32_bit_worker(world_32: World, vectors: Path, tmp_path: Path) -> None:
    daemon = world_32.start()
    with daemon.agent() as agent:
        certificate = _certified(agent, world_32)
        agent.import_seal(world_32.authority.make_seal([certificate]), agent.tokens()["tokens"][0]["id"])
        sealed = agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[at(1, 100, 100)])
        assert agent.verify_document(sealed.document)["verdict"] == "valid"
        (module,) = agent.status()["modules"]
        assert (module["state"], module["worker"]) == ("ready", world_32.module_settings["worker"][0])
    shown = _sealagent(daemon.socket, "status")
    assert f"served by {world_32.module_settings['worker'][0]}" in shown
    with zipfile.ZipFile(io.BytesIO(sealed.document)) as package:
        value = parsed(package.read("Doc_0/Signs/Sign_0/SignedValue.dat"))
    tbs, _, _, signature = value.children
    (tmp_path / "public.pem").write_bytes(openssl("x509", "-inform", "DER", "-pubkey", "-noout", data=certificate))
    (tmp_path / "signature").write_bytes(signature.bits)
    (tmp_path / "tbs").write_bytes(tbs.whole)
    said = openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "public.pem", "-rawin", "-digest", "sm3"),
        *("-in", tmp_path / "tbs", "-sigfile", tmp_path / "signature", "-pkeyopt", "distid:1234567812345678"),
    )
    assert b"Signature Verified Successfully" in said


def test_without_a_32_bit_worker_the_status_says_what_to_do(world_32: World) -> None:
    world_32.module_settings["worker"] = []
    with world_32.start().agent() as agent:
        assert agent.tokens()["tokens"] == []
        (module,) = agent.status()["modules"]
    assert module["worker"] is None
    assert "name a 32-bit worker for this one ([[modules]] worker)" in module["fault"]


def _replaceable(path: Path) -> None:
    path.chmod(0o757)


def _plain(path: Path) -> None:
    path.chmod(0o644)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_replaceable, "could replace the worker"),
        (_plain, "no program that may be executed"),
        (Path.unlink, "cannot be reached"),
    ],
    ids=["replaceable", "not executable", "absent"],
)
def test_a_worker_that_may_not_be_run_is_not_run(
    world_32: World, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    program, mark = tmp_path / "worker", tmp_path / "it ran"
    program.write_text(f"#!/bin/sh\ntouch '{mark}'\n")
    program.chmod(0o755)
    spoil(program)
    world_32.module_settings["worker"] = [str(program)]
    with world_32.start().agent() as agent:
        assert agent.tokens()["tokens"] == []
        (module,) = agent.status()["modules"]
    assert module["state"] == "refused"
    assert said in module["fault"]
    assert not mark.exists()


def _sealagent(socket: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "sealagent", *arguments]
    environment = {"SEALAGENT_SOCKET": str(socket), "PATH": "/usr/bin:/bin", "HOME": str(socket.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
