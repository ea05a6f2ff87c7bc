"""The services of the test bed in their own process, asked by openssl's clients and read by the agent's own code."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asn1crypto import core, crl, ocsp, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509

from sealagent.pki.certificates import Certificate
from sealagent.pki.signatures import parse_algorithm, verify
from sealagent.pki.timestamp import read_token
from testbed.authorities import NAMES, Hierarchy, hierarchy, leaf
from testbed.faults import Fault
from testbed.openssl import FAMILIES, SM2_ID, Credential
from testbed.tsa import POLICY

TESTS = Path(__file__).resolve().parents[1]
NOW = datetime.now(UTC).replace(microsecond=0)
YEAR = (NOW - timedelta(days=30), NOW + timedelta(days=335))
MESSAGE = "某某局公文".encode()


class Bed:
    """The services' process, their address and the authorities behind them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        state = folder / "services.json"
        command = [sys.executable, "-m", "testbed.services", "--folder", str(folder), "--state", str(state)]
        self.log = (folder / "services.log").open("wb")
        self.process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": str(TESTS)}, stdout=self.log, stderr=self.log
        )
        deadline = time.monotonic() + 30
        while not state.is_file():
            assert self.process.poll() is None, (folder / "services.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.url: str = json.loads(state.read_text())["url"]
        self.families = {name: hierarchy(folder, name, self.url, NOW) for name in FAMILIES}

    def close(self) -> None:
        self.process.terminate()
        assert self.process.wait(10) == 0
        self.log.close()
        assert (self.folder / "services.log").read_text() == ""

    def ask(self, path: str, body: bytes | None = None, method: str | None = None, timeout: float = 30) -> bytes:
        request = urllib.request.Request(self.url + path, data=body, method=method)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            octets: bytes = answer.read()
        return octets


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    made = Bed(tmp_path_factory.mktemp("services"))
    yield made
    made.close()


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest, bed: Bed) -> Hierarchy:
    return bed.families[request.param]


def openssl(*arguments: str | Path, status: int = 0, folder: Path | None = None) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, timeout=60, cwd=folder)
    said = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == status, said
    return said


def ocsp_request(family: Hierarchy, certificate: bytes, digest: str = "sha1", nonce: bytes = b"") -> bytes:
    """A request by RFC 6960, the digests over the issuer's name and key."""
    issuer = asn1_x509.Certificate.load(family.signers.der)
    name, key = (hashlib.new(digest, each).digest() for each in (issuer.subject.dump(), _key_octets(issuer)))
    identifier = {
        "hash_algorithm": {"algorithm": digest},
        "issuer_name_hash": name,
        "issuer_key_hash": key,
        "serial_number": asn1_x509.Certificate.load(certificate).serial_number,
    }
    fields: dict[str, Any] = {"request_list": [{"req_cert": identifier}]}
    if nonce:
        fields["request_extensions"] = [{"extn_id": "nonce", "extn_value": core.OctetString(nonce)}]
    return bytes(ocsp.OCSPRequest({"tbs_request": fields}).dump())


def _key_octets(certificate: asn1_x509.Certificate) -> bytes:
    return bytes(certificate.public_key["public_key"])


def basic(answer: bytes) -> ocsp.BasicOCSPResponse:
    response = ocsp.OCSPResponse.load(answer, strict=True)
    assert response["response_status"].native == "successful"
    return response.basic_ocsp_response


def signed_by(response: ocsp.BasicOCSPResponse) -> Certificate | None:
    """The certificate that came along, if its key signed the received octets."""
    certificate = Certificate.from_der(response["certs"][0].dump())
    algorithm = parse_algorithm(response["signature_algorithm"].dump())
    check = verify(
        certificate.public_key, algorithm, response["signature"].native, response["tbs_response_data"].dump()
    )
    return certificate if check.ok else None


def signer(family: Hierarchy, tmp_path: Path, **kind: Any) -> Credential:
    return leaf(family.signers, tmp_path / "signer", [("C", "CN"), ("CN", "签章人")], YEAR, **kind)


# --- OCSP ---


