"""Run as the first process of a pid namespace of its own: a process with the pid of one that connected and ended.

Prints what the agent makes of it as JSON. ``unshare --pid --fork --mount-proc python pid_reuse.py FOLDER``
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from sealagent.callers import peer
from sealagent.callers.processes import look_at, moment
from sealagent.callers.programs import Programs
from sealagent.callers.watch import ended
from sealagent.errors import SealAgentError


def code_of(work: Callable[[], Any]) -> Any:
    try:
        found = work()
    except SealAgentError as error:
        return error.code
    return [found.pid, found.executable, found.started] if isinstance(found, peer.Caller) else found


def child(work: Callable[[], Any]) -> int:
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid


def main() -> None:
    address = os.path.join(sys.argv[1], "s")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(address)
        listener.listen()

        def connect() -> None:
            client.connect(address)  # this process keeps the connection open when the child has ended
            time.sleep(60)

        first = child(connect)
        connection, _ = listener.accept()
        accepted = moment()
        caller = peer.peer_of(connection)
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        time.sleep(0.03)  # start times have a resolution of 10 ms
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(first - 1))
        second = child(lambda: time.sleep(60))
        seen = look_at(second)

        async def watched() -> str:
            await asyncio.wait_for(ended(caller), 5)
            return "ended"

        programs = Programs()
        found = {
            "pids": [first, second],
            "started": [caller.started, seen.started if seen else None],
            "peer": code_of(lambda: peer.peer_of(connection, accepted)),
            "recheck": code_of(lambda: peer.recheck(caller)),
            "described": code_of(lambda: asyncio.run(programs.described(caller))),
            "watch": code_of(lambda: asyncio.run(watched())),
        }
        peer._pidfd = lambda sock: None  # a kernel before Linux 6.5
        found["peer_without_pidfd"] = code_of(lambda: peer.peer_of(connection, accepted))
        programs.close()
        os.kill(second, signal.SIGKILL)
        os.waitpid(second, 0)
        print(json.dumps(found))


if __name__ == "__main__":
    main()
