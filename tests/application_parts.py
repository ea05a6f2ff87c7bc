"""A second program, an application of the holder's, and the holder before a pinentry: for tests over a real daemon."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from agent_world import until

AGENT = Path(__file__).resolve().parents[1] / "agent"

_CHILD = """
import base64, json, sys
from datetime import datetime
from sealagent.client import Agent, AgentError
agents = {}
for line in sys.stdin:
    asked = json.loads(line)
    try:
        token = asked["token"], asked["origin"]
        if token not in agents:
            agents[token] = Agent(sys.argv[1], 60, token=asked["token"])
            if asked["origin"]:
                agents[token]._transport._headers["SealAgent-Origin"] = asked["origin"]
        for field in ("not_before", "expires"):
            if field in asked["named"]:
                asked["named"][field] = datetime.fromisoformat(asked["named"][field])
        arguments = asked["arguments"]
        if asked["do"] == "sign_digests":
            arguments[0] = [base64.b64decode(each) for each in arguments[0]]
        done = getattr(agents[token], asked["do"])(*arguments, **asked["named"])
        if asked["do"] == "sign_digests":
            done = [{"signature": base64.b64encode(each.signature).decode(), "receipt": each.receipt} for each in done]
        answer = {"done": done}
    except AgentError as error:
        answer = {"code": error.code, "problem": error.problem}
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):
    """What the agent answered instead."""

    def __init__(self, code: str, problem: dict[str, Any]) -> None:
        super().__init__(code)
        self.code = code
        self.problem = problem


class Program:
    """A program file of its own (a copy of the interpreter) that runs and asks the agent what a test tells it to.

    :param path: where its file is put, unless it is there.
    """

    def __init__(self, path: Path, socket: Path) -> None:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(sys.executable), path)
        self.path = path
        self.origin: str | None = None
        """The browser extension that it says it asks for."""
        self._turn = threading.Lock()
        environment = {
            "PYTHONHOME": sys.base_prefix,
            "PYTHONPATH": os.pathsep.join([str(AGENT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PATH": "/usr/bin:/bin",
        }
        self.process = subprocess.Popen(
            [str(path), "-c", _CHILD, str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __call__(self, do: str, *arguments: Any, token: str | None = None, **named: Any) -> Any:
        """Call a method of the SDK in the program and return what it returned. :raises Refused:"""
        with self._turn:
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            asked = {"do": do, "arguments": arguments, "named": named, "token": token, "origin": self.origin}
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise Refused("ended", {})
        answer = json.loads(line)
        if "code" in answer:
            raise Refused(answer["code"], answer["problem"])
        return answer["done"]

    def fails(self, do: str, *arguments: Any, **named: Any) -> str:
        """Return the code of the error that it gets."""
        try:
            done = self(do, *arguments, **named)
        except Refused as refused:
            return refused.code
        raise AssertionError(f"it was not refused: {done}")

    def pair(self, name: str) -> tuple[dict[str, Any], str]:
        """Pair it; return the application and its token."""
        done = self("complete_pairing", self("start_pairing", name))
        return done["application"], done["token"]

    def sign(self, key: str, token: str | None, digests: int = 1, **named: Any) -> list[dict[str, Any]]:
        """Sign digests; return the receipts."""
        texts = [base64.b64encode(bytes([number]) * 32).decode() for number in range(digests)]
        return [each["receipt"] for each in self("sign_digests", texts, key=key, token=token, **named)]


@dataclass
class Desk:
    """The holder at a pinentry, who answers what the test says, and what was shown."""

    folder: Path
    pin: str
    program: Path = field(init=False)

    def __post_init__(self) -> None:
        self.program = self.folder / "pinentry"
        heard, answer, hold = (shlex.quote(str(self.folder / name)) for name in ("heard", "answer", "hold"))
        self.program.write_text(
            "#!/bin/sh\necho OK hello\n"
            "while read -r line; do\n"
            f"  printf '%s\\n' \"$line\" >> {heard}\n"
            '  case "$line" in\n'
            # No yes counts that comes sooner than a person can read.
            f"  CONFIRM*) sleep 0.55; while [ -e {hold} ]; do sleep 0.02; done; cat {answer};;\n"
            f"  GETPIN) echo 'D {self.pin}'; echo OK;;\n"
            "  BYE) echo OK; exit 0;;\n"
            "  *) echo OK;;\n  esac\ndone\n"
        )
        self.program.chmod(0o755)
        self.answers(True)

    def answers(self, yes: bool) -> None:
        """Say what the holder answers from now on."""
        (self.folder / "answer").write_text("OK\n" if yes else "ERR 83886179 cancelled\n")

    def hesitates(self, so: bool) -> None:
        """Say whether the holder leaves questions open for now."""
        hold = self.folder / "hold"
        if so:
            hold.touch()
        else:
            hold.unlink(missing_ok=True)

    @property
    def _lines(self) -> list[str]:
        heard = self.folder / "heard"
        return heard.read_text().splitlines() if heard.exists() else []

    @property
    def asked(self) -> int:
        """How often the holder was asked to agree to something."""
        return sum(line.startswith("CONFIRM") for line in self._lines)

    @property
    def pins(self) -> int:
        """How often for a PIN."""
        return self._lines.count("GETPIN")

    @property
    def shown(self) -> str:
        """What was shown last, without the formatting of Assuan."""
        texts = [line.partition(" ")[2] for line in self._lines if line.startswith("SETDESC ")]
        return unquote(texts[-1])

    def wait_until_asked(self, before: int) -> None:
        """Wait until one more question than ``before`` was asked."""
        until(lambda: self.asked > before, 20)