@pytest.mark.parametrize("name", ["rsa", "ec"])
@pytest.mark.parametrize("revoked", [False, True])
def test_openssl_asks_for_a_status(bed: Bed, tmp_path: Path, name: str, revoked: bool) -> None:
    family = bed.families[name]
    made = signer(family, tmp_path, revoked_at=NOW - timedelta(days=2) if revoked else None)
    address = x509.load_der_x509_certificate(made.der).extensions.get_extension_for_class(
        x509.AuthorityInformationAccess
    )
    (url,) = [each.access_location.value for each in address.value if "ocsp" in each.access_location.value]
    (tmp_path / "chain.pem").write_bytes(family.signers.certificate.read_bytes() + family.root.certificate.read_bytes())
    said = openssl(
        *("ocsp", "-issuer", family.signers.certificate, "-cert", _pem(made, tmp_path), "-url", url, "-nonce"),
        *("-CAfile", tmp_path / "chain.pem"),
    )
    assert "Response verify OK" in said
    assert ": revoked" in said if revoked else ": good" in said
    assert "no nonce" not in said
    assert "WARNING" not in said
    if revoked:
        assert "Reason: keyCompromise" in said


def _pem(made: Credential, folder: Path) -> Path:
    path = folder / "certificate.pem"
    openssl("x509", "-inform", "DER", "-in", made.certificate, "-out", path)
    return path


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sm3"])
@pytest.mark.parametrize("by_get", [False, True])
def test_an_answer_is_signed_by_the_responder_the_ca_named(
    bed: Bed, family: Hierarchy, tmp_path: Path, digest: str, by_get: bool
) -> None:
    made = signer(family, tmp_path)
    asked = ocsp_request(family, made.der, digest, b"12345678")
    path = f"/ocsp/{family.family}/signers"
    if by_get:
        answer = bed.ask(f"{path}/{urllib.parse.quote(base64.b64encode(asked), safe='')}")
    else:
        answer = bed.ask(path, asked)
    response = basic(answer)
    responder = signed_by(response)
    assert responder is not None
    assert responder.is_issued_by(Certificate.from_der(family.signers.der))
    data = response["tbs_response_data"]
    (single,) = data["responses"]
    assert single["cert_status"].name == "good"
    assert single["cert_id"].dump() == ocsp.OCSPRequest.load(asked)["tbs_request"]["request_list"][0]["req_cert"].dump()
    assert single["this_update"].native <= datetime.now(UTC) < single["next_update"].native
    assert data["response_extensions"][0]["extn_value"].parsed.native == b"12345678"


def test_a_revocation_is_known_at_once(bed: Bed, family: Hierarchy, tmp_path: Path) -> None:
    made = signer(family, tmp_path)
    path, asked = f"/ocsp/{family.family}/signers", ocsp_request(family, made.der)
    assert basic(bed.ask(path, asked))["tbs_response_data"]["responses"][0]["cert_status"].name == "good"
    bed.ask(f"/crl/{family.family}/signers.crl")
    family.signers.revoke(made.der, NOW - timedelta(hours=1), "cessationOfOperation")
    status = basic(bed.ask(path, asked))["tbs_response_data"]["responses"][0]["cert_status"]
    assert status.chosen.native == {
        "revocation_time": NOW - timedelta(hours=1),
        "revocation_reason": "cessation_of_operation",
    }
    listed = x509.load_der_x509_crl(bed.ask(f"/crl/{family.family}/signers.crl"))
    number = x509.load_der_x509_certificate(made.der).serial_number
    assert listed.get_revoked_certificate_by_serial_number(number) is not None


def test_what_is_not_ours_or_not_a_request_is_refused_by_protocol(bed: Bed, tmp_path: Path) -> None:
    family, other = bed.families["ec"], bed.families["rsa"]
    made = signer(family, tmp_path)
    for body, status in (
        (ocsp_request(other, made.der), "unauthorized"),
        (b"\x30\x80", "malformed_request"),
        (b"", "malformed_request"),
        (ocsp_request(family, made.der)[:-2], "malformed_request"),
    ):
        answer = ocsp.OCSPResponse.load(bed.ask("/ocsp/ec/signers", body))
        assert answer["response_status"].native == status
    unknown = leaf(family.makers, tmp_path / "other", [("CN", "x")], YEAR)
    status = basic(bed.ask("/ocsp/ec/signers", ocsp_request(family, unknown.der)))["tbs_response_data"]["responses"][0]
    assert status["cert_status"].name == "unknown"


# --- time-stamps ---


def stamp_query(digest: str, folder: Path, *options: str) -> bytes:
    (folder / "message").write_bytes(MESSAGE)
    openssl("ts", "-query", "-data", folder / "message", f"-{digest}", "-out", folder / "query", *options)
    return (folder / "query").read_bytes()


