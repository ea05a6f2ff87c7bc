"""The SKF driver on libraries of all makes: symbols, names, layouts, keys, files. Faults: tests/softgm/README.md."""

from __future__ import annotations

import _ssl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from contract_checks import digest_for, verify
from skf_parts import SM2, E, pin, sign

import softgm
from sealdrivers.contract import KeyType, Mechanism
from sealdrivers.errors import (
    DeviceFailure,
    LoginRequired,
    MechanismNotSupported,
    ModuleNotLoadable,
    NotSupported,
    ObjectExists,
    ObjectInvalid,
    PinIncorrect,
    TokenFull,
)
from sealdrivers.skf import abi
from sealdrivers.skf.application import MAX_CERTIFICATE
from sealdrivers.skf.driver import SkfDriver, open_driver
from sealdrivers.skf.names import container_name
from sealdrivers.skf.token import SkfToken
from softgm import SoftSkf, SoftSkfToken

# Libraries


def test_a_library_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library\n")
    for path in (tmp_path / "text.so", tmp_path / "absent.so", tmp_path):
        with pytest.raises(ModuleNotLoadable):
            open_driver(path)
    with pytest.raises(ModuleNotLoadable, match="SKF_EnumDev"):
        open_driver(_ssl.__file__)


def _compile(folder: Path, names: list[str]) -> Path:
    source, library = folder / "small.c", folder / "libsmall.so"
    source.write_text("".join(f"unsigned {name}(void) {{ return 0x0A000003; }}\n" for name in names))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    return library


def test_decorated_names_are_found(softskf: SoftSkf, tmp_path: Path) -> None:
    opened = open_driver(_compile(tmp_path, [f"_{name}" for name in abi.REQUIRED]))
    with pytest.raises(NotSupported) as caught:
        opened.tokens()
    assert caught.value.native_name == "SAR_NOTSUPPORTYETERR"
    opened.close()


@pytest.mark.parametrize("missing", abi.REQUIRED)
def test_each_required_function_is_required(softskf: SoftSkf, tmp_path: Path, missing: str) -> None:
    with pytest.raises(ModuleNotLoadable, match=missing):
        open_driver(_compile(tmp_path, [name for name in abi.REQUIRED if name != missing]))


@pytest.mark.parametrize("absent", sorted(abi.PROTOTYPES.keys() - set(abi.REQUIRED)))
def test_a_library_may_lack_any_other_function(
    token: SkfToken, device: SoftSkfToken, monkeypatch: pytest.MonkeyPatch, absent: str
) -> None:
    library = token.device.library
    monkeypatch.delitem(library._functions, absent)
    device.add_file("seal", b"a seal")
    operations: list[Callable[[], object]] = [
        lambda: token.info,
        lambda: token.login(pin(device)),
        lambda: sign(token),
        token.contents,
        lambda: token.generate_key(KeyType.SM2, "sm2", b"\1"),
        lambda: token.generate_key(KeyType.RSA_2048, "rsa", b"\2"),
        lambda: token.import_data(b"x", "data", ""),
        lambda: token.change_pin(pin(device), pin(device)),
        lambda: token.unblock_pin(bytearray(device.so_pin.encode()), pin(device)),
        token.logout,
    ]
    for operation in operations:
        try:
            operation()
        except (NotSupported, MechanismNotSupported, LoginRequired):
            continue


# Names and layouts


def test_names_in_gbk(softskf_new_token: Callable[..., SoftSkfToken], driver: SkfDriver) -> None:
    names = {
        part: text.encode("gbk")
        for part, text in (("label", "财务部"), ("name", "设备一"), ("application", "电子印章"))
    }
    device = softskf_new_token(**names)
    device.add_key("sm2", container="签名容器".encode("gbk"))
    device.add_file("印章".encode("gbk"), b"a seal")
    (token,) = driver.tokens()
    assert token.info.label == "财务部"
    assert "application=%E7%94%B5%E5%AD%90%E5%8D%B0%E7%AB%A0" in token.uri
    token.login(pin(device))
    contents = token.contents()
    assert [key.label for key in contents.keys] == ["签名容器"]
    assert [data.label for data in contents.data_objects] == ["印章"]
    assert token.key(contents.keys[0].uri).sign(SM2, E)


