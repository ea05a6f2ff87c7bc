"""PKCS#11 URIs: every example of RFC 7512 §3, strictness, canonical text, matching."""

from __future__ import annotations

import dataclasses
import string
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealdrivers.contract import ModuleInfo, PinState, TokenInfo, short_id
from sealdrivers.errors import UriError
from sealdrivers.uri import MAX_ATTRIBUTES, MAX_URI_LENGTH, ObjectType, Pkcs11Uri

# RFC 7512 §3: the text, and what each of its attributes means.
EXAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("pkcs11:", {}),
    ("pkcs11:object=my-pubkey;type=public", {"object": "my-pubkey", "type": "public"}),
    (
        "pkcs11:object=my-key;type=private?pin-source=file:/etc/token",
        {"object": "my-key", "type": "private", "pin_source": "file:/etc/token"},
    ),
    (
        "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;"
        "object=my-certificate;type=cert;id=%69%95%3E%5C%F4%BD%EC%91;serial=?pin-source=file:/etc/token_pin",
        {
            "token": "The Software PKCS#11 Softtoken",
            "manufacturer": "Snake Oil, Inc.",
            "model": "1.0",
            "serial": "",
            "object": "my-certificate",
            "type": "cert",
            "id": bytes.fromhex("69953e5cf4bdec91"),
            "pin_source": "file:/etc/token_pin",
        },
    ),
    (
        "pkcs11:object=my-sign-key;type=private?module-name=mypkcs11",
        {"object": "my-sign-key", "type": "private", "module_name": "mypkcs11"},
    ),
    (
        "pkcs11:object=my-sign-key;type=private?module-path=/mnt/libmypkcs11.so.1",
        {"object": "my-sign-key", "type": "private", "module_path": "/mnt/libmypkcs11.so.1"},
    ),
    ("pkcs11:slot-description=Sun%20Metaslot", {"slot_description": "Sun Metaslot"}),
    (
        "pkcs11:library-manufacturer=Snake%20Oil,%20Inc.;library-description=Soft%20Token%20Library;"
        "library-version=1.23",
        {
            "library_manufacturer": "Snake Oil, Inc.",
            "library_description": "Soft Token Library",
            "library_version": (1, 23),
        },
    ),
    (
        "pkcs11:token=My%20token%25%20created%20by%20Joe;library-version=3;id=%01%02%03%Ba%dd%Ca%fe%04%05%06",
        {
            "token": "My token% created by Joe",
            "library_version": (3, 0),
            "id": bytes.fromhex("010203baddcafe040506"),
        },
    ),
    (
        "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate;type=cert",
        {"token": "A name with a substring %;", "object": "my-certificate", "type": "cert"},
    ),
    (
        "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute:%20%C3%A1;object=my-certificate;type=cert",
        {"token": "Name with a small A with acute: \u00e1", "object": "my-certificate", "type": "cert"},
    ),
    (
        "pkcs11:token=my-token;object=my-certificate;type=cert;vendor-aaa=value-a"
        "?pin-source=file:/etc/token_pin&vendor-bbb=value-b",
        {
            "token": "my-token",
            "object": "my-certificate",
            "type": "cert",
            "vendor": (("vendor-aaa", "value-a"),),
            "pin_source": "file:/etc/token_pin",
            "vendor_query": (("vendor-bbb", "value-b"),),
        },
    ),
]

TOKEN = TokenInfo(
    uri="pkcs11:token=seal",
    label="seal",
    serial="0a1b",
    manufacturer="SoftHSM project",
    model="SoftHSM v2",
    module="/usr/lib/softhsm/libsofthsm2.so",
    driver="pkcs11",
    login_required=True,
    logged_in=False,
    protected_authentication_path=False,
    write_protected=False,
    pin=PinState(),
)


