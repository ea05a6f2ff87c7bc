"""The format of trust lists: what is written is read again, and what is in any way else is refused by name."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from sample_parties import Party
from sample_seals import Identity, Kind, identity
from sealagent.errors import FormatError, LimitExceeded
from sealagent.pki import trustlist
from sealagent.pki.certificates import Certificate
from sealagent.pki.trust import TrustClass, TrustRole, TrustStore
from sealagent.pki.trustlist import (
    CLOCK_SKEW,
    MAX_ENTRIES,
    MAX_NEXT_SIGNERS,
    MAX_TRUST_LIST,
    MAX_URLS,
    MAX_VALIDITY,
    ListedCertificate,
    ListedState,
    TrustList,
    encode_trust_list,
    read_trust_list,
)
from trust_parts import MONTH, Publisher, canonical, changed, listed, now

ISSUED = now() + timedelta(hours=1)  # when the certificates of these tests are valid


@pytest.fixture(scope="module")
def publishers(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Publisher]:
    folder = tmp_path_factory.mktemp("publishers")
    made: dict[Kind, Publisher] = {}
    for kind in ("sm2", "rsa", "p256"):
        who: Identity = identity(folder, kind, f"{kind} publisher")
        made[kind] = Publisher(who.der, who.sign)
    return made


@pytest.fixture(scope="module")
def publisher(publishers: dict[Kind, Publisher]) -> Publisher:
    return publishers["sm2"]


@pytest.fixture(scope="module")
def maker(party: Party) -> ListedCertificate:
    return listed(
        party.maker.der, "maker", "status", ocsp=("http://ocsp.example/a",), crls=("https://crl.example/b.crl",)
    )


@pytest.fixture(scope="module")
def content(publisher: Publisher, maker: ListedCertificate, party: Party) -> bytes:
    return publisher.content(7, [maker, listed(party.ca.der, "ca", trust_class="commercial")], issued_at=ISSUED)


def read(data: bytes, at: datetime | None = None) -> TrustList:
    return read_trust_list(data, at or ISSUED + timedelta(minutes=1))


def refused(data: bytes, at: datetime | None = None) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(data, at)
    return caught.value


@pytest.mark.parametrize("kind", ["sm2", "rsa", "p256"])
def test_what_is_written_is_read_again(
    publishers: dict[Kind, Publisher], maker: ListedCertificate, party: Party, kind: Kind
) -> None:
    publisher = publishers[kind]
    gone = listed(party.ca.der, "ca", "tsa", trust_class="internal", withdrawn=ISSUED + MONTH)
    successors = ("ab" * 32, "00" * 32)
    content = publisher.content(
        3,
        [maker, gone],
        issued_at=ISSUED,
        status_urls=("http://status.example:8080/seals", "https://[2001:db8::1]"),
        next_signers=successors,
    )
    message = publisher.sign(content)
    found = read(message)
    assert found == TrustList(
        id="beijing",
        sequence=3,
        region="110000",
        region_name="北京市",
        unit="北京市印章制作管理中心",
        issued_at=ISSUED,
        next_update=ISSUED + MONTH,
        listed=(maker, gone),
        signer=publisher.certificate,
        status_urls=("http://status.example:8080/seals", "https://[2001:db8::1]"),
        next_signers=successors,
        content_sha256=hashlib.sha256(content).hexdigest(),
        raw=message,
    )
    assert content == rfc8785.dumps(json.loads(content)), "canonical also for another canonicaliser"


def test_entries_are_what_the_judge_takes(publisher: Publisher, maker: ListedCertificate, party: Party) -> None:
    gone = listed(party.ca.der, "ca", withdrawn=ISSUED)
    found = read(publisher.publish(3, [maker, gone], issued_at=ISSUED, status_urls=("http://status.example",)))
    first, second = found.entries()
    assert (first.certificate, first.roles) == (
        Certificate.from_der(party.maker.der),
        {TrustRole.MAKER, TrustRole.STATUS},
    )
    assert (first.trust_class, first.withdrawn_since) == (TrustClass.E_GOVERNMENT, None)
    assert (first.ocsp, first.crls) == (("http://ocsp.example/a",), ("https://crl.example/b.crl",))
    assert second.withdrawn_since == ISSUED
    assert first.source is not None
    assert first.source == second.source
    assert (first.source.list, first.source.sequence, first.source.region) == ("beijing", 3, "110000")
    assert first.source.next_update == found.next_update
    assert first.source.status_urls == ("http://status.example",)
    assert first.as_json("") == {
        "list": "beijing",
        "region": "110000",
        "region_name": "北京市",
        "unit": "北京市印章制作管理中心",
        "class": "e-government",
    }
    store = TrustStore((), listed=found.entries())
    assert store.entry(first.certificate, TrustRole.MAKER) == first
    assert store.entry(first.certificate, TrustRole.CA) is None, "a role that is not listed is not given"


def test_stale_is_after_next_update(publisher: Publisher) -> None:
    found = read(publisher.publish(issued_at=ISSUED), ISSUED + 2 * MONTH)  # read it is, also when it is stale
    assert not found.is_stale(ISSUED + MONTH)
    assert found.is_stale(ISSUED + MONTH + timedelta(seconds=1))


def test_issued_in_the_future_is_refused_but_for_the_skew_of_clocks(publisher: Publisher) -> None:
    data = publisher.publish(issued_at=ISSUED + timedelta(minutes=1))
    assert read(data, ISSUED + timedelta(minutes=1) - CLOCK_SKEW).sequence == 1
    wrong = refused(data, ISSUED + timedelta(minutes=1) - CLOCK_SKEW - timedelta(seconds=1))
    assert wrong.code == "trust_list_invalid"
    assert "future" in wrong.message
    assert read_trust_list(data, None).sequence == 1


def test_a_signer_whose_certificate_was_not_valid_then_is_refused(publisher: Publisher) -> None:
    early = publisher.certificate.not_before - timedelta(seconds=1)
    wrong = refused(publisher.publish(issued_at=early, next_update=early + MONTH))
    assert (wrong.code, "was not valid when" in wrong.message) == ("trust_list_invalid", True)
    late = publisher.certificate.not_after + timedelta(seconds=1)
    assert "was not valid when" in refused(publisher.publish(issued_at=late), late).message


def test_a_signer_that_may_not_sign_is_refused(tmp_path: Path) -> None:
    who = identity(tmp_path, "p256", "CA only", extensions="basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n")
    wrong = refused(Publisher(who.der, who.sign).publish())
    assert (wrong.code, "key usage" in wrong.message) == ("trust_list_invalid", True)


def test_unsigned_and_changed_messages_are_refused(publisher: Publisher, content: bytes) -> None:
    message = publisher.sign(content)
    place = message.index(b'"sequence":7') + len('"sequence":')
    other = message[:place] + b"9" + message[place + 1 :]
    for data in (b"", content, message[:-1], message + b"\0", other, message[:-1] + bytes([message[-1] ^ 1])):
        assert refused(data).code == "signed_message_invalid"


def test_too_large_a_message_is_refused_unread() -> None:
    wrong = refused(bytes(MAX_TRUST_LIST + 1))
    assert isinstance(wrong, LimitExceeded)
    assert wrong.code == "signed_message_invalid"


def _entry(content: bytes, **changes: Any) -> bytes:
    """Return the content with members of its first entry replaced."""
    value = json.loads(content)
    first = {**value["entries"][0], **changes}
    value["entries"][0] = {name: each for name, each in first.items() if each is not ...}
    return canonical(value)


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "no JSON": lambda content: content[:-1],
    "no UTF-8": lambda content: content.replace(b"beijing", b"beijin\xff"),
    "not an object": lambda content: b"[]",
    "another type": lambda content: changed(content, type="sealagent-seal-status"),
    "no type": lambda content: changed(content, type=...),
    "another format": lambda content: changed(content, format=2),
    "format true": lambda content: changed(content, format=True),
    "format of text": lambda content: changed(content, format="1"),
    "a float": lambda content: content.replace(b'"sequence":7', b'"sequence":7.0'),
    "NaN": lambda content: content.replace(b'"sequence":7', b'"sequence":NaN'),
    "blanks": lambda content: content.replace(b'"sequence":7', b'"sequence": 7'),
    "another order": lambda content: json.dumps(
        dict(reversed(json.loads(content).items())), ensure_ascii=False, separators=(",", ":")
    ).encode(),
    "a member twice": lambda content: content.replace(b'"sequence":7', b'"sequence":7,"sequence":7'),
    "escapes": lambda content: content.replace("北".encode(), b"\\u5317"),
    "a lone surrogate": lambda content: content.replace("北".encode(), b"\\ud800"),
    "deep": lambda content: b"[" * 9000 + b"]" * 9000,
    "unknown member": lambda content: changed(content, extra=1),
    "member missing": lambda content: changed(content, next_signers=...),
    "id of capitals": lambda content: changed(content, list="Beijing"),
    "id with a slash": lambda content: changed(content, list="../beijing"),
    "id of dots": lambda content: changed(content, list=".."),
    "id empty": lambda content: changed(content, list=""),
    "id with a line end": lambda content: changed(content, list="beijing\n"),
    "id too long": lambda content: changed(content, list="b" * 65),
    "id a number": lambda content: changed(content, list=1),
    "sequence 0": lambda content: changed(content, sequence=0),
    "sequence true": lambda content: changed(content, sequence=True),
    "sequence of text": lambda content: changed(content, sequence="7"),
    "sequence too large": lambda content: content.replace(b'"sequence":7', b'"sequence":9007199254740992'),
    "sequence huge": lambda content: content.replace(b'"sequence":7', b'"sequence":' + b"7" * 5000),
    "region of text": lambda content: changed(content, region="110000"),
    "region of five digits": lambda content: changed(content, region={"code": "11000", "name": "北京市"}),
    "region of other digits": lambda content: changed(content, region={"code": "１１００００", "name": "北京市"}),
    "region with more": lambda content: changed(content, region={"code": "110000", "name": "北京市", "more": ""}),
    "region without a name": lambda content: changed(content, region={"code": "110000", "name": " "}),
    "unit empty": lambda content: changed(content, unit=""),
    "unit too long": lambda content: changed(content, unit="单" * 257),
    "unit with an escape": lambda content: changed(content, unit="\x1b[2J"),
    "unit written backwards": lambda content: changed(content, unit="中心\u202e"),
    "time of another form": lambda content: changed(content, issued_at="2026-11-27T00:00:00+00:00"),
    "time with a fraction": lambda content: changed(content, issued_at="2026-11-27T00:00:00.5Z"),
    "time that is none": lambda content: changed(content, issued_at="2026-02-30T00:00:00Z"),
    "time a number": lambda content: changed(content, next_update=1),
    "next update at once": lambda content: changed(content, next_update=json.loads(content)["issued_at"]),
    "next update too far": lambda content: changed(
        content, next_update=f"{ISSUED + MAX_VALIDITY + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    ),
    "address of another kind": lambda content: changed(content, status_urls=["file:///etc/passwd"]),
    "address in capitals": lambda content: changed(content, status_urls=["HTTP://a.example"]),
    "address without a host": lambda content: changed(content, status_urls=["http://:80/"]),
    "address with a user": lambda content: changed(content, status_urls=["http://me:pw@a.example"]),
    "address with port 0": lambda content: changed(content, status_urls=["http://a.example:0"]),
    "address with port 99999": lambda content: changed(content, status_urls=["http://a.example:99999"]),
    "address with a line end": lambda content: changed(content, status_urls=["http://a.example/\r\nHost: b"]),
    "address with a blank": lambda content: changed(content, status_urls=["http://a.example/ b"]),
    "address with a fragment": lambda content: changed(content, status_urls=["http://a.example/#b"]),
    "address not ASCII": lambda content: changed(content, status_urls=["http://北京.example"]),
    "address with a wrong bracket": lambda content: changed(content, status_urls=["http://[::1"]),
    "base with a query": lambda content: changed(content, status_urls=["http://a.example/?b"]),
    "base with a slash": lambda content: changed(content, status_urls=["http://a.example/"]),
    "address too long": lambda content: changed(content, status_urls=["http://a.example/" + "b" * 1024]),
    "too many addresses": lambda content: changed(
        content, status_urls=[f"http://a.example/{number}" for number in range(MAX_URLS + 1)]
    ),
    "an address twice": lambda content: changed(content, status_urls=["http://a.example"] * 2),
    "addresses of text": lambda content: changed(content, status_urls="http://a.example"),
    "address a number": lambda content: changed(content, status_urls=[1]),
    "signer in capitals": lambda content: changed(content, next_signers=["AB" * 32]),
    "signer too short": lambda content: changed(content, next_signers=["ab" * 31]),
    "a signer twice": lambda content: changed(content, next_signers=["ab" * 32] * 2),
    "too many signers": lambda content: changed(
        content, next_signers=[f"{number:064x}" for number in range(MAX_NEXT_SIGNERS + 1)]
    ),
    "entries an object": lambda content: changed(content, entries={}),
    "entry a text": lambda content: changed(content, entries=["a"]),
    "entry twice": lambda content: changed(content, entries=json.loads(content)["entries"][:1] * 2),
    "entry twice in other roles": lambda content: changed(
        content,
        entries=[json.loads(content)["entries"][0], {**json.loads(content)["entries"][0], "roles": ["tsa"]}],
    ),
    "entry with more": lambda content: _entry(content, more=1),
    "entry with less": lambda content: _entry(content, crls=...),
    "certificate no base64": lambda content: _entry(content, certificate="北京"),
    "certificate in base64 with line ends": lambda content: _entry(
        content, certificate=json.loads(content)["entries"][0]["certificate"] + "\n"
    ),
    "certificate in base64 of another form": lambda content: _entry(content, certificate="AR=="),
    "certificate none": lambda content: _entry(content, certificate=b64encode(b"0" * 50).decode()),
    "certificate a number": lambda content: _entry(content, certificate=1),
    "no roles": lambda content: _entry(content, roles=[]),
    "unknown role": lambda content: _entry(content, roles=["root"]),
    "a role twice": lambda content: _entry(content, roles=["maker", "maker"]),
    "role a list": lambda content: _entry(content, roles=[["maker"]]),
    "unknown class": lambda content: _entry(content, **{"class": "military"}),
    "class null": lambda content: _entry(content, **{"class": None}),
    "unknown state": lambda content: _entry(content, state="suspended"),
    "recognised from a time to come": lambda content: _entry(
        content, since=f"{ISSUED + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    ),
    "ocsp by another way": lambda content: _entry(content, ocsp=["ldap://a.example"]),
    "crls null": lambda content: _entry(content, crls=None),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused(publisher: Publisher, content: bytes, case: str) -> None:
    wrong = WRONG[case](content)
    assert wrong != content
    error = refused(publisher.sign(wrong))
    assert error.code == "trust_list_invalid"


def test_the_content_of_these_tests_is_good(publisher: Publisher, content: bytes) -> None:
    assert read(publisher.sign(content)).sequence == 7
    assert canonical(json.loads(content)) == content
    assert read(publisher.sign(_entry(content, ocsp=["http://a.example/?a=b,c&d=%20"]))).listed[0].ocsp


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" + b"{}," * 1_000_000 + b"{}]",
        b"[" + b"[]," * 1_000_000 + b"[]]",
        b"[" + b'"",' * 1_300_000 + b'""]',
        b"[" + b"1," * 2_000_000 + b"1]",
    ],
)
def test_millions_of_small_things_are_refused_before_they_are_built(
    bomb: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trustlist.json, "loads", lambda *_: pytest.fail("it was parsed"))
    with pytest.raises(LimitExceeded) as caught:
        trustlist._read_content(bomb)
    assert caught.value.code == "trust_list_invalid"


def test_an_entry_more_than_there_may_be(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trustlist, "MAX_ENTRIES", 2)
    assert len(trustlist._read_content(content)["listed"]) == 2
    monkeypatch.setattr(trustlist, "MAX_ENTRIES", 1)
    with pytest.raises(LimitExceeded, match="entries has 2 items; 1 are allowed"):
        trustlist._read_content(content)


def test_a_full_list_fits(publisher: Publisher, party: Party) -> None:
    """MAX_ENTRIES certificates of a usual size are within MAX_TRUST_LIST."""
    encoded = len(b64encode(party.maker.der)) + 220
    assert encoded * MAX_ENTRIES < MAX_TRUST_LIST


def test_the_writer_refuses_what_no_reader_takes(publisher: Publisher, maker: ListedCertificate) -> None:
    for changes in (
        {"id": "../x"},
        {"region": "11"},
        {"unit": ""},
        {"unit": "\ud800"},
        {"next_update": ISSUED},
        {"status_urls": ("http://a.example/",)},
        {"next_signers": ("x",)},
        {"entries": (maker, maker)},
        {"entries": (replace(maker, roles=frozenset()),)},
        {"entries": (replace(maker, since=ISSUED + MONTH),)},
        {"sequence": 0},
    ):
        values: dict[str, Any] = {
            "id": "beijing",
            "sequence": 1,
            "region": "110000",
            "region_name": "北京市",
            "unit": "中心",
            "issued_at": ISSUED,
            "next_update": ISSUED + MONTH,
            "entries": (maker,),
        }
        assert encode_trust_list(**values)
        with pytest.raises(FormatError) as caught:
            encode_trust_list(**(values | changes))
        assert caught.value.code == "trust_list_invalid", changes


def test_times_are_written_in_utc_and_whole_seconds(publisher: Publisher) -> None:
    moment = datetime(2026, 11, 27, 8, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=8)))
    content = json.loads(publisher.content(issued_at=moment))
    assert (content["issued_at"], content["next_update"]) == ("2026-11-27T00:00:00Z", "2026-12-27T00:00:00Z")


texts = st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]), min_size=1, max_size=256)
ids = st.from_regex(trustlist.LIST_ID, fullmatch=True)
times = st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1)).map(
    lambda time: time.replace(microsecond=0, tzinfo=UTC)
)
lasts = st.integers(1, int(MAX_VALIDITY.total_seconds())).map(lambda seconds: timedelta(seconds=seconds))
digests = st.lists(st.binary(min_size=32, max_size=32).map(bytes.hex), max_size=MAX_NEXT_SIGNERS, unique=True)


@settings(deadline=None, max_examples=60)
@given(ids, st.integers(1, 2**53 - 1), texts, texts, times, lasts, digests)
def test_every_list_is_read_as_it_was_written(
    id: str, sequence: int, name: str, unit: str, issued: datetime, lasts: timedelta, signers: list[str]
) -> None:
    content = encode_trust_list(
        id=id,
        sequence=sequence,
        region="440300",
        region_name=name,
        unit=unit,
        issued_at=issued,
        next_update=issued + lasts,
        entries=(),
        next_signers=signers,
    )
    assert content == rfc8785.dumps(json.loads(content))
    found = trustlist._read_content(content)
    assert (found["id"], found["sequence"], found["region_name"], found["unit"]) == (id, sequence, name, unit)
    assert (found["issued_at"], found["next_update"]) == (issued, issued + lasts)
    assert found["next_signers"] == tuple(signers)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_octets_changed_anywhere_are_refused_by_name_or_read_as_what_they_say(
    content: bytes, data: st.DataObject
) -> None:
    octets = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(octets) - 1))
        octets[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    wrong = None
    try:
        trustlist._read_content(bytes(octets))
    except FormatError as error:
        wrong = error.code
    assert wrong == "trust_list_invalid" or canonical(json.loads(octets)) == octets


def test_states_are_those_of_the_format() -> None:
    assert [*ListedState] == ["recognised", "withdrawn"]
    assert [*TrustClass] == ["e-government", "commercial", "internal"]
    assert [*TrustRole] == ["ca", "maker", "status", "tsa"]
