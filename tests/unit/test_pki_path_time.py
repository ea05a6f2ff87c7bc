"""Paths at a point in time: mixed algorithms by openssl, bad chains, roles, withdrawn entries, and kept results."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from revocation_parts import CA_USAGE, OTHER_ID, SIGNING, Holder, certify
from sealagent.pki import chain, path
from sealagent.pki.certificates import Certificate
from sealagent.pki.path import MAX_KEPT, PathResult, PathStatus, validate_path
from sealagent.pki.trust import EVERY_ROLE, TrustEntry, TrustRole, TrustStore

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
KINDS = ["sm2", "rsa-2048", "p-256"]


@dataclass(frozen=True)
class Maker:
    """Makes certificates in one folder: by default SM2, valid from a hundred days ago for two hundred."""

    folder: Path

    def __call__(self, name: str, issuer: Holder | None = None, **options: Any) -> Holder:
        return certify(
            self.folder, name, issuer=issuer, **({"start": NOW - 100 * DAY, "end": NOW + 100 * DAY} | options)
        )


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def root(make: Maker) -> Holder:
    return make("Root", ca=True, start=NOW - 1000 * DAY, end=NOW + 1000 * DAY)


@pytest.fixture(scope="module")
def middle(make: Maker, root: Holder) -> Holder:
    return make("Middle", root, ca=True, start=NOW - 500 * DAY, end=NOW + 500 * DAY)


@pytest.fixture(scope="module")
def signer(make: Maker, middle: Holder) -> Holder:
    return make("Signer", middle)


def trusting(*holders: Holder) -> TrustStore:
    return TrustStore(tuple(holder.certificate for holder in holders))


def judge(end: Holder, others: tuple[Holder, ...], store: TrustStore, at: datetime = NOW, **more: Any) -> PathResult:
    return validate_path(end.certificate, [each.certificate for each in others], store, at, **more)


def is_bad(result: PathResult) -> bool:
    return (result.status, result.fault, result.anchor) == (PathStatus.invalid, "chain", None) and bool(result.detail)


# Mixed algorithms


@pytest.fixture(scope="module")
def authorities(make: Maker) -> dict[tuple[str, ...], Holder]:
    """Roots of each kind, and below each a CA of each kind; the CAs are valid for forty days around now."""
    span = {"start": NOW - 20 * DAY, "end": NOW + 20 * DAY}
    made: dict[tuple[str, ...], Holder] = {(kind,): make(f"Root {kind}", kind=kind, ca=True) for kind in KINDS}
    for above, below in product(KINDS, KINDS):
        made[above, below] = make(f"CA {above} {below}", made[above,], kind=below, ca=True, **span)
    return made


@pytest.mark.parametrize(("above", "below"), [*product(KINDS, KINDS)])
def test_mixed_chains_at_a_point_in_time(
    above: str, below: str, authorities: dict[tuple[str, ...], Holder], make: Maker
) -> None:
    root, ca = authorities[above,], authorities[above, below]
    end = make("End", ca, kind=KINDS[(KINDS.index(above) + KINDS.index(below)) % 3])
    store = trusting(root)
    for moment in (NOW, NOW - 20 * DAY, NOW + 20 * DAY):
        result = judge(end, (ca,), store, moment)
        assert result.status is PathStatus.trusted, result.detail
        assert result.chain == (end.certificate, ca.certificate, root.certificate)
    for moment in (NOW - 20 * DAY - SECOND, NOW + 20 * DAY + SECOND):
        assert is_bad(judge(end, (ca,), store, moment))
    other = authorities[KINDS[KINDS.index(above) - 1],]
    assert judge(end, (ca,), trusting(other)).status is PathStatus.no_anchor


# Bad chains, SM2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"start": NOW - 90 * DAY, "end": NOW - DAY}, "expired"),
        ({"start": NOW + DAY, "end": NOW + 90 * DAY}, "not valid until"),
        ({"distid": OTHER_ID}, "signature"),
        ({"length": 0}, "path length"),
        ({"usage": SIGNING}, ""),
        ({"ca": False, "usage": CA_USAGE}, ""),
        ({"extensions": [{"extn_id": "1.2.3.4", "critical": True, "extn_value": b"\x05\0"}]}, "1.2.3.4"),
    ],
    ids=["expired", "not-yet-valid", "sm2-id", "path-length", "usage", "no-ca", "critical"],
)
def test_an_intermediate_that_is_not_fit(options: dict[str, Any], word: str, make: Maker, root: Holder) -> None:
    bad = make("Bad", root, **({"ca": True} | options))
    last = make("Last", bad, ca=True)
    result = judge(make("End", last), (bad, last), trusting(root))
    if word:
        assert is_bad(result), result
        assert word in result.detail
    else:  # no CA certificate leads to it
        assert result.status is PathStatus.no_anchor


def test_an_end_signed_with_another_sm2_id(make: Maker, root: Holder, middle: Holder) -> None:
    assert is_bad(judge(make("End", middle, distid=OTHER_ID), (middle,), trusting(root)))
    assert is_bad(judge(make("End", root, distid=OTHER_ID), (), trusting(root)))


def test_a_wrong_usage_of_the_end(make: Maker, middle: Holder, root: Holder) -> None:
    for usage in ({"key_encipherment"}, {"key_agreement", "crl_sign"}, {"key_cert_sign"}):
        result = judge(make("End", middle, usage=frozenset(usage)), (middle,), trusting(root))
        assert (result.status, result.fault) == (PathStatus.invalid, "usage")


def test_self_signed_and_self_issued_ends(make: Maker, root: Holder, middle: Holder) -> None:
    alone = make("Alone")
    assert judge(alone, (alone,), trusting(root)).status is PathStatus.no_anchor
    assert judge(alone, (), trusting(alone)).status is PathStatus.pinned
    forged = make("Root", subject=root.x509.subject)  # names the root as its issuer, signed by itself
    assert is_bad(judge(forged, (), trusting(root)))
    # A CA that issues to its own name, with a new key (RFC 5280 3.2): counts, and does not count for path lengths.
    limited = make("Limited", root, ca=True, length=0)
    renewed = make("Limited", limited, ca=True, length=0, subject=limited.x509.subject)
    assert judge(make("End", renewed), (renewed, limited), trusting(root)).status is PathStatus.trusted
    other = make("Other", limited, ca=True)
    assert is_bad(judge(make("End", other), (other, limited), trusting(root)))


def test_looping_chains(make: Maker, root: Holder) -> None:
    first, second = make("A", ca=True), make("B", ca=True)
    ring = (make("A", second, ca=True, key=first), make("B", first, ca=True, key=second), first, second)
    assert judge(make("End", first), ring, trusting(root)).status is PathStatus.no_anchor
    way_out = make("B", root, ca=True, key=second)
    assert judge(make("End", first), (*ring, way_out), trusting(root)).anchor == root.certificate


def test_over_long_chains(make: Maker, root: Holder) -> None:
    links = [root]
    for number in range(chain.MAX_LENGTH):
        links.append(make(f"Link {number}", links[-1], ca=True))
    assert judge(make("End", links[-2]), tuple(links[1:]), trusting(root)).status is PathStatus.trusted
    result = judge(make("End", links[-1]), tuple(links[1:]), trusting(root))
    assert is_bad(result)
    assert str(chain.MAX_LENGTH) in result.detail


# Roles


def store_of(*entries: tuple[Holder, dict[str, Any]], certificates: tuple[Holder, ...] = ()) -> TrustStore:
    return TrustStore(
        tuple(each.certificate for each in certificates),
        "test",
        tuple(TrustEntry(holder.certificate, **given) for holder, given in entries),
    )


@pytest.mark.parametrize("role", list(TrustRole))
def test_an_entry_vouches_in_its_roles_only(role: TrustRole, root: Holder, middle: Holder, signer: Holder) -> None:
    for asked in TrustRole:
        anchored = judge(signer, (middle,), store_of((root, {"roles": frozenset({role})})), role=asked)
        pinned = judge(signer, (), store_of((signer, {"roles": frozenset({role})})), role=asked)
        if asked is role:
            assert anchored.status is PathStatus.trusted
            assert pinned.status is PathStatus.pinned
            assert anchored.entry is not None
            assert anchored.entry.roles == frozenset({role})
        else:
            assert {anchored.status, pinned.status} == {PathStatus.no_anchor}
    assert judge(signer, (middle,), trusting(root), role=role).status is PathStatus.trusted


def test_of_two_roles_each_has_its_own_anchor(make: Maker, root: Holder, middle: Holder, signer: Holder) -> None:
    store = store_of((root, {"roles": frozenset({TrustRole.CA})}), (middle, {"roles": frozenset({TrustRole.MAKER})}))
    assert judge(signer, (middle,), store, role=TrustRole.CA).anchor == root.certificate
    assert judge(signer, (middle,), store, role=TrustRole.MAKER).anchor == middle.certificate
    assert judge(signer, (middle,), store, role=TrustRole.TSA).status is PathStatus.no_anchor


# Withdrawn entries


def withdrawn(result: PathResult, name: str) -> bool:
    return (result.status, result.fault) == (PathStatus.invalid, "withdrawn") and name in result.detail


@pytest.mark.parametrize("pinned", [False, True], ids=["anchor", "pin"])
def test_a_withdrawn_entry_vouches_until_then(pinned: bool, root: Holder, middle: Holder, signer: Holder) -> None:
    listed = signer if pinned else root
    store = store_of((listed, {"withdrawn_since": NOW}))
    good = PathStatus.pinned if pinned else PathStatus.trusted
    for _ in range(2):
        assert judge(signer, (middle,), store, NOW - SECOND).status is good
        assert withdrawn(judge(signer, (middle,), store, NOW), "Signer" if pinned else "Root")
        assert withdrawn(judge(signer, (middle,), store, NOW + DAY), "since 2026-06-01T12:00:00Z")


def test_another_list_may_vouch_for_what_one_withdrew(root: Holder, middle: Holder, signer: Holder) -> None:
    store = store_of((root, {"withdrawn_since": NOW - DAY}), (root, {}))
    result = judge(signer, (middle,), store)
    assert result.status is PathStatus.trusted
    assert result.entry is not None
    assert result.entry.withdrawn_since is None
    both = store_of((root, {"withdrawn_since": NOW - DAY}), certificates=(root,))
    assert judge(signer, (middle,), both).status is PathStatus.trusted


def test_a_renewed_root_of_the_same_key_vouches(make: Maker, root: Holder, middle: Holder, signer: Holder) -> None:
    renewed = make("Root", ca=True, key=root)
    for entries in (
        [(root, {"withdrawn_since": NOW}), (renewed, {})],
        [(renewed, {}), (root, {"withdrawn_since": NOW})],
    ):
        result = judge(signer, (middle,), store_of(*entries))
        assert (result.status, result.anchor) == (PathStatus.trusted, renewed.certificate)


def test_a_withdrawn_ca_does_not_come_back_below_another(
    make: Maker, root: Holder, middle: Holder, signer: Holder
) -> None:
    """Neither by its own certificate that came along, nor by another one with the same key."""
    store = store_of((middle, {"withdrawn_since": NOW}), (root, {}))
    again = make("Middle", root, ca=True, key=middle)
    for others in ((middle,), (again,), (again, middle), ()):
        assert withdrawn(judge(signer, others, store), "Middle")
        assert judge(signer, others, store, NOW - SECOND).status is PathStatus.trusted
    assert withdrawn(judge(signer, (again,), store, NOW + DAY), "Middle")


def test_a_path_around_a_withdrawn_ca_counts(make: Maker, root: Holder, middle: Holder, signer: Holder) -> None:
    other_root = make("Other root", ca=True)
    cross = make("Root", other_root, ca=True, key=root)  # the withdrawn root's key, certified by another
    store = store_of((root, {"withdrawn_since": NOW}), (other_root, {}), (middle, {}))
    assert judge(signer, (middle, cross), store).anchor == middle.certificate
    store = store_of((root, {"withdrawn_since": NOW}), (other_root, {}))
    assert withdrawn(judge(signer, (middle, cross), store), "Root")


def test_a_withdrawn_entry_that_has_no_part_in_it_changes_nothing(make: Maker, root: Holder, signer: Holder) -> None:
    namesake = make("Middle", ca=True)
    store = store_of((namesake, {"withdrawn_since": NOW - DAY}))
    assert judge(signer, (), store).status is PathStatus.no_anchor
    stranger = make("Stranger", ca=True)
    assert judge(signer, (), store_of((stranger, {"withdrawn_since": NOW - DAY}))).status is PathStatus.no_anchor


# Kept results


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The moments at which the library was asked for a path."""
    asked: list[datetime] = []
    honest = chain.validate

    def counted(certificate: Certificate, candidates: Any, anchors: Any, at: datetime) -> PathResult:
        asked.append(at)
        return honest(certificate, candidates, anchors, at)

    monkeypatch.setattr(chain, "validate", counted)
    return asked


