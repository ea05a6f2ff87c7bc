"""Runs commands of ``sealagent maker`` one after the other in one process, each exactly as its program would.

Starting Python and loading the maker takes longer than most of its commands, and a world takes a hundred of them. A
command is a JSON array on a line of standard input; the answer, ``[status, output, errors]``, one of standard output.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys

from sealagent.cli import main as sealagent

__all__: list[str] = []


def _run(arguments: list[str]) -> tuple[int, str, str]:
    said, complained = io.StringIO(), io.StringIO()
    sys.argv = ["sealagent", "maker", *arguments]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            sealagent()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return status, said.getvalue(), complained.getvalue()


def main() -> None:
    """Answer until standard input ends."""
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
