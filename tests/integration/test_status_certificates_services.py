"""Certificates asked about over real HTTP: the test bed's responders and lists, honest and with every fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sealagent.pki.certificates import Certificate
from sealagent.pki.revocation import CertificateState, CertificateStatus
from sealagent.pki.trust import TrustStore
from sealagent.status.certificates import build_revocation
from sealagent.status.fetch import Fetcher
from sealagent.status.policy import AskingPolicy, Unavailable
from testbed.authorities import Hierarchy, hierarchy, leaf
from testbed.faults import Fault
from testbed.openssl import FAMILIES

TESTS = Path(__file__).resolve().parents[1]
NOW = datetime.now(UTC).replace(microsecond=0)
"""When the module was loaded: perhaps many minutes before its tests run."""


def present() -> datetime:
    """Return now: the services' answers are of this moment."""
    return datetime.now(UTC).replace(microsecond=0)


SPAN = (NOW - timedelta(days=30), NOW + timedelta(days=300))
HOUR = timedelta(hours=1)
GOOD, REVOKED, UNKNOWN = CertificateState
TIMEOUT = 1.0


class Bed:
    """The services' process, and for each family a good and a revoked certificate with their chains."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        state = folder / "services.json"
        self.log = (folder / "services.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "testbed.services", "--folder", str(folder), "--state", str(state)],
            env={**os.environ, "PYTHONPATH": str(TESTS)},
            stdout=self.log,
            stderr=self.log,
        )
        deadline = time.monotonic() + 60
        while not state.is_file():
            assert self.process.poll() is None, (folder / "services.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.url: str = json.loads(state.read_text())["url"]
        self.chains = {name: self._chains(hierarchy(folder, name, self.url, NOW)) for name in FAMILIES}

    def _chains(self, family: Hierarchy) -> tuple[tuple[Certificate, ...], tuple[Certificate, ...]]:
        above = tuple(Certificate.from_der(each.der) for each in (family.signers, family.root))
        good = leaf(family.signers, self.folder / f"{family.family}-good", [("CN", "Good")], SPAN)
        bad = leaf(
            family.signers, self.folder / f"{family.family}-bad", [("CN", "Bad")], SPAN, revoked_at=NOW - 2 * HOUR
        )
        return (Certificate.from_der(good.der), *above), (Certificate.from_der(bad.der), *above)

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0
        self.log.close()


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    made = Bed(tmp_path_factory.mktemp("bed"))
    yield made
    made.close()


@pytest.fixture
def fetch() -> Iterator[Fetcher]:
    made = Fetcher(TIMEOUT)
    yield made
    made.close()


def ask(
    bed: Bed,
    fetch: Fetcher,
    chain: tuple[Certificate, ...],
    *,
    ocsp: str = "",
    crl: str = "",
    now: datetime | None = None,
) -> CertificateStatus:
    source = build_revocation(
        lambda: TrustStore(()),
        fetch,
        AskingPolicy(),
        ocsp={chain[1].sha256: [bed.url + ocsp]} if ocsp else {},
        crls=[bed.url + crl] if crl else [],
    )
    assert source is not None
    moment = now or present()
    return source.status(chain, moment, moment)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_responders_and_lists_over_http(family: str, bed: Bed, fetch: Fetcher) -> None:
    good, bad = bed.chains[family]
    for places in ({"ocsp": f"/ocsp/{family}/signers"}, {"crl": f"/crl/{family}/signers.crl"}):
        status = ask(bed, fetch, good, **places)
        assert status.state is GOOD, status.detail
        status = ask(bed, fetch, bad, **places)
        assert (status.state, status.reason) == (REVOKED, "key_compromise"), status.detail
        assert status.revoked_at == NOW - 2 * HOUR


@pytest.mark.parametrize("family", list(FAMILIES))
def test_where_the_certificates_say(family: str, bed: Bed, fetch: Fetcher) -> None:
    """The whole chain, each certificate at the places that it names itself; only if that is allowed."""
    good, _ = bed.chains[family]
    for allowed in (True, False):
        source = build_revocation(lambda: TrustStore(()), fetch, AskingPolicy(), use_certificate_urls=allowed)
        assert source is not None
        for index in range(len(good) - 1):
            status = source.status(good[index:], present(), present())
            assert status.state is (GOOD if allowed else UNKNOWN), status.detail
            assert status.asked is allowed


REASONS = {
    Fault.SLOW: "did not answer within",
    Fault.HANG: "did not answer within",
    Fault.GARBAGE: "",
    Fault.EMPTY: "",
    Fault.MEGABYTES: "more than",
    Fault.ERROR: "500",
    Fault.WRONG_SIGNER: "",
    Fault.STALE: "not recent enough",
    Fault.OTHER: "",
    Fault.NONCE: "nonce",
    Fault.DAMAGED: "signature",
    Fault.REFUSED: "try_later",
}


@pytest.mark.parametrize("fault", list(Fault))
def test_a_responder_with_a_fault_is_not_believed(fault: Fault, bed: Bed, fetch: Fetcher) -> None:
    """Unknown, for the right reason and within the time allowed; and the list is asked in its place."""
    good, bad = bed.chains["sm2"]
    begun = time.monotonic()
    status = ask(bed, fetch, good, ocsp=f"/faulty/{fault}/ocsp/sm2/signers")
    assert time.monotonic() - begun < TIMEOUT + 10
    assert status.state is UNKNOWN
    assert REASONS[fault] in status.detail
    assert status.detail
    with_list = Fetcher(TIMEOUT)  # the first one gives a host that kept it waiting a rest
    try:
        for chain, state in ((good, GOOD), (bad, REVOKED)):
            places = {"ocsp": "/faulty/garbage/ocsp/sm2/signers", "crl": "/crl/sm2/signers.crl"}
            assert ask(bed, with_list, chain, **places).state is state
    finally:
        with_list.close()


@pytest.mark.parametrize("fault", [each for each in Fault if each not in (Fault.NONCE, Fault.REFUSED)])
def test_a_list_with_a_fault_is_not_believed(fault: Fault, bed: Bed, fetch: Fetcher) -> None:
    good, _ = bed.chains["sm2"]
    status = ask(bed, fetch, good, crl=f"/faulty/{fault}/crl/sm2/signers.crl")
    assert (status.state, bool(status.detail)) == (UNKNOWN, True)


def test_an_absent_service_and_what_was_kept_of_it(bed: Bed, tmp_path: Path) -> None:
    good, bad = bed.chains["sm2"]
    policy = AskingPolicy(Unavailable.OFFLINE, offline=timedelta(hours=48))
    places = {good[1].sha256: [f"{bed.url}/ocsp/sm2/signers"]}
    first = Fetcher(TIMEOUT)
    source = build_revocation(lambda: TrustStore(()), first, policy, ocsp=places, directory=tmp_path)
    assert source is not None
    assert [source.status(chain, present(), present()).state for chain in (good, bad)] == [GOOD, REVOKED]
    first.close()  # nobody can be asked from now on
    again = build_revocation(lambda: TrustStore(()), first, policy, ocsp=places, directory=tmp_path)
    assert again is not None
    for each in (source, again):
        later = each.status(good, NOW, present() + 24 * HOUR)
        assert (later.state, later.stale) == (GOOD, True), later.detail
        assert each.status(bad, NOW, present() + 24 * HOUR).state is REVOKED
        assert each.status(good, NOW, present() + 49 * HOUR).state is UNKNOWN
