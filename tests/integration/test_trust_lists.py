"""Trust lists with a real daemon: a file sealed in another region counts while its list is in, and not otherwise."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from agent_world import Daemon, TestAuthority, World, in_background, until
from cli_parts import Shell, command, has_no_control
from sample_seals import identity
from sealagent.api import messages_trust as messages
from sealagent.client import Agent, AgentError, invisible
from sealagent.pki.trustlist import ListedCertificate
from softhsm2_fixtures import SoftHsm
from tmux_parts import Pane
from trust_parts import MONTH, Publisher, listed, now

CHINESE = {"LANG": "zh_CN.UTF-8"}
SEAL = "上海某公司公章"


@dataclass
class Region:
    """Another region: its authority, the unit that publishes its list, a seal and a file sealed there."""

    authority: TestAuthority
    publisher: Publisher
    stranger: Publisher
    seal: bytes
    document: bytes
    sealed_at: datetime

    @property
    def id(self) -> str:
        """Name of the list."""
        return self.publisher.list_id

    @property
    def maker(self) -> bytes:
        return self.authority.maker.public_bytes(Encoding.DER)

    @property
    def root(self) -> bytes:
        return self.authority.root.public_bytes(Encoding.DER)

    def entries(self, **of_maker: Any) -> list[ListedCertificate]:
        """Return the maker and the CA. :param of_maker: class and withdrawal of the maker."""
        maker = listed(self.maker, "maker", **({"since": now() - MONTH} | of_maker))
        return [maker, listed(self.root, "ca", trust_class="commercial", since=now() - MONTH)]

    def publish(self, sequence: int = 1, **changes: Any) -> bytes:
        return self.publisher.publish(sequence, **({"entries": self.entries()} | changes))


@pytest.fixture(scope="module")
def region(softhsm: SoftHsm, vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Region:
    authority = TestAuthority(place="Shanghai")
    token = softhsm.new_token("上海钥匙")
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        world = World(Path(directory), token, authority)
        seal = authority.make_seal([world.add_signer()], name=SEAL, es_id="31000000000001")
        token.add_data(seal, label="seal")
        try:
            with world.start().agent() as agent:
                sealed = agent.seal_document(vectors / "helloworld.ofd", seal=SEAL, placements=[invisible()])
                (signature,) = agent.verify_document(sealed.document)["signatures"]
        finally:
            world.close()
    token.destroy()
    folder = tmp_path_factory.mktemp("units")
    units = [identity(folder, "sm2", name) for name in ("Shanghai Unit", "Somebody")]
    named = ("shanghai", "310000", "上海市", "上海市印章制作管理中心")
    publishers = [Publisher(unit.der, unit.sign, *named) for unit in units]
    sealed_at = datetime.fromisoformat(signature["signed_at"])  # the receipt's time is that of the outcome
    return Region(authority, *publishers, seal, sealed.document, sealed_at)


@dataclass
class Here:
    """The daemon of this region, and a shell beside it."""

    world: World
    daemon: Daemon
    shell: Shell

    def agent(self) -> Agent:
        return self.daemon.agent()

    def verdict(self, region: Region) -> tuple[str, list[str]]:
        """Return what the daemon says of the file, and why."""
        with self.agent() as agent:
            report = agent.verify_document(region.document, name="a.ofd")
        return report["verdict"], [reason["code"] for each in report["signatures"] for reason in each["reasons"]]

    def file(self, name: str, data: bytes) -> Path:
        path = self.world.directory / name
        path.write_bytes(data)
        return path


_numbers = itertools.count(1)


def there(world: World) -> Here:
    """Start a daemon of the test's own."""
    daemon = world.start()
    return Here(world, daemon, Shell.of(daemon))


@pytest.fixture(scope="module")
def office(softhsm: SoftHsm, authority: TestAuthority) -> Iterator[Here]:
    token = softhsm.new_token("本地钥匙")
    with tempfile.TemporaryDirectory(prefix="seal") as directory:
        world = World(Path(directory), token, authority)
        yield there(world)
        world.close()
    token.destroy()


@pytest.fixture
def here(office: Here, region: Region) -> Iterator[Here]:
    """Return the module's daemon with no list in force; each test has a list of its own: names are remembered."""
    region.publisher.list_id = region.stranger.list_id = f"shanghai-{next(_numbers)}"
    yield office
    with office.agent() as agent:
        for item in agent.trust()["lists"]:
            agent.remove_trust_list(item["id"])


