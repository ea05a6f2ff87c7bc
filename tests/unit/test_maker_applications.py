"""What an application must be like, before anything is recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from register_parts import CODE, said, with_register
from sample_seals import openssl
from sealagent.errors import FormatError, SealAgentError
from sealagent.maker.applications import MAX_SIGNERS, SEAL_TYPES, Application, Category, apply, checked, reject
from sealagent.maker.register import Register
from sealagent.maker.states import Asker
from sealagent.pki.csr import read_request
from testbed.openssl import KEY_TYPES, new_key, new_request


@pytest.fixture(scope="module")
def requests(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Requests of two keys."""
    folder = tmp_path_factory.mktemp("requests")
    made = []
    for name in ("a", "b"):
        new_key(KEY_TYPES["sm2"], folder / f"{name}.pem")
        made.append(new_request(KEY_TYPES["sm2"], folder / f"{name}.pem", [("CN", name)]))
    return made


@pytest.fixture
def good(requests: list[bytes]) -> Application:
    return Application(
        applicant="某某公司",
        credit_code=CODE,
        approval="准字1号",
        name="某某公司公章",
        type=SEAL_TYPES["statutory"],
        category=Category.STATUTORY_NAME,
        requests=tuple(requests),
    )


def test_a_good_one(good: Application, requests: list[bytes]) -> None:
    taken, read = checked(replace(good, applicant=" 某某公司 ", credit_code=f"{CODE} ", filed_name=good.name))
    assert (taken.applicant, taken.credit_code) == ("某某公司", CODE)
    assert [each.subject for each in read] == ["CN=a", "CN=b"]
    assert taken.requests == tuple(read_request(each).der for each in requests)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"applicant": ""}, "application_invalid", "applicant"),
        ({"applicant": "  "}, "application_invalid", "applicant"),
        ({"applicant": "x" * 101}, "application_invalid", "applicant"),
        ({"applicant": "某某\n公司"}, "application_invalid", "applicant"),
        ({"name": "公章\x1b[2J"}, "application_invalid", "name"),
        ({"name": "\u202e章公"}, "application_invalid", "name"),
        ({"approval": ""}, "application_invalid", "approval"),
        ({"contact": "x" * 201}, "application_invalid", "contact"),
        ({"type": -1}, "application_invalid", "type"),
        ({"type": 1 << 31}, "application_invalid", "type"),
        ({"filed_name": "别的名称"}, "application_invalid", "name"),
        ({"requests": ()}, "application_invalid", "requests"),
        ({"credit_code": "91350100M000100Y44"}, "credit_code_invalid", None),
        ({"requests": (b"nonsense",)}, "certificate_request_invalid", None),
        ({"certificates": (b"nonsense",)}, "certificate_invalid", None),
    ],
)
def test_what_is_wrong_is_named(good: Application, changes: dict[str, Any], code: str, field: str | None) -> None:
    with pytest.raises(FormatError) as caught:
        checked(replace(good, **changes))
    assert (caught.value.code, caught.value.facts.get("field")) == (code, field)


def test_how_many_signers(good: Application, requests: list[bytes]) -> None:
    for wrong in ((requests[0],) * 2, tuple(requests) * (MAX_SIGNERS // 2 + 1)):
        with pytest.raises(FormatError) as caught:
            checked(replace(good, requests=wrong))
        assert caught.value.facts["field"] == "requests"


def test_the_entry_of_the_most_signers_fits(good: Application, tmp_path: Path) -> None:
    """Texts at their bounds and 32 requests are within what one entry of the ledger may hold."""
    requests = []
    for number in range(MAX_SIGNERS):
        new_key(KEY_TYPES["p-256"], tmp_path / "key.pem")
        requests.append(new_request(KEY_TYPES["p-256"], tmp_path / "key.pem", [("CN", str(number))]))
    asked = replace(
        good,
        applicant="某" * 100,
        approval="准" * 200,
        contact="电" * 200,
        name="章" * 100,
        filed_name="章" * 100,
        requests=tuple(requests),
    )

    async def work(register: Register) -> dict[str, Any]:
        number = await apply(register, asked, said(asked_by=Asker.OWNER, text="附" * 500), trust=None)
        return register.application(number)[1]

    assert len(with_register(tmp_path / "state", work)["requests"]) == MAX_SIGNERS


def test_an_application_is_on_record_with_its_requests(
    good: Application, requests: list[bytes], tmp_path: Path
) -> None:
    async def work(register: Register) -> None:
        number = await apply(register, good, said(asked_by=Asker.OWNER), trust=None)
        row, facts = register.application(number)
        assert (row.number, row.state, row.applicant, row.seal) == (number, "open", "某某公司", "")
        kept = [register.archive.get(name) for name in facts["requests"]]
        assert kept == [openssl("req", "-outform", "DER", data=each) for each in requests]
        assert (facts["approval"], facts["category"]) == ("准字1号", "statutory-name")
        with pytest.raises(FormatError):
            await reject(register, number, said())
        await reject(register, number, said(text="材料不全"))
        assert register.application(number)[0].state == "rejected"
        with pytest.raises(SealAgentError) as caught:
            await reject(register, number, said(text="again"))
        assert caught.value.code == "application_closed"
        assert register.index_matches() is None

    with_register(tmp_path, work)


def test_what_is_refused_leaves_nothing_behind(good: Application, tmp_path: Path) -> None:
    async def work(register: Register) -> int:
        with pytest.raises(FormatError):
            await apply(register, replace(good, credit_code="x"), said(), trust=None)
        assert not (tmp_path / "archive").exists()
        return register.ledger.head().size

    assert with_register(tmp_path, work) == 0