@pytest.mark.parametrize("name", ["rsa", "ec"])
@pytest.mark.parametrize("digest", ["sha256", "sha512", "sm3"])
@pytest.mark.parametrize("certificates", [True, False])
def test_openssl_accepts_the_time_stamps(bed: Bed, tmp_path: Path, name: str, digest: str, certificates: bool) -> None:
    family = bed.families[name]
    asked = stamp_query(digest, tmp_path, *(["-cert"] if certificates else []))
    (tmp_path / "reply").write_bytes(bed.ask(f"/tsa/{name}", asked))
    (tmp_path / "tsa.pem").write_text(openssl("x509", "-inform", "DER", "-in", family.tsa.certificate))
    said = openssl(
        *("ts", "-verify", "-queryfile", "query", "-in", "reply", "-CAfile", family.root.certificate),
        *([] if certificates else ["-untrusted", "tsa.pem"]),
        folder=tmp_path,
    )
    assert "Verification: OK" in said


def test_a_token_is_what_the_agent_reads(bed: Bed, family: Hierarchy, tmp_path: Path) -> None:
    answer = tsp.TimeStampResp.load(bed.ask(f"/tsa/{family.family}", stamp_query("sm3", tmp_path, "-cert")))
    assert answer["status"]["status"].native == "granted"
    content = answer["time_stamp_token"]
    token = read_token(content.dump())
    assert token.imprint == hashlib.new("sm3", MESSAGE).digest()
    assert abs(token.time - datetime.now(UTC)) < timedelta(minutes=1)
    (info,) = content["content"]["signer_infos"]
    attributes = info["signed_attrs"].untag().dump()
    key = Certificate.from_der(family.tsa.der).public_key
    oid = info["signature_algorithm"]["algorithm"].dotted
    from sealagent.pki.signatures import algorithm

    chosen = algorithm({"1.2.840.113549.1.1.1": "1.2.840.113549.1.1.11"}.get(oid, oid))
    assert verify(key, chosen, info["signature"].native, attributes).ok
    octets = bytes(content["content"]["encap_content_info"]["content"])
    by_type = {each["type"].native: each["values"][0] for each in info["signed_attrs"]}
    assert by_type["message_digest"].native == hashlib.new(family.tsa.key_type.digest, octets).digest()
    (named,) = by_type["signing_certificate_v2"]["certs"]
    assert named["cert_hash"].native == hashlib.new(family.tsa.key_type.digest, family.tsa.der).digest()
    assert (
        tsp.TSTInfo.load(octets)["nonce"].native
        == tsp.TimeStampReq.load((tmp_path / "query").read_bytes())["nonce"].native
    )


def test_openssl_verifies_the_sm2_token_by_its_parts(bed: Bed, tmp_path: Path) -> None:
    """openssl's ts command cannot be told the SM2 ID; its signature command can."""
    family = bed.families["sm2"]
    content = tsp.TimeStampResp.load(bed.ask("/tsa/sm2", stamp_query("sm3", tmp_path, "-cert")))["time_stamp_token"]
    (info,) = content["content"]["signer_infos"]
    (tmp_path / "attributes").write_bytes(info["signed_attrs"].untag().dump())
    (tmp_path / "value").write_bytes(info["signature"].native)
    openssl("x509", "-inform", "DER", "-in", family.tsa.certificate, "-pubkey", "-noout", "-out", tmp_path / "key")
    said = openssl(
        *("dgst", "-sm3", "-verify", "key", "-sigopt", SM2_ID, "-signature", "value", "attributes"), folder=tmp_path
    )
    assert "Verified OK" in said


@pytest.mark.parametrize(
    ("digest", "options", "failure"),
    [
        ("sha1", (), "bad_alg"),
        ("sha256", ("-tspolicy", "1.2.3"), "unaccepted_policy"),
        ("sha256", ("-tspolicy", POLICY), None),
    ],
)
def test_requests_beyond_the_policy_are_rejected(
    bed: Bed, tmp_path: Path, digest: str, options: tuple[str, ...], failure: str | None
) -> None:
    assert rejection(bed.ask("/tsa/ec", stamp_query(digest, tmp_path, *options))) == failure


@pytest.mark.parametrize("body", [b"", b"\x30\x80", b"\x30\x03\x02\x01\x01", os.urandom(200)])
def test_rubbish_is_rejected_by_protocol(bed: Bed, body: bytes) -> None:
    assert rejection(bed.ask("/tsa/ec", body)) == "bad_data_format"