@pytest.mark.parametrize(("text", "expected"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_of_the_rfc(text: str, expected: dict[str, Any]) -> None:
    uri = Pkcs11Uri.parse(text, allow_pin_source=True)
    assert uri == Pkcs11Uri(**expected)
    assert Pkcs11Uri.parse(str(uri), allow_pin_source=True) == uri


def test_the_example_with_a_pin_is_refused_and_not_quoted() -> None:
    text = "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.?pin-value=the-pin"
    with pytest.raises(UriError) as caught:
        Pkcs11Uri.parse(text, allow_pin_source=True)
    assert "pin-value" in caught.value.message
    assert "the-pin" not in caught.value.message


def test_a_pin_source_needs_the_argument() -> None:
    with pytest.raises(UriError, match="pin-source"):
        Pkcs11Uri.parse("pkcs11:token=a?pin-source=file:/etc/token")


def test_the_text_is_canonical() -> None:
    spellings = [
        "pkcs11:token=%73eal;serial=0a1b;id=%01%aB;object=%e5%8d%b0;type=private",
        "PKCS11:type=private;object=%E5%8D%B0;id=%01%AB;serial=0a1b;token=seal",
        "pkcs11:serial=0a1b;token=seal;type=private;id=%01%Ab;object=%E5%8d%b0?",
    ]
    texts = {str(Pkcs11Uri.parse(text)) for text in spellings}
    assert texts == {"pkcs11:token=seal;serial=0a1b;id=%01%AB;object=%E5%8D%B0;type=private"}
    assert len({short_id(text) for text in texts}) == 1


def test_the_canonical_order_of_a_token() -> None:
    uri = Pkcs11Uri(serial="1", model="M;1", token="T/1", manufacturer="A, B")
    assert str(uri) == "pkcs11:token=T%2F1;manufacturer=A,%20B;model=M%3B1;serial=1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "begin"),
        ("pkcs11", "begin"),
        ("skf:serial=1", "begin"),
        ("http://example.org/", "begin"),
        ("pkcs11:token", "name"),
        ("pkcs11:=x", "name"),
        ("pkcs11:token=a;", "name"),
        ("pkcs11:;token=a", "name"),
        ("pkcs11:token=a;;serial=1", "name"),
        ("pkcs11:to ken=a", "name"),
        ("pkcs11:token=a b", "percent"),
        ("pkcs11:token=a/b", "percent"),
        ("pkcs11:token=\u5370", "percent"),
        ("pkcs11:token=a%2", "percent"),
        ("pkcs11:token=a%zz", "percent"),
        ("pkcs11:token=a\n", "percent"),
        ("pkcs11:token=a#b", "percent"),
        ("pkcs11:token=%ff", "UTF-8"),
        ("pkcs11:token=a;token=a", "once"),
        ("pkcs11:token=a;vendor-x=1;vendor-x=1", "once"),
        ("pkcs11:?module-path=/a&module-path=/b", "once"),
        ("pkcs11:type=key", "type"),
        ("pkcs11:type=", "type"),
        ("pkcs11:library-version=1.2.3", "library-version"),
        ("pkcs11:library-version=256", "library-version"),
        ("pkcs11:library-version=", "library-version"),
        ("pkcs11:slot-id=-1", "slot-id"),
        ("pkcs11:slot-id=18446744073709551616", "slot-id"),
        ("pkcs11:module-path=%2Fx", "query"),
        ("pkcs11:pin-value=1234", "never"),
        ("pkcs11:?token=a", "path"),
        ("pkcs11:?id=%01", "path"),
        ("pkcs11:token=" + "a" * MAX_URI_LENGTH, "longer"),
        ("pkcs11:" + ";".join(f"v{n}=" for n in range(MAX_ATTRIBUTES + 1)), "more than"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(UriError, match=says):
        Pkcs11Uri.parse(text)


def test_a_vendor_attribute_of_the_query_may_repeat() -> None:
    uri = Pkcs11Uri.parse("pkcs11:?x=1&y=a&x=2/?|")
    assert uri.vendor_query == (("x", "1"), ("y", "a"), ("x", "2/?|"))
    assert str(uri) == "pkcs11:?x=1&y=a&x=2/?|"


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("pkcs11:", True),
        ("pkcs11:token=seal", True),
        ("pkcs11:token=seal;serial=0a1b;manufacturer=SoftHSM%20project;model=SoftHSM%20v2", True),
        ("pkcs11:token=seal;id=%01;type=private", True),
        ("pkcs11:token=Seal", False),
        ("pkcs11:serial=", False),
        ("pkcs11:serial=0a1c", False),
        ("pkcs11:token=seal;slot-id=0", False),
        ("pkcs11:token=seal;slot-description=x", False),
        ("pkcs11:token=seal;x-unknown=1", False),
        ("pkcs11:token=seal?x-unknown=1", True),
        ("pkcs11:library-manufacturer=SoftHSM", False),
        ("pkcs11:library-version=2.6", False),
    ],
)
def test_which_tokens_match(text: str, matches: bool) -> None:
    assert Pkcs11Uri.parse(text).matches_token(TOKEN) is matches


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("pkcs11:library-manufacturer=SoftHSM;library-description=PKCS11;library-version=2.6", True),
        ("pkcs11:library-version=2.60", False),
        ("pkcs11:library-version=2", False),
        ("pkcs11:library-description=other", False),
    ],
)
def test_library_attributes_match_the_module(text: str, matches: bool) -> None:
    module = ModuleInfo("/x.so", "pkcs11", manufacturer="SoftHSM", description="PKCS11", version="2.6")
    assert Pkcs11Uri.parse(text).matches_token(TOKEN, module) is matches


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("pkcs11:", True),
        ("pkcs11:token=other;id=%01", True),
        ("pkcs11:id=%01;type=private;object=k", True),
        ("pkcs11:id=%01%00", False),
        ("pkcs11:id=", False),
        ("pkcs11:type=cert", False),
        ("pkcs11:object=K", False),
        ("pkcs11:id=%01;x=1", False),
    ],
)
def test_which_objects_match(text: str, matches: bool) -> None:
    assert Pkcs11Uri.parse(text).matches_object("private", b"\x01", "k") is matches