def test_a_path_is_searched_once(searches: list[datetime], root: Holder, middle: Holder, signer: Holder) -> None:
    store = trusting(root)
    first = judge(signer, (middle,), store)
    for moment in (NOW, NOW - 100 * DAY, NOW + 100 * DAY, NOW - 9000 * DAY, NOW + 9000 * DAY):
        assert judge(signer, (middle,), store, moment) is first
    assert searches == [NOW]


def test_a_result_is_kept_for_the_validity_of_every_certificate(searches: list[datetime], make: Maker) -> None:
    """The issuers are judged at the moment; outside their validity the search is made anew, and fails."""
    short = make("Short", ca=True, start=NOW - 5 * DAY, end=NOW + 9 * DAY)
    ca = make("CA", short, ca=True, start=NOW - 7 * DAY, end=NOW + 7 * DAY)
    end, store = make("End", ca), trusting(short)
    assert judge(end, (ca,), store).status is PathStatus.trusted
    for moment in (NOW - 5 * DAY, NOW + 7 * DAY):
        assert judge(end, (ca,), store, moment).status is PathStatus.trusted
    assert len(searches) == 1
    for moment in (NOW - 5 * DAY - SECOND, NOW + 7 * DAY + SECOND):
        assert is_bad(judge(end, (ca,), store, moment))
    assert len(searches) == 3


