"""Random and mutated packages: a report or a named error, in bounded time, never anything else."""

from __future__ import annotations

import contextlib
import io
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofd_samples import (
    NOW,
    RawEntry,
    Sealer,
    document_files,
    list_xml,
    pack,
    policy_of,
    raw_zip,
    record,
    repack,
    signature_xml,
    unpack,
)
from sealagent.documents.ofd.package import Package
from sealagent.documents.ofd.placement import Invisible
from sealagent.documents.ofd.seal import prepare
from sealagent.documents.verify import verify_document
from sealagent.errors import FormatError, SealAgentError
from sealagent.pki.cms import parse_signed_data
from sealagent.seals.parse import parse_seal
from sealagent.verdict import Verdict

SECONDS = 5.0
"""For one small input; a bound on the order of magnitude, machines differ."""


def survive(sealer: Sealer, data: bytes) -> Verdict | None:
    """Verify and seal; anything but a report or a named error fails the test."""
    begun = time.monotonic()
    verdict = None
    with contextlib.suppress(FormatError):
        verdict = verify_document(io.BytesIO(data), "a", sealer.policy).verdict
    with contextlib.suppress(SealAgentError):
        prepare(io.BytesIO(data), parse_seal(sealer.seal_der), [Invisible()], algorithm_oid="1.2.3", time=NOW)
    assert time.monotonic() - begun < SECONDS
    return verdict


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\3\4", b"PK", b"\x30"]))
def test_random_octets(sealer: Sealer, data: bytes, start: bytes) -> None:
    survive(sealer, start + data)


def test_flipped_octets_never_make_a_changed_document_valid(sealer: Sealer, sealed: bytes) -> None:
    """A flip may hit octets that mean nothing (dates, attributes); the files are then what they were."""
    chance = random.Random(20260424)
    files = unpack(sealed)
    for _ in range(600):
        data = bytearray(sealed)
        for _ in range(chance.choice((1, 1, 1, 4))):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if survive(sealer, bytes(data)) is Verdict.VALID:
            package = Package(io.BytesIO(bytes(data)))
            assert {name: package.read(name, 1 << 20) for name in package.files} == files


def test_cut_and_spliced_packages(sealer: Sealer, sealed: bytes) -> None:
    chance = random.Random(4711)
    for _ in range(300):
        cut = chance.randrange(len(sealed))
        survive(sealer, sealed[:cut])
        other = chance.randrange(len(sealed))
        survive(sealer, sealed[:cut] + sealed[other:])


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.builds(
            RawEntry,
            name=st.binary(max_size=12),
            data=st.binary(max_size=60),
            method=st.sampled_from([0, 8, 9, 99]),
            flags=st.integers(0, 0xFFFF),
            size=st.none() | st.integers(0, 0xFFFFFFFF),
            packed=st.none() | st.integers(0, 0xFFFFFFFF),
            offset=st.none() | st.integers(0, 0xFFFFFFFF),
            external=st.integers(0, 0xFFFFFFFF),
            central_extra=st.binary(max_size=30),
        ),
        max_size=5,
    ),
    st.none() | st.integers(0, 0xFFFF),
)
def test_random_directories(sealer: Sealer, entries: list[RawEntry], count: int | None) -> None:
    survive(sealer, raw_zip(entries, count=count))


XML = ["OFD.xml", "Doc_0/Document.xml", "Doc_0/Signs/Signatures.xml", "Doc_0/Signs/Sign_0/Signature.xml"]


@pytest.mark.parametrize("name", [*XML, "Doc_0/Signs/Sign_0/SignedValue.dat", "Doc_0/Signs/Sign_0/Seal.esl"])
def test_mutated_files_inside_a_sound_package(sealer: Sealer, sealed: bytes, name: str) -> None:
    chance = random.Random(name)
    original = unpack(sealed)[name]
    for _ in range(60):
        data = bytearray(original)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data))
            match chance.randrange(3):
                case 0:
                    data[at] = chance.randrange(256)
                case 1:
                    del data[at : at + chance.randrange(1, 40)]
                case _:
                    data[at:at] = data[chance.randrange(len(data)) :][: chance.randrange(60)]
            data = data or bytearray(b"x")
        if bytes(data) != original:
            verdict = survive(sealer, repack(sealed, {name: bytes(data)}))
            assert verdict is not Verdict.VALID or name == "Doc_0/Signs/Signatures.xml"


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.text(max_size=20), st.binary(max_size=40), max_size=5),
    st.text(max_size=12),
    st.text(max_size=20),
)
def test_random_references_and_locations(sealer: Sealer, references: dict[str, bytes], method: str, where: str) -> None:
    def clean(text: str) -> str:
        return "".join(c for c in text if c.isprintable() and c not in '<&"')

    xml = signature_xml({clean(k): v for k, v in references.items()}, method=clean(method), value=clean(where))
    files = {
        "Doc_0/Signs/Sign_0/Signature.xml": xml,
        "Doc_0/Signs/Signatures.xml": list_xml(record("s1"), record("s2", clean(where))),
    }
    main = document_files()["OFD.xml"].replace(
        b"</ofd:DocBody>", b"<ofd:Signatures>Doc_0/Signs/Signatures.xml</ofd:Signatures></ofd:DocBody>"
    )
    assert survive(sealer, pack({**document_files(), **files, "OFD.xml": main})) is not Verdict.VALID


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_cms(data: bytes) -> None:
    for octets in (data, b"\x30\x82" + len(data).to_bytes(2, "big") + data):
        with pytest.raises(FormatError):
            parse_signed_data(octets)


def test_time_grows_no_faster_than_the_package() -> None:
    """Many entries, deep names and many References stay linear."""
    policy = policy_of()
    files = {f"Doc_0/{'d/' * 200}{n}": b"" for n in range(1500)}
    references = {f"/Doc_0/{'d/' * 200}{n}": bytes(32) for n in range(1500)}
    main = document_files()["OFD.xml"].replace(
        b"</ofd:DocBody>", b"<ofd:Signatures>Doc_0/Signs/Signatures.xml</ofd:Signatures></ofd:DocBody>"
    )
    lists = {
        "Doc_0/Signs/Sign_0/Signature.xml": signature_xml(references),
        "Doc_0/Signs/Signatures.xml": list_xml(*(record(f"s{n}") for n in range(20))),
    }
    package = pack({**document_files(), "OFD.xml": main, **files, **lists})
    begun = time.monotonic()
    report = verify_document(io.BytesIO(package), "a", policy)
    assert len(report.signatures) == 20
    assert time.monotonic() - begun < SECONDS