def test_an_id_never_matches_an_object_without_one() -> None:
    assert not Pkcs11Uri(id=b"").matches_object("data", None, "seal")


TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=24)
NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=8).map(lambda name: "x" + name)
VENDOR = st.text(max_size=8).filter(lambda text: text.isprintable())
URIS = st.builds(
    Pkcs11Uri,
    library_manufacturer=TEXTS,
    library_description=TEXTS,
    library_version=st.none() | st.tuples(st.integers(0, 255), st.integers(0, 255)),
    slot_manufacturer=TEXTS,
    slot_description=TEXTS,
    slot_id=st.none() | st.integers(0, (1 << 64) - 1),
    token=TEXTS,
    manufacturer=TEXTS,
    model=TEXTS,
    serial=TEXTS,
    id=st.none() | st.binary(max_size=24),
    object=TEXTS,
    type=st.none() | st.sampled_from(get_args(ObjectType)),
    vendor=st.dictionaries(NAMES, VENDOR, max_size=3).map(lambda found: tuple(sorted(found.items()))),
    module_name=TEXTS,
    module_path=TEXTS,
    pin_source=TEXTS,
    vendor_query=st.lists(st.tuples(NAMES, VENDOR), max_size=3).map(tuple),
)


@given(URIS)
def test_every_uri_survives_the_round_trip(uri: Pkcs11Uri) -> None:
    text = str(uri)
    assert text.isascii()
    again = Pkcs11Uri.parse(text, allow_pin_source=True)
    assert again == uri
    assert str(again) == text


@given(st.text(max_size=60) | st.text(string.printable, max_size=60).map(lambda tail: "pkcs11:" + tail))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        uri = Pkcs11Uri.parse(text, allow_pin_source=True)
    except UriError:
        return
    assert Pkcs11Uri.parse(str(uri), allow_pin_source=True) == uri


def test_the_fields_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Pkcs11Uri().token = "x"  # type: ignore[misc]
