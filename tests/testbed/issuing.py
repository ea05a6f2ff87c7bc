"""Seals of the plan, brought into their states by the makers' own command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealagent.maker.archive import Archive
from sealagent.maker.designs import OrganisationSeal
from sealagent.maker.layouts import draw
from testbed.agents import pem
from testbed.makers import Commands, Maker
from testbed.plan import SEALS, SealPlan, credit_code

__all__ = ["EXPIRY", "SealMade", "issue"]

EXPIRY = timedelta(seconds=10)
"""Life of a seal that is to have expired: enough to make, file and deliver it."""


@dataclass(frozen=True, slots=True)
class SealMade:
    """A seal in the world."""

    plan: SealPlan
    region_name: str
    es_id: str
    sm3: str
    """Of the whole file, hexadecimal."""
    file: Path
    """``.esl``."""
    valid_until: datetime

    def as_json(self) -> dict[str, Any]:
        """Return what a tester is told."""
        return {
            "name": self.plan.name,
            "es_id": self.es_id,
            "sm3": self.sm3,
            "file": str(self.file),
            "region": self.plan.region,
            "state": self.plan.state,
            "reasons": list(self.plan.reasons),
            "key": self.plan.key,
            "version": self.plan.version,
            "list_type": self.plan.list_type,
            "on_token": self.plan.on_token,
        }


def issue(maker: Maker, run: Commands, certificates: Mapping[str, bytes], token: str, holder: Path) -> list[SealMade]:
    """Make the seals that the plan has for a unit.

    :param certificates: of the holder's keys, by their names.
    :param token: label of the holder's token that one of the seals goes onto; ``holder`` the socket of that agent.
    """
    owners = sorted({plan.owner for plan in SEALS})
    made = []
    run("init")
    for plan in SEALS:
        if plan.region == maker.plan.region:
            code = credit_code(plan.region, 1 + owners.index(plan.owner))
            made += _issue_one(maker, run, plan, code, certificates[plan.key], token, holder)
    return made


def _issue_one(
    maker: Maker, run: Commands, plan: SealPlan, code: str, certificate: bytes, token: str, holder: Path
) -> list[SealMade]:
    place = maker.folder / "seals" / plan.name
    place.mkdir(parents=True)
    signer = place / "signer.pem"
    signer.write_text(pem(certificate))
    picture = place / "seal.png"
    picture.write_bytes(draw(OrganisationSeal(plan.owner, _line(plan))).png())
    about: list[str | Path] = ["--name", plan.name, *_kind(plan), "--certificate", signer]
    application = run(
        *("apply", "--applicant", plan.owner, "--credit-code", code, "--approval", "测试批准书1号"),
        *about,
    )["application"]
    until = ["--until", (datetime.now(UTC) + EXPIRY).isoformat(timespec="seconds")] if plan.expires else []
    version = ["--version", str(plan.version), "--list-type", str(plan.list_type)]
    row = run("make", str(application), "--picture", picture, "--size", "40x40", *version, *until)
    seal = _Working(maker, run, place, row["es_id"])
    match plan.state:
        case "made":
            pass
        case "filed":
            seal.file()
        case "valid" if plan.on_token:
            seal.file()
            run("deliver", seal.es_id, "--token", token, "--socket", holder)
        case "superseded":
            seal.deliver()
            again = run("remake", seal.es_id, "--reason", plan.reason, "--certificate", signer)
            successor = _Working(maker, run, place, again["es_id"])
            successor.deliver()
            new = replace(plan, state="valid", reason="", reasons=())
            return [seal.made(plan, row), successor.made(new, again)]
        case state:
            seal.deliver()
            if state != "valid":
                asker = ["--asked-by", "owner"] if state == "cancelled" else []
                run(_COMMANDS[state], seal.es_id, "--reason", plan.reason, *asker)
    return [seal.made(plan, row)]


_COMMANDS = {"suspended": "suspend", "cancelled": "cancel", "lost": "lost", "invalid": "invalidate"}


@dataclass(frozen=True, slots=True)
class _Working:
    """A seal in the register."""

    maker: Maker
    run: Commands
    place: Path
    es_id: str

    def file(self) -> None:
        self.run("file", self.es_id)

    def deliver(self) -> None:
        self.file()
        self.run("deliver", self.es_id, "-o", self._esl)

    @property
    def _esl(self) -> Path:
        return self.place / f"{self.es_id}.esl"

    def made(self, plan: SealPlan, row: Mapping[str, Any]) -> SealMade:
        if not self._esl.is_file():  # not handed over as a file: for testers, out of the archive of the unit
            self._esl.write_bytes(Archive(self.maker.folder / "state" / "archive").get(row["sm3"]))
        until = datetime.fromisoformat(row["valid_until"])
        return SealMade(plan, self.maker.plan.region_name, self.es_id, row["sm3"], self._esl, until)


def _line(plan: SealPlan) -> str:
    """Return what the picture says below the star: the kind of seal, without what the test bed says of its state."""
    line = plan.name.removeprefix(plan.owner).partition("（")[0]
    return "" if line == "公章" else line


def _kind(plan: SealPlan) -> list[str]:
    for word, kind in (("财务", "finance"), ("合同", "contract")):
        if word in plan.name:
            return ["--type", kind, "--category", "business"]
    return ["--type", "other", "--category", "internal-body"] if "专用章" in plan.name else []