def test_a_result_is_kept_until_something_is_withdrawn(
    searches: list[datetime], root: Holder, middle: Holder, signer: Holder
) -> None:
    for listed in (root, middle):
        store = (
            store_of((root, {}), (middle, {"withdrawn_since": NOW + DAY}))
            if listed is middle
            else store_of((root, {"withdrawn_since": NOW + DAY}))
        )
        searches.clear()
        for moment in (NOW, NOW + DAY - SECOND, NOW - 50 * DAY):
            assert judge(signer, (middle,), store, moment).status is PathStatus.trusted
        assert len(searches) == 1
        assert withdrawn(judge(signer, (middle,), store, NOW + DAY), "Root" if listed is root else "Middle")
        assert judge(signer, (middle,), store, NOW).status is PathStatus.trusted


def test_what_is_not_trusted_is_looked_for_again(
    searches: list[datetime], root: Holder, middle: Holder, signer: Holder, make: Maker
) -> None:
    bad = make("End", middle, distid=OTHER_ID)
    for number in range(1, 4):
        assert is_bad(judge(bad, (middle,), trusting(root)))
        assert len(searches) == number
    searches.clear()
    store = store_of((root, {"withdrawn_since": NOW}))
    for number in range(1, 4):
        assert withdrawn(judge(signer, (middle,), store), "Root")
        assert len(searches) == number