def refused(agent_call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(AgentError) as caught:
        agent_call(*arguments, **named)
    return caught.value.code


NOT_TRUSTED = ("indeterminate", ["signer_not_trusted", "maker_not_trusted"])


def test_a_file_of_another_region_counts_once_its_list_is_in(here: Here, region: Region) -> None:
    assert here.verdict(region) == NOT_TRUSTED
    with here.agent() as agent:
        agent.import_seal(region.seal)
        assert agent.seal(SEAL)["verdict"] == "indeterminate"
        added = agent.add_trust_list(region.publish(), region.publisher.sha256)
        assert (added["id"], added["sequence"], added["stale"], added["origin"]) == (region.id, 1, False, "added")
        assert (added["roles"], added["states"]) == ({"maker": 1, "ca": 1}, {"recognised": 2})
        assert added["classes"] == {"e-government": 1, "commercial": 1}
        assert agent.seal(SEAL)["verdict"] == "valid", "at once, also for seals that were judged before"
        report = agent.verify_document(region.document)
        assert report["verdict"] == "valid"
        (signature,) = report["signatures"]
        assert signature["trust"]["list"] == region.id
        assert (signature["trust"]["region"], signature["trust"]["class"]) == ("310000", "commercial")
        agent.remove_trust_list(region.id)
        assert agent.seal(SEAL)["verdict"] == "indeterminate"
    assert here.verdict(region) == NOT_TRUSTED


def test_a_withdrawn_maker_counts_for_what_it_made_before(here: Here, region: Region) -> None:
    with here.agent() as agent:
        agent.add_trust_list(region.publish(), region.publisher.sha256)
        # The seal was made ten days ago.
        agent.update_trust_list(region.id, region.publish(2, entries=region.entries(withdrawn=now())))
        assert here.verdict(region) == ("valid", [])
        before = now() - timedelta(days=20)
        agent.update_trust_list(region.id, region.publish(3, entries=region.entries(withdrawn=before)))
        assert agent.trust_list(region.id)["entries"][0]["state"] == "withdrawn"
    assert here.verdict(region) == ("invalid", ["maker_trust_withdrawn"])


def test_a_ca_withdrawn_before_the_signature_no_longer_vouches(here: Here, region: Region) -> None:
    with here.agent() as agent:
        agent.add_trust_list(region.publish(), region.publisher.sha256)
        for sequence, since in ((2, region.sealed_at + timedelta(seconds=1)), (3, region.sealed_at)):
            entries = [region.entries()[0], listed(region.root, "ca", withdrawn=since)]
            agent.update_trust_list(region.id, region.publish(sequence, entries=entries))
            expected = ("valid", []) if sequence == 2 else ("invalid", ["signer_trust_withdrawn"])
            assert here.verdict(region) == expected


def test_a_role_that_is_not_listed_is_not_given(here: Here, region: Region) -> None:
    entries = [listed(region.maker, "status"), listed(region.root, "maker", "tsa")]
    with here.agent() as agent:
        agent.add_trust_list(region.publish(entries=entries), region.publisher.sha256)
    assert here.verdict(region) == ("indeterminate", ["signer_not_trusted"]), "the root vouches for the maker only"


def test_internal_trust_shows_everywhere(here: Here, region: Region) -> None:
    data = region.publish(entries=region.entries(trust_class="internal"))
    assert here.shell("trust", "add", here.file("a.p7m", data), "--signer", region.publisher.sha256).status == 0
    report = here.shell("document", "verify", here.file("a.ofd", region.document), "--json").json
    assert "internal_trust" in [note["code"] for note in report["signatures"][0]["notes"]]
    assert "INTERNAL" in here.shell("trust", "list").out
    assert "内部" in here.shell("trust", "show", region.id, **CHINESE).out
    assert here.shell("trust", "show", region.id, "--json").json["entries"][0]["class"] == "internal"


def test_what_may_not_come_in_is_refused_with_its_reason_and_on_record(here: Here, region: Region) -> None:
    own, other = region.publisher.sha256, region.stranger.sha256
    good = region.publish(5)
    with here.agent() as agent:
        before = agent.records()["size"]
        add, update = agent.add_trust_list, agent.update_trust_list
        assert refused(add, good, other) == "trust_list_signer"
        assert refused(add, good[:-1], own) == "signed_message_invalid"
        assert refused(add, region.publish(5, issued_at=now() + MONTH), own) == "trust_list_invalid"
        assert refused(update, region.id, good) == "trust_list_not_found"
        add(good, own)
        assert refused(update, region.id, region.publish(4)) == "trust_list_rolled_back"
        assert refused(update, region.id, region.publish(5, unit="另一个单位")) == "trust_list_conflict"
        signed_by_another = region.stranger.publish(6, entries=region.entries())
        assert refused(update, region.id, signed_by_another) == "trust_list_signer"
        began = region.publisher.certificate.not_before
        stale = region.publish(6, issued_at=began, next_update=began + timedelta(seconds=1))
        until(lambda: now() > began + timedelta(seconds=1))
        assert refused(update, region.id, stale) == "trust_list_stale"
        assert refused(update, "beijing", region.publish(6)) == "request_invalid"
        assert refused(add, region.publish(6), own) == "trust_list_exists"
        agent.remove_trust_list(region.id)
        assert refused(agent.remove_trust_list, region.id) == "trust_list_not_found"
        assert refused(add, region.publish(4), own) == "trust_list_rolled_back"
        assert refused(add, signed_by_another, other) == "trust_list_signer"
        add(signed_by_another, other, new_signer=True)
        records = agent.records(after=before, limit=1000)["records"]
    kinds = [(each["kind"], each["body"].get("operation"), each["body"].get("reason")) for each in records]
    assert kinds.count(("intent", "add_trust_list", None)) == kinds.count(("admin", "add_trust_list", None)) == 2
    assert kinds.count(("intent", "remove_trust_list", None)) == 1
    refusals = [reason for kind, _, reason in kinds if kind == "refused"]
    assert refusals.count("trust_list_signer") == 3
    assert refusals.count("trust_list_rolled_back") == 2
    assert {"trust_list_conflict", "trust_list_not_found", "trust_list_exists", "signed_message_invalid"} <= {*refusals}
    (last,) = [each["body"] for each in records[-1:]]
    assert last["trust_list"] | {"message_sha256": ""} == {
        "message_sha256": "",
        "confirmed_signer": other,
        "list": region.id,
        "sequence": 6,
        "region": "310000",
        "unit": "上海市印章制作管理中心",
        "size": 2,
        "signer": other,
        "content_sha256": last["trust_list"]["content_sha256"],
    }


def test_a_list_that_becomes_stale_vouches_for_nothing_until_it_is_updated(here: Here, region: Region) -> None:
    with here.agent() as agent:
        short = region.publish(1, next_update=now() + timedelta(seconds=4))
        agent.add_trust_list(short, region.publisher.sha256)
        assert here.verdict(region) == ("valid", [])
        until(lambda: agent.trust()["lists"][0]["stale"])
        verdict, reasons = here.verdict(region)
        assert (verdict, {*reasons}) == ("indeterminate", {"trust_list_stale"})
        shown = here.shell("trust", "list")
        assert "OUT OF DATE" in shown.out
        assert "trust update" in shown.err
        assert "已过期" in here.shell("trust", "list", **CHINESE).out
        agent.update_trust_list(region.id, region.publish(2))
    assert here.verdict(region) == ("valid", [])


def test_lists_outlive_the_daemon_and_damage_is_told(world: World, region: Region) -> None:
    here = there(world)
    with here.agent() as agent:
        agent.add_trust_list(region.publish(3), region.publisher.sha256)
    here.daemon.stop()
    here.daemon = here.world.start()
    assert here.verdict(region) == ("valid", [])
    here.daemon.stop()
    file = here.daemon.state / "trust" / f"{region.id}.list"
    octets = bytearray(file.read_bytes())
    octets[-1] ^= 1
    file.write_bytes(octets)
    here.daemon = here.world.start()
    here.shell = Shell.of(here.daemon)
    assert here.verdict(region) == NOT_TRUSTED
    for words in (("trust", "list"), ("seal", "list"), ("doctor",)):
        assert f"trust list {region.id}: " in here.shell(*words).err + here.shell(*words).out, words
    assert here.shell("trust", "update", here.file("old", region.publish(2))).status == 6
    assert here.shell("trust", "update", here.file("new", region.publish(4))).status == 0
    assert here.verdict(region) == ("valid", [])


def test_the_administrators_folder(world: World, region: Region) -> None:
    folder = world.directory / "trust-lists"
    folder.mkdir()
    world.settings = {"trust": {"lists": [str(folder)], "list_signers": [region.publisher.sha256]}}
    here = there(world)
    assert here.verdict(region) == NOT_TRUSTED
    (folder / "shanghai.p7m").write_bytes(region.publish(2))
    (folder / "beijing.p7m").write_bytes(region.stranger.publish(1, id="beijing"))
    shown = here.shell("trust", "list")
    assert "administrator's" in shown.out
    assert "trust.list_signers" in shown.err
    assert here.verdict(region) == ("valid", []), "whoever looks need not wait"
    with here.agent() as agent:
        assert refused(agent.remove_trust_list, region.id) == "trust_list_read_only"
        assert refused(agent.update_trust_list, region.id, region.publish(3)) == "trust_list_read_only"
        (folder / "shanghai.p7m").write_bytes(region.publish(1))
        assert agent.trust()["lists"] == []
        assert any("older than version 2" in fault for fault in agent.trust()["faults"])
    assert here.verdict(region) == NOT_TRUSTED


def test_a_large_list_passes_the_socket_and_a_larger_one_does_not(here: Here, region: Region) -> None:
    """Lists have a bound of their own: limits.json_bytes (1 MiB) is far below 4 MiB in base64."""
    urls = tuple(f"http://crl.example/{'x' * 990}{number}" for number in range(8))
    many = [listed(region.authority.issue(region.authority.key, f"CA {each}"), "ca", crls=urls) for each in range(100)]
    with here.agent() as agent:
        added = agent.add_trust_list(region.publish(entries=[*region.entries(), *many]), region.publisher.sha256)
        assert added["size"] == 102
        assert len(json.dumps(agent.trust_list(region.id))) > 800_000
        assert here.verdict(region) == ("valid", [])
        assert refused(agent.update_trust_list, region.id, bytes(4 << 20)) == "signed_message_invalid"
        assert refused(agent.update_trust_list, region.id, bytes(5 << 20)) == "body_too_large"


def test_answers_are_as_documented(here: Here, region: Region) -> None:
    with here.agent() as agent:
        added = agent.add_trust_list(region.publish(next_signers=["ab" * 32]), region.publisher.sha256)
        messages.TrustListOut.model_validate(added)
        messages.TrustListsOut.model_validate(agent.trust())
        messages.TrustListEntriesOut.model_validate(agent.trust_list(region.id))
        assert refused(agent.trust_list, "../shanghai") == "trust_list_not_found"
        assert refused(agent.add_trust_list, b"", "ab") == "request_invalid"
        removed = agent.remove_trust_list(region.id)
    messages.TrustListRemovedOut.model_validate(removed)


def test_a_change_is_an_event(here: Here, region: Region) -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    with here.daemon.agent() as listener, here.agent() as agent:
        events = listener.events()

        def add() -> None:
            time.sleep(0.3)
            agent.add_trust_list(region.publish(), region.publisher.sha256)

        thread, _ = in_background(add)
        for name, data in events:
            seen.append((name, data))
            if name == "trust_changed":
                break
        thread.join()
    assert seen[-1] == ("trust_changed", {"act": "add", "list": region.id, "sequence": 1})


# The command line


def test_the_command_line(here: Here, region: Region) -> None:
    shell = here.shell
    first = here.file("上海.p7m", region.publish(1, next_signers=["ab" * 32], status_urls=["http://status.example"]))
    colons = ":".join(region.publisher.sha256[place : place + 2].upper() for place in range(0, 64, 2))
    done = shell("trust", "add", first, "--signer", f"sha256 Fingerprint={colons}")
    assert done.status == 0, done.err
    assert "上海市印章制作管理中心" in done.out
    shown = shell("trust", "list")
    assert [line.split()[0] for line in shown.out.splitlines()] == ["LIST", region.id]
    assert "in force" in shown.out
    assert shell("trust", "list", "--json").json["lists"][0]["sequence"] == 1
    shown = shell("trust", "show", region.id)
    for text in (
        "Shanghai Maker",
        "Shanghai Root",
        "e-government",
        "commercial",
        "recognised",
        "http://status.example",
    ):
        assert text in shown.out
    assert "ab" * 32 in shown.out
    assert "制章者" in shell("trust", "show", region.id, **CHINESE).out
    withdrawn = region.publish(2, entries=region.entries(withdrawn=now()))
    done = shell("trust", "update", here.file("2", withdrawn), "--json")
    assert (done.status, done.json["sequence"]) == (0, 2)
    assert "WITHDRAWN" in shell("trust", "show", region.id).out
    assert "已撤销认可" in shell("trust", "show", region.id, **CHINESE).out
    done = shell("trust", "update", first, here.file("3", region.publish(3)))
    assert done.status == 6, "one was refused"
    assert "trust_list_rolled_back" in done.err
    assert "version 3" in done.out, "the other came in"
    assert shell("trust", "remove", region.id).status == 0
    assert shell("trust", "show", region.id).status == 1
    done = shell("trust", "add", first, "--signer", region.publisher.sha256)
    assert (done.status, "trust_list_rolled_back" in done.err) == (6, True)
    done = shell("trust", "add", first, "--signer", region.publisher.sha256, **CHINESE)
    assert "信任列表版本回退" in done.err


def test_the_signer_may_be_named_by_its_certificate(here: Here, region: Region) -> None:
    data = here.file("a", region.publish())
    own, other = (here.file(each.sha256, each.der) for each in (region.publisher, region.stranger))
    done = here.shell("trust", "add", data, "--signer", other)
    assert (done.status, "trust_list_signer" in done.err) == (6, True)
    assert here.shell("trust", "add", data, "--signer", own).status == 0
    for wrong in ("ab", data, here.world.directory / "nowhere"):
        assert here.shell("trust", "add", data, "--signer", wrong).status == 2


def test_without_a_terminal_the_signer_must_be_named(here: Here, region: Region) -> None:
    done = here.shell("trust", "add", here.file("a", region.publish()))
    assert done.status == 2
    assert "--signer" in done.err
    assert here.shell("trust", "list", "--json").json["lists"] == []


def test_what_is_no_list_is_named_before_anybody_is_asked(here: Here, region: Region) -> None:
    done = here.shell("trust", "update", here.file("a", b"nothing"))
    assert (done.status, "signed_message_invalid" in done.err) == (1, True)
    assert here.shell("trust", "add", "nowhere", "--signer", "ab" * 32).status == 2


@pytest.mark.parametrize(("answer", "status", "lists"), [("y", 0, 1), ("n", 6, 0), ("", 6, 0)])
def test_in_a_terminal_the_signer_is_shown_and_confirmed(
    here: Here, region: Region, answer: str, status: int, lists: int
) -> None:
    file = here.file("a.p7m", region.publish(entries=region.entries(trust_class="internal")))
    script = " ".join([*command("trust", "add", file), "; echo ended $?"])
    pane = Pane(here.world.directory, ["sh", "-c", script], here.shell.environment(PYTHONUTF8="1"))
    try:
        pane.shows("[y/N]")
        for text in (region.publisher.sha256, "Shanghai Unit", "310000", "Shanghai Maker", "INTERNAL", "entries: 2"):
            assert text in pane.screen
        pane.type(answer)
        pane.shows(f"ended {status}")
    finally:
        pane.close()
    with here.agent() as agent:
        assert len(agent.trust()["lists"]) == lists


def test_nothing_from_a_list_reaches_a_terminal_unclean(here: Here, region: Region) -> None:
    """Names in certificates hold anything; those of the list itself are refused if they do."""
    nasty = region.authority.issue(region.authority.key, "CA\x1b[2J\r\nok")
    data = region.publish(entries=[listed(nasty, "ca")])
    assert here.shell("trust", "add", here.file("a", data), "--signer", region.publisher.sha256).status == 0
    for words in (("trust", "list"), ("trust", "show", region.id), ("trust", "show", region.id, "--json")):
        done = here.shell(*words)
        assert done.status == 0
        assert has_no_control(done.out)
        assert has_no_control(done.err)