def test_an_imprint_of_another_length_is_rejected(bed: Bed) -> None:
    imprint = {"hash_algorithm": {"algorithm": "sha256"}, "hashed_message": bytes(20)}
    asked = tsp.TimeStampReq({"version": "v1", "message_imprint": imprint}).dump()
    assert rejection(bed.ask("/tsa/ec", asked)) == "bad_data_format"


def rejection(answer: bytes) -> str | None:
    status = core.load(answer)[0]
    info = tsp.PKIStatusInfo.load(status.dump())
    if info["status"].native == "granted":
        return None
    assert info["status"].native == "rejection"
    (failure,) = info["fail_info"].native
    return str(failure)


# --- CRLs, certificates ---


def test_the_list_verifies_with_the_authority(bed: Bed, family: Hierarchy, tmp_path: Path) -> None:
    revoked = signer(family, tmp_path, revoked_at=NOW - timedelta(days=1))
    octets = bed.ask(f"/crl/{family.family}/signers.crl")
    listed = x509.load_der_x509_crl(octets)
    number = x509.load_der_x509_certificate(revoked.der).serial_number
    assert listed.get_revoked_certificate_by_serial_number(number) is not None
    assert listed.last_update_utc <= datetime.now(UTC) < listed.next_update_utc
    (tmp_path / "list").write_bytes(octets)
    if family.family != "sm2":  # openssl's crl command cannot be told the SM2 ID
        said = openssl(
            "crl", "-inform", "DER", "-in", tmp_path / "list", "-CAfile", family.signers.certificate, "-noout"
        )
        assert "verify OK" in said
    key = Certificate.from_der(family.signers.der).public_key
    outer = crl.CertificateList.load(octets)
    algorithm = parse_algorithm(outer["signature_algorithm"].dump())
    assert verify(key, algorithm, outer["signature"].native, outer["tbs_cert_list"].dump()).ok


def test_authorities_certificates_are_served(bed: Bed, family: Hierarchy) -> None:
    for name in NAMES:
        assert bed.ask(f"/ca/{family.family}/{name}.cer") == family.authority(name).der