@pytest.mark.parametrize("fault", ["single_nul", "unterminated"])
def test_lists_without_the_double_nul(softskf: SoftSkf, device: SoftSkfToken, driver: SkfDriver, fault: str) -> None:
    device.add_key("sm2", container="second")
    device.add_file("seal", b"a seal")
    for function in ("SKF_EnumDev", "SKF_EnumApplication", "SKF_EnumContainer", "SKF_EnumFiles"):
        softskf.set_fault(fault, function)
    (token,) = driver.tokens()
    assert [key.label for key in token.contents().keys] == ["key", "second"]
    assert [data.label for data in token.contents().data_objects] == ["seal"]


@pytest.mark.parametrize("size", [0, 1, 2])
def test_no_devices(softskf: SoftSkf, device: SoftSkfToken, driver: SkfDriver, size: int) -> None:
    softskf.set_fault("empty", "SKF_EnumDev", size)
    assert driver.tokens() == ()


def test_fields_without_terminator(device: SoftSkfToken, driver: SkfDriver) -> None:
    device.set_fault("unterminated", "SKF_GetDevInfo")
    (token,) = driver.tokens()
    assert token.info.label == "fault token".ljust(32, "x")
    device.add_file("seal", b"a seal")
    device.set_fault("unterminated", "SKF_GetFileInfo")
    assert [data.value for data in token.contents().data_objects] == [b"a seal"]


def test_natural_layout(device: SoftSkfToken, driver: SkfDriver) -> None:
    device.set_fault("layout", "SKF_GetDevInfo", "natural")
    (token,) = driver.tokens()
    token.login(pin(device))
    assert (token.info.serial, token.device.facts().layout) == (device.serial, 296)
    assert sign(token)


@pytest.mark.parametrize(("layout", "size"), [("packed64", 326), ("natural64", 328), ("short", 147)])
def test_other_layouts_are_refused(device: SoftSkfToken, driver: SkfDriver, layout: str, size: int) -> None:
    device.set_fault("layout", "SKF_GetDevInfo", layout)
    with pytest.raises(DeviceFailure, match=f"{size} octets instead of 294 or 296"):
        driver.tokens()


def test_one_bad_device_hides_no_other(
    device: SoftSkfToken, softskf_new_token: Callable[..., SoftSkfToken], driver: SkfDriver
) -> None:
    other = softskf_new_token("good")
    device.set_fault("layout", "SKF_GetDevInfo", "short")
    assert [token.info.serial for token in driver.tokens()] == [other.serial]


def test_applications_of_one_device_are_tokens_of_their_own(device: SoftSkfToken, driver: SkfDriver) -> None:
    device.add_application("SECOND", user_pin="other-pin")
    device.add_key("rsa-2048", container="rsa", application="SECOND")
    first, second = sorted(driver.tokens(), key=lambda token: token.name == b"SECOND")
    assert (first.info.label, second.info.label) == ("fault token · SOFTSKF", "fault token · SECOND")
    second.login(bytearray(b"other-pin"))
    assert not first.info.logged_in
    assert sign(second, Mechanism.RSA_PKCS1_SHA256)
    with pytest.raises(LoginRequired):
        sign(first)
    with pytest.raises(PinIncorrect):
        first.login(bytearray(b"other-pin"))
    assert second.info.logged_in
    assert sign(second, Mechanism.RSA_PKCS1_SHA256)


# Keys and signatures


def test_key_made_by_other_software_is_named_by_its_container(token: SkfToken, device: SoftSkfToken) -> None:
    (key,) = token.contents().keys
    assert (key.label, key.object_id) == ("key", b"key")
    assert key.uri == f"skf:serial={device.serial};application=SOFTSKF;container=key;type=private"


@pytest.mark.parametrize("bits", [1024, 2048])
def test_rsa_keys_up_to_what_is_signed(token: SkfToken, device: SoftSkfToken, bits: int) -> None:
    device.add_key("rsa-1024" if bits == 1024 else "rsa-2048", container="rsa")
    token.login(pin(device))
    (info,) = [key for key in token.contents().keys if key.label == "rsa"]
    assert info.bits == bits
    assert (info.type is KeyType.OTHER, info.mechanisms == ()) == (bits == 1024, bits == 1024)
    for mechanism in info.mechanisms:
        digest = digest_for(mechanism)
        assert info.public_key
        verify(info.public_key, mechanism, token.key(info.uri).sign(mechanism, digest), digest)