def test_everything_that_matters_is_in_the_key(
    searches: list[datetime], root: Holder, middle: Holder, signer: Holder, make: Maker
) -> None:
    store, equal = trusting(root), trusting(root)
    questions: list[Callable[[], PathResult]] = [
        lambda: judge(signer, (middle,), store),
        lambda: judge(signer, (middle,), equal),  # another store, though equal
        lambda: judge(signer, (middle,), store, role=TrustRole.MAKER),
        lambda: judge(signer, (middle, root), store),
        lambda: judge(signer, (root, middle), store),
        lambda: judge(make("Signer", middle, key=signer), (middle,), store),
    ]
    for number, ask in enumerate(questions, 1):
        assert ask().status is PathStatus.trusted
        assert len(searches) == number
    for ask in questions[:-1]:
        ask()
    assert len(searches) == len(questions)
    assert judge(signer, (), store).status is PathStatus.no_anchor  # without what came along there is no path


def test_a_store_at_the_address_of_another_is_another(
    root: Holder, middle: Holder, signer: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python gives the address of an object that is gone to a later one."""
    monkeypatch.setattr(path, "id", lambda _: 4711, raising=False)
    store, empty = trusting(root), TrustStore(())
    for _ in range(2):
        assert judge(signer, (middle,), store).status is PathStatus.trusted
        assert judge(signer, (middle,), empty).status is PathStatus.no_anchor
    del store
    gc.collect()
    assert judge(signer, (middle,), empty).status is PathStatus.no_anchor
    assert judge(signer, (middle,), trusting(root)).status is PathStatus.trusted


def test_few_results_are_kept(searches: list[datetime], root: Holder, middle: Holder, signer: Holder) -> None:
    stores = [trusting(root) for _ in range(MAX_KEPT + 1)]
    for store in stores:
        judge(signer, (middle,), store)
    assert len(path._proofs._kept) == MAX_KEPT
    searches.clear()
    judge(signer, (middle,), stores[-1])
    judge(signer, (middle,), stores[1])
    assert searches == []
    judge(signer, (middle,), stores[0])
    assert len(searches) == 1


def test_threads_ask_at_once(root: Holder, middle: Holder, signer: Holder) -> None:
    stores = [trusting(root) for _ in range(20)]
    found: list[PathStatus] = []

    def ask() -> None:
        for _ in range(20):
            for store in stores:
                found.append(judge(signer, (middle,), store).status)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [PathStatus.trusted] * 1600


def test_entries_are_those_of_the_store_that_was_asked(root: Holder, middle: Holder, signer: Holder) -> None:
    entry = TrustEntry(root.certificate, EVERY_ROLE, ocsp=("http://one/",))
    one, two = TrustStore((), "one", (entry,)), TrustStore((), "two", (replace(entry, ocsp=("http://two/",)),))
    for _ in range(2):
        for store, url in ((one, "http://one/"), (two, "http://two/")):
            result = judge(signer, (middle,), store)
            assert result.entry is not None
            assert result.entry.ocsp == (url,)