@pytest.mark.parametrize(
    "path", ["/", "/ca/ec/nobody.cer", "/crl/dsa/signers.crl", "/ca/..%2Fec/signers.cer", "/faulty/no/ca/ec/root.cer"]
)
def test_what_is_not_there_is_not_found(bed: Bed, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        bed.ask(path)


# --- faults ---


def test_faults_of_an_ocsp_answer(bed: Bed, family: Hierarchy, tmp_path: Path) -> None:
    made = signer(family, tmp_path)
    issuer = Certificate.from_der(family.signers.der)

    def asked(fault: Fault) -> bytes:
        request = ocsp_request(family, made.der, nonce=b"12345678")
        return bed.ask(f"/faulty/{fault}/ocsp/{family.family}/signers", request)

    impostor = basic(asked(Fault.WRONG_SIGNER))
    certificate = signed_by(impostor)
    assert certificate is not None
    assert certificate.is_issued_by(issuer)
    purposes = x509.load_der_x509_certificate(certificate.der).extensions
    with pytest.raises(x509.ExtensionNotFound):
        purposes.get_extension_for_class(x509.ExtendedKeyUsage)
    stale = basic(asked(Fault.STALE))["tbs_response_data"]["responses"][0]
    assert stale["next_update"].native < datetime.now(UTC) - timedelta(days=8)
    other = basic(asked(Fault.OTHER))["tbs_response_data"]["responses"][0]
    assert other["cert_id"]["serial_number"].native != x509.load_der_x509_certificate(made.der).serial_number
    nonce = basic(asked(Fault.NONCE))["tbs_response_data"]["response_extensions"][0]["extn_value"]
    assert nonce.parsed.native != b"12345678"
    assert signed_by(basic(asked(Fault.DAMAGED))) is None
    assert ocsp.OCSPResponse.load(asked(Fault.REFUSED))["response_status"].native == "try_later"


def test_faults_of_a_time_stamp(bed: Bed, family: Hierarchy, tmp_path: Path) -> None:
    query = stamp_query("sm3", tmp_path, "-cert")

    def asked(fault: Fault) -> Any:
        answer = bed.ask(f"/faulty/{fault}/tsa/{family.family}", query)
        return tsp.TimeStampResp.load(answer)["time_stamp_token"]

    good = read_token(tsp.TimeStampResp.load(bed.ask(f"/tsa/{family.family}", query))["time_stamp_token"].dump())
    assert read_token(asked(Fault.OTHER).dump()).imprint != good.imprint
    assert read_token(asked(Fault.STALE).dump()).time < datetime.now(UTC) - timedelta(days=9)
    impostor = x509.load_der_x509_certificate(asked(Fault.WRONG_SIGNER)["content"]["certificates"][0].chosen.dump())
    with pytest.raises(x509.ExtensionNotFound):
        impostor.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    nonces = [
        tsp.TSTInfo.load(bytes(each["content"]["encap_content_info"]["content"]))["nonce"].native
        for each in (asked(Fault.NONCE), asked(Fault.DAMAGED))
    ]
    assert nonces[0] == nonces[1] + 1
    assert rejection(bed.ask(f"/faulty/refused/tsa/{family.family}", query)) == "system_failure"


def test_faults_of_a_list(bed: Bed) -> None:
    stale = x509.load_der_x509_crl(bed.ask("/faulty/stale/crl/ec/signers.crl"))
    assert stale.next_update_utc < datetime.now(UTC) - timedelta(days=8)
    good = x509.load_der_x509_crl(bed.ask("/crl/ec/signers.crl"))
    key = x509.load_der_x509_certificate(bed.families["ec"].signers.der).public_key()
    assert good.is_signature_valid(key)  # type: ignore[arg-type]
    for fault in ("wrong-signer", "damaged"):
        bad = x509.load_der_x509_crl(bed.ask(f"/faulty/{fault}/crl/ec/signers.crl"))
        assert not bad.is_signature_valid(key)  # type: ignore[arg-type]


def test_faults_of_the_connection(bed: Bed) -> None:
    path = "/ca/ec/root.cer"
    good = bed.ask(path)
    assert bed.ask("/faulty/empty" + path) == b""
    assert not bed.ask("/faulty/garbage" + path).startswith(b"\x30")
    with pytest.raises(urllib.error.HTTPError, match="500"):
        bed.ask("/faulty/error" + path)
    begun = time.monotonic()
    assert bed.ask("/faulty/slow" + path + "?seconds=0.5") == good
    assert time.monotonic() - begun >= 0.5
    with pytest.raises(TimeoutError):
        bed.ask("/faulty/hang" + path, timeout=0.5)
    connection = http.client.HTTPConnection(*bed.url.removeprefix("http://").split(":"), timeout=30)  # type: ignore[arg-type]
    connection.request("GET", "/faulty/megabytes" + path)
    answer = connection.getresponse()
    assert answer.getheader("Content-Length") is None
    assert len(answer.read(8 << 20)) == 8 << 20
    connection.close()


def test_a_fault_stays_on_an_address_until_it_is_taken_away(bed: Bed, tmp_path: Path) -> None:
    family = bed.families["ec"]
    request = ocsp_request(family, signer(family, tmp_path).der)
    bed.ask("/faults/ocsp/ec", json.dumps({"fault": "refused"}).encode(), "PUT")
    try:
        assert ocsp.OCSPResponse.load(bed.ask("/ocsp/ec/signers", request))["response_status"].native == "try_later"
        bed.ask("/faults/ocsp/ec/signers", json.dumps({"fault": "slow", "seconds": 0.01}).encode(), "PUT")
        assert basic(bed.ask("/ocsp/ec/signers", request))
        assert json.loads(bed.ask("/faults")) == {
            "/ocsp/ec": {"fault": "refused", "seconds": 0.0},
            "/ocsp/ec/signers": {"fault": "slow", "seconds": 0.01},
        }
        assert bed.ask("/ca/ec/root.cer") == family.root.der
    finally:
        bed.ask("/faults/ocsp/ec", method="DELETE")
        bed.ask("/faults/ocsp/ec/signers", method="DELETE")
    assert basic(bed.ask("/ocsp/ec/signers", request))
    with pytest.raises(urllib.error.HTTPError, match="404"):
        bed.ask("/faults/ocsp/ec", method="DELETE")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"fault": "none"}', b'{"fault": "slow", "seconds": "x"}'])
def test_no_such_fault(bed: Bed, body: bytes) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400"):
        bed.ask("/faults/ocsp/ec", body, "PUT")
    assert json.loads(bed.ask("/faults")) == {}