def test_encryption_half_of_a_container_is_not_offered(token: SkfToken, device: SoftSkfToken) -> None:
    pem = device.add_key("rsa-2048", container="exchange only", sign=False)
    device.add_certificate(softgm.certificate(pem), container="exchange only", sign=False)
    assert [key.label for key in token.contents().keys] == ["key"]
    assert len(token.contents().certificates) == 1


@pytest.mark.parametrize("number", ["0x00020100", "0x00020200"])
def test_generation_with_either_value_of_sm2_1(unlocked: SkfToken, device: SoftSkfToken, number: str) -> None:
    device.set_fault("sm2_alg", "SKF_GenECCKeyPair", number)
    info = unlocked.generate_key(KeyType.SM2, "new", b"\1")
    assert info.public_key
    verify(info.public_key, SM2, unlocked.key(info.uri).sign(SM2, E), E)


@pytest.mark.parametrize("fault", [("return", "0x0A000001"), ("no_output", None), ("return", "0x0A000030")])
@pytest.mark.parametrize("kind", [KeyType.SM2, KeyType.RSA_2048])
def test_failed_generation_leaves_no_container(
    unlocked: SkfToken, device: SoftSkfToken, kind: KeyType, fault: tuple[str, str | None]
) -> None:
    for function in ("SKF_GenECCKeyPair", "SKF_GenRSAKeyPair"):
        device.set_fault(fault[0], function, fault[1])
    with pytest.raises((DeviceFailure, TokenFull)):
        unlocked.generate_key(kind, "new", b"\1")
    assert [key.label for key in unlocked.contents().keys] == ["key"]
    device.clear_faults()
    unlocked.generate_key(kind, "new", b"\1")


def test_generated_key_is_named_so_that_other_software_finds_it(unlocked: SkfToken, device: SoftSkfToken) -> None:
    unlocked.generate_key(KeyType.SM2, "财务章", b"\1\2")
    folder = device.directory / "applications" / "SOFTSKF" / "containers"
    assert os.fsencode(container_name("财务章", b"\1\2")) in {os.fsencode(path.name) for path in folder.iterdir()}
    with pytest.raises(ObjectExists):
        unlocked.generate_key(KeyType.SM2, "key", b"key")


@pytest.mark.parametrize("which", ["short_r", "short_s"])
def test_short_numbers(unlocked: SkfToken, device: SoftSkfToken, which: str) -> None:
    device.set_fault("signature", "SKF_ECCSignData", which)
    signature = sign(unlocked)
    (info,) = unlocked.contents().keys
    assert info.public_key
    verify(info.public_key, SM2, signature, E)


@pytest.mark.parametrize("what", ["zero", "ones", "left", "der"])
def test_octets_that_are_no_signature(unlocked: SkfToken, device: SoftSkfToken, what: str) -> None:
    device.set_fault("signature", "SKF_ECCSignData", what)
    with pytest.raises(DeviceFailure):
        sign(unlocked)
    device.clear_faults()
    assert sign(unlocked)


@pytest.mark.parametrize("what", ["no_output", "short", "zero", "oversize", "overrun", "length"])
def test_octets_that_are_no_rsa_signature(unlocked: SkfToken, device: SoftSkfToken, what: str) -> None:
    device.add_key("rsa-2048", container="key")
    (device.add_container("key") / "sign.crt").unlink()
    if what in ("short", "zero"):
        device.set_fault("signature", "SKF_RSASignData", what)
    else:
        device.set_fault(what, "SKF_RSASignData", {"length": 0, "overrun": 100}.get(what))
    with pytest.raises(DeviceFailure):
        sign(unlocked, Mechanism.RSA_PKCS1_SHA256)
    device.clear_faults()
    assert sign(unlocked, Mechanism.RSA_PKCS1_SHA256)


def test_certificate_of_another_key(unlocked: SkfToken, device: SoftSkfToken) -> None:
    device.add_certificate(softgm.certificate(softgm.new_key("sm2")))
    (info,) = unlocked.contents().keys
    assert info.mechanisms == ()
    with pytest.raises(DeviceFailure, match="another key"):
        unlocked.key(info.uri)
    right = softgm.certificate(softgm.session_key("sm2"))
    assert unlocked.import_certificate(right, "any", b"key").der == right  # the way out of it
    assert sign(unlocked)


def test_certificate_without_a_container(unlocked: SkfToken) -> None:
    with pytest.raises(ObjectInvalid, match="no container"):
        unlocked.import_certificate(softgm.certificate(softgm.session_key("sm2")), "any", b"absent")


