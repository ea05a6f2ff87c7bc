"""``skf:`` URIs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers.contract import PinState, TokenInfo
from sealdrivers.errors import UriError
from sealdrivers.uri import MAX_URI_LENGTH, Pkcs11Uri, SkfUri, parse_uri


def token(uri: str, driver: str = "skf", serial: str = "S1") -> TokenInfo:
    facts: dict[str, Any] = {
        "label": "label",
        "manufacturer": "",
        "model": "",
        "module": "",
        "login_required": True,
        "logged_in": False,
        "protected_authentication_path": False,
        "write_protected": False,
        "pin": PinState(),
    }
    return TokenInfo(uri=uri, driver=driver, serial=serial, **facts)


def test_one_spelling() -> None:
    uri = SkfUri(serial="S 1", application="应用", container="a#b;c", type="private")
    text = "skf:serial=S%201;application=%E5%BA%94%E7%94%A8;container=a%23b%3Bc;type=private"
    assert str(uri) == text
    assert SkfUri.parse("SKF:type=private;container=a%23b%3bc;application=%e5%ba%94%e7%94%a8;serial=S%201") == uri


_text = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(serial=_text, application=_text, container=_text, file=_text)
def test_what_is_written_is_read(serial: Any, application: Any, container: Any, file: Any) -> None:
    uri = SkfUri(serial=serial, application=application, container=container, file=file)
    assert SkfUri.parse(str(uri)) == uri
    assert parse_uri(str(uri)) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "skf",
        "pkcs11:serial=1",
        "skf:serial",
        "skf:serial=1;",
        "skf:serial=%",
        "skf:serial=%FF",
        "skf:serial=a b",
        "skf:serial=1;serial=2",
        "skf:slot=1",
        "skf:type=public",
        "skf:serial=1?pin-value=123456",
        "skf:pin-value=123456",
        "skf:serial=" + "1" * MAX_URI_LENGTH,
    ],
)
def test_malformed(text: str) -> None:
    with pytest.raises(UriError) as caught:
        SkfUri.parse(text)
    assert "123456" not in caught.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_uri_or_an_error(text: str) -> None:
    for given_text in (text, "skf:" + text):
        try:
            parsed = parse_uri(given_text)
        except UriError:
            continue
        assert parse_uri(str(parsed)) == parsed


def test_tokens_are_told_apart_by_serial_and_application() -> None:
    present = token("skf:serial=S1;application=A")
    for text in ("skf:", "skf:serial=S1", "skf:application=A", "skf:serial=S1;application=A;container=x;type=private"):
        assert SkfUri.parse(text).matches_token(present)
    for text in ("skf:serial=S2", "skf:serial=S1;application=B", "skf:serial="):
        assert not SkfUri.parse(text).matches_token(present)


def test_no_scheme_means_the_tokens_of_another() -> None:
    assert not Pkcs11Uri.parse("pkcs11:serial=S1").matches_token(token("skf:serial=S1;application=A"))
    assert not SkfUri.parse("skf:serial=S1").matches_token(token("pkcs11:serial=S1", driver="pkcs11"))


def test_containers() -> None:
    uri = SkfUri.parse("skf:serial=S1;container=a")
    assert uri.matches_container("private", "a")
    assert not uri.matches_container("private", "b")
    assert not SkfUri.parse("skf:container=a;type=cert").matches_container("private", "a")
    assert not SkfUri.parse("skf:file=a").matches_container("private", "a")
