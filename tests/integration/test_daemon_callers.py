"""Who is asking, over the real socket: processes that change after they have connected."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from agent_world import Daemon, World
from application_parts import Desk
from caller_parts import PYTHON, own_python

SEEN = "GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"
CHANGE = "POST /v1/tokens/none/lock HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
"""A change that fails in a known way when its caller may ask for it: there is no such token."""

BECOME = (
    "os.set_inheritable(s.fileno(), True)\n"
    "os.environ['PYTHONHOME'] = sys.base_prefix\n"
    "os.execv(sys.argv[2], ['other', '-I', '-S', '-c', sys.argv[3], str(s.fileno())])"
)
"""Puts another program in its own place, which goes on with the connection."""

CLIENT = """
import os, socket, sys, time
if sys.argv[1].isdigit():
    s = socket.socket(fileno=int(sys.argv[1]))  # handed on by the program that connected
else:
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])

def ask(request):
    s.sendall(request.encode())
    return answer()

def answer():
    octets = b""
    while b"\\r\\n\\r\\n" not in octets:
        octets += s.recv(65536)
    head, _, body = octets.partition(b"\\r\\n\\r\\n")
    lengths = [line.split(b":")[1] for line in head.split(b"\\r\\n") if line.lower().startswith(b"content-length:")]
    length = int(lengths[0])
    while len(body) < length:
        body += s.recv(65536)
    return body.decode()

"""


def _run(daemon: Daemon, code: str, *arguments: str, program: Path = Path(PYTHON)) -> str:
    command = [str(program), "-I", "-S", "-c", CLIENT + code, str(daemon.socket), *arguments]
    environ = {**os.environ, "PYTHONHOME": sys.base_prefix}
    ran = subprocess.run(command, capture_output=True, timeout=60, check=False, env=environ)
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout.decode()


def test_callers_that_change(world: World) -> None:
    daemon = world.start()
    assert '"code": "token_not_found"' in _run(daemon, f"ask({SEEN!r}); print(ask({CHANGE!r}))")

    # Another program asks over the connection: before anything was asked, and after what changed nothing.
    other = own_python(world.directory, "other")
    for first in ("time.sleep(0.3)\n", f"ask({SEEN!r})\n"):
        said = _run(daemon, first + BECOME, str(other), f"{CLIENT}print(ask({CHANGE!r}))")
        assert '"code": "caller_changed"' in said

    # A child keeps the connection of a process that has ended.
    child = (
        f"ask({SEEN!r})\nparent = os.getpid()\nif os.fork():\n    os._exit(0)\n"
        f"while os.getppid() == parent: time.sleep(0.01)\nprint(ask({CHANGE!r}))"
    )
    assert '"code": "caller_gone"' in _run(daemon, child)

    # The program file is replaced while it runs.
    replaced = f"ask({SEEN!r})\nos.rename(sys.argv[2], sys.argv[2] + '.old')\nprint(ask({CHANGE!r}))"
    assert '"code": "caller_changed"' in _run(daemon, replaced, str(other), program=other)


def test_record_names_the_program_that_changed_something(world: World) -> None:
    daemon = world.start()
    seal = world.authority.make_seal([world.add_signer()])
    with daemon.agent() as agent:
        agent.import_seal(seal)
        caller = agent.records()["records"][-1]["body"]["caller"]
    assert caller["executable"] == PYTHON
    assert caller["sha256"] == hashlib.sha256(Path(PYTHON).read_bytes()).hexdigest()
    assert caller["parent"]


def _request(key: str, name: str) -> str:
    body = json.dumps({"digests": [base64.b64encode(bytes(32)).decode()], "name": name})
    head = f"POST /v1/keys/{key}/signatures HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}Idempotency-Key: {name}\r\nContent-Length: {len(body)}\r\n\r\n{body}"


def test_another_program_in_its_place_while_the_holder_is_asked(world: World) -> None:
    """The holder agreed to what was shown; the process is the same, its unlocked window too, its program is not."""
    desk = Desk(world.directory, world.token.user_pin)
    world.policy = "[limits]\nblind_needs_pairing = false\n"
    world.settings = {"pin": {"source": "pinentry", "pinentry": str(desk.program)}}
    world.add_signer()
    daemon = world.start(environment={"LC_ALL": "en_US.UTF-8"})
    with daemon.agent() as agent:
        (key,) = (each["id"] for each in agent.keys())
    other = own_python(world.directory, "other")
    waits = CLIENT + "print('other', flush=True)\nprint(answer())"
    code = f"print(ask({_request(key, 'first')!r}), flush=True)\ns.sendall({_request(key, 'second')!r}.encode())\n"
    code += "sys.stdin.readline()\n" + BECOME
    command = [PYTHON, "-I", "-S", "-c", CLIENT + code, str(daemon.socket), str(other), waits]
    desk.hesitates(True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert '"signature"' in program.stdout.readline()  # the PIN was the holder's yes
        desk.wait_until_asked(0)
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "other\n"
        desk.hesitates(False)
        assert '"code": "caller_changed"' in program.stdout.readline()
    assert desk.pins == 1
    with daemon.agent() as agent:
        entries = agent.records(0, 1000)["records"]
    assert [each["kind"] for each in entries].count("signed") == 1
    assert entries[-1]["kind"] in ("refused", "failed")
    assert entries[-1]["body"]["reason"] == "caller_changed"