def test_certificate_that_the_device_does_not_keep(unlocked: SkfToken, device: SoftSkfToken) -> None:
    device.set_fault("no_output", "SKF_ImportCertificate")
    with pytest.raises(DeviceFailure):
        unlocked.import_certificate(softgm.certificate(softgm.session_key("sm2"), "renewed"), "any", b"key")


# Files and seals in the key


def test_seals_in_files_and_behind_the_extension(token: SkfToken, device: SoftSkfToken) -> None:
    device.add_file("open.esl", b"open seal" * 1000)
    device.add_file("closed.esl", b"closed seal", read=softgm.USER)
    device.add_file("admin.esl", b"x", read=softgm.ADMIN)
    device.add_seal(b"eps seal" * 5000)
    assert [data.label for data in token.contents().data_objects] == ["open.esl"]
    token.login(pin(device))
    found = {data.label: data.value for data in token.contents().data_objects}
    assert found == {
        "open.esl": b"open seal" * 1000,
        "closed.esl": b"closed seal",
        "EPS_ReadESealData": b"eps seal" * 5000,
    }
    assert len({data.uri for data in token.contents().data_objects}) == 3


def test_library_without_the_extension(softskf: SoftSkf, device: SoftSkfToken) -> None:
    device.add_seal(b"eps seal")
    opened = open_driver(softskf.plain_library)
    (token,) = opened.tokens()
    token.login(pin(device))
    assert token.contents().data_objects == ()
    assert sign(token)
    opened.close()


@pytest.mark.parametrize(
    ("fault", "argument"), [("oversize", None), ("overrun", 4000), ("length", 0xFFFFFFFF), ("no_output", None)]
)
def test_the_extension_may_lie(unlocked: SkfToken, device: SoftSkfToken, fault: str, argument: int | None) -> None:
    device.add_seal(b"eps seal")
    device.set_fault(fault, "EPS_ReadESealData", argument)
    with pytest.raises(DeviceFailure):
        unlocked.contents()


@pytest.mark.parametrize("size", [0, 7, 0x7FFFFFFF, 0xFFFFFFFF])
def test_sizes_of_files_that_are_not_true(token: SkfToken, device: SoftSkfToken, size: int) -> None:
    device.add_file("seal", b"a seal")
    device.set_fault("file_size", "SKF_GetFileInfo", size)
    if size == 7:
        with pytest.raises(DeviceFailure, match="success without output"):
            token.contents()
    else:
        assert token.contents().data_objects == ()


def test_device_that_insists_on_small_pieces(unlocked: SkfToken, device: SoftSkfToken, driver: SkfDriver) -> None:
    device.configure(max_buffer=128, insist_on_max_buffer=1)
    device.remove()
    assert driver.tokens() == ()
    device.insert()
    (token,) = driver.tokens()
    token.login(pin(device))
    value = os.urandom(3000)
    assert token.import_data(value, "seal.esl", "").value == value
    assert [data.value for data in token.contents().data_objects] == [value]


@pytest.mark.parametrize("octet", [b"\xa5", b"\x5a"])
@pytest.mark.parametrize("length", [1, 8, 4097])
def test_files_that_look_like_an_empty_buffer(token: SkfToken, device: SoftSkfToken, octet: bytes, length: int) -> None:
    device.add_file("odd", octet * length)
    assert [data.value for data in token.contents().data_objects] == [octet * length]


@pytest.mark.parametrize("fault", [("return", "0x0A000008"), ("no_output", None)])
def test_failed_writing_leaves_no_file(unlocked: SkfToken, device: SoftSkfToken, fault: tuple[str, str | None]) -> None:
    device.set_fault(fault[0], "SKF_WriteFile", fault[1])
    with pytest.raises(DeviceFailure):
        unlocked.import_data(b"a seal", "seal", "")
    device.clear_faults()
    assert unlocked.contents().data_objects == ()


def test_full_device(unlocked: SkfToken) -> None:
    with pytest.raises(TokenFull):
        unlocked.import_data(b"x" * 100_000, "seal", "")
    assert unlocked.contents().data_objects == ()


def test_certificate_longer_than_any_is_left_out(token: SkfToken, device: SoftSkfToken) -> None:
    device.add_certificate(b"\x30" * (MAX_CERTIFICATE + 1))
    contents = token.contents()
    assert (len(contents.keys), contents.certificates) == (1, ())
