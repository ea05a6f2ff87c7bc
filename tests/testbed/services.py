"""TSA, OCSP responder and CRL server of the test bed: one process, on loopback, with faults on demand.

    POST /tsa/FAMILY                      RFC 3161
    POST /ocsp/FAMILY/NAME                RFC 6960
    GET  /ocsp/FAMILY/NAME/BASE64         RFC 6960 A.1
    GET  /crl/FAMILY/NAME.crl             RFC 5280 5, DER
    GET  /ca/FAMILY/NAME.cer              the authority's certificate, DER

FAMILY: sm2, rsa, ec. NAME: root, signers, commercial, makers, internal. A fault is asked for in front of any of these
(``/faulty/slow/tsa/sm2?seconds=2``), or put upon an address that certificates name, until it is taken away:

    PUT /faults/tsa/sm2                   the fault as JSON: {"fault": "slow", "seconds": 2}
    DELETE /faults/tsa/sm2, GET /faults
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import json
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web

from testbed import ocsp, tsa
from testbed.authorities import Authority, Hierarchy, load_hierarchy
from testbed.faults import CONTENT_FAULTS, Fault
from testbed.openssl import FAMILIES

__all__ = ["application"]

LOOPBACK = "127.0.0.1"
MAX_REQUEST = 64 << 10  # octets; a request has some hundred
MEGABYTES = 64 << 20  # octets of Fault.MEGABYTES: above what any client should take
CRL_VALIDITY = timedelta(days=7)
CRL_KEPT = timedelta(minutes=5)  # a list without news is made anew after this

_SLOW_SECONDS = {Fault.SLOW: 30.0, Fault.HANG: 600.0}


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A fault and how long it takes."""

    fault: Fault
    seconds: float


Answer = Callable[[web.Request, Fault | None], Awaitable[tuple[str, bytes]]]


class Services:
    """The answers, by the path they are asked at.

    :param folder: holds a folder for each family (:func:`~testbed.authorities.hierarchy`).
    :param clock: the time.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime]) -> None:
        self._folder = folder
        self._clock = clock
        self._faults: dict[str, _Ordered] = {}
        self._lists: dict[Path, tuple[int, datetime, bytes]] = {}

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_REQUEST)
        app.router.add_get("/faults", self._show_faults)
        app.router.add_put("/faults/{path:.+}", self._set_fault)
        app.router.add_delete("/faults/{path:.+}", self._clear_fault)
        for start, faulty in (("", False), ("/faulty/{fault}", True)):
            for method, path, answer in (
                ("POST", "/tsa/{family}", self._stamp),
                ("POST", "/ocsp/{family}/{name}", self._ocsp),
                ("GET", "/ocsp/{family}/{name}/{request:.+}", self._ocsp),
                ("GET", "/crl/{family}/{name}.crl", self._crl),
                ("GET", "/ca/{family}/{name}.cer", self._certificate),
            ):
                app.router.add_route(method, start + path, self._handler(answer, faulty))
        return app

    # --- faults ---

    async def _show_faults(self, request: web.Request) -> web.Response:
        return web.json_response(
            {path: {"fault": it.fault, "seconds": it.seconds} for path, it in self._faults.items()}
        )

    async def _set_fault(self, request: web.Request) -> web.Response:
        try:
            wanted = await request.json()
            ordered = _ordered(wanted["fault"], wanted.get("seconds"))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise web.HTTPBadRequest(text=f"no such fault: {error}\n") from error
        self._faults["/" + request.match_info["path"]] = ordered
        return web.Response(status=204)

    async def _clear_fault(self, request: web.Request) -> web.Response:
        if self._faults.pop("/" + request.match_info["path"], None) is None:
            raise web.HTTPNotFound
        return web.Response(status=204)

    def _fault_of(self, request: web.Request, faulty: bool) -> _Ordered | None:
        if faulty:
            try:
                return _ordered(request.match_info["fault"], request.query.get("seconds"))
            except ValueError as error:
                raise web.HTTPNotFound(text=f"{error}\n") from error
        named = [path for path in self._faults if request.path == path or request.path.startswith(path + "/")]
        return self._faults[max(named, key=len)] if named else None

    # --- answers ---

    def _handler(self, answer: Answer, faulty: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            ordered = self._fault_of(request, faulty)
            fault = ordered.fault if ordered else None
            kind, body = await answer(request, fault if fault in CONTENT_FAULTS else None)
            if ordered is not None and fault not in CONTENT_FAULTS:
                return await _misbehave(request, ordered, kind, body)
            return web.Response(body=body, content_type=kind)

        return handle

    async def _stamp(self, request: web.Request, fault: Fault | None) -> tuple[str, bytes]:
        family = self._hierarchy(request)
        body = await request.read()
        return "application/timestamp-reply", await asyncio.to_thread(tsa.answer, family, body, self._clock(), fault)

    async def _ocsp(self, request: web.Request, fault: Fault | None) -> tuple[str, bytes]:
        authority = self._authority(request)
        if request.method == "GET":
            try:
                body = base64.b64decode(unquote(request.match_info["request"]), validate=True)
            except (binascii.Error, ValueError):
                body = b""  # which the responder calls malformed
        else:
            body = await request.read()
        return "application/ocsp-response", await asyncio.to_thread(ocsp.answer, authority, body, self._clock(), fault)

    async def _crl(self, request: web.Request, fault: Fault | None) -> tuple[str, bytes]:
        authority = self._authority(request)
        if fault in (Fault.WRONG_SIGNER, Fault.OTHER):
            # A list of another authority: signed by it, and about its certificates.
            name = "commercial" if request.match_info["name"] == "signers" else "signers"
            authority = self._hierarchy(request).authority(name)
        body = await asyncio.to_thread(self._list, authority, fault)
        return "application/pkix-crl", body

    def _list(self, authority: Authority, fault: Fault | None) -> bytes:
        now = self._clock()
        if fault is Fault.STALE:
            return authority.crl(now - timedelta(days=10), now - timedelta(days=9))
        changed = (authority.folder / "index.txt").stat().st_mtime_ns
        kept = self._lists.get(authority.folder)
        if kept is None or kept[0] != changed or now - kept[1] > CRL_KEPT:
            kept = self._lists[authority.folder] = (changed, now, authority.crl(now, now + CRL_VALIDITY))
        body = bytearray(kept[2])
        body[-1] ^= fault is Fault.DAMAGED
        return bytes(body)

    async def _certificate(self, request: web.Request, fault: Fault | None) -> tuple[str, bytes]:
        return "application/pkix-cert", self._authority(request).der

    def _hierarchy(self, request: web.Request) -> Hierarchy:
        family = request.match_info["family"]
        if family not in FAMILIES or not (self._folder / family).is_dir():
            raise web.HTTPNotFound(text="no such family of authorities\n")
        return load_hierarchy(self._folder, family)

    def _authority(self, request: web.Request) -> Authority:
        try:
            return self._hierarchy(request).authority(request.match_info["name"])
        except KeyError as error:
            raise web.HTTPNotFound(text="no such authority\n") from error


def _ordered(name: str, seconds: object) -> _Ordered:
    fault = Fault(name)
    return _Ordered(fault, _SLOW_SECONDS.get(fault, 0.0) if seconds is None else float(str(seconds)))


async def _misbehave(request: web.Request, ordered: _Ordered, kind: str, body: bytes) -> web.StreamResponse:
    match ordered.fault:
        case Fault.SLOW:
            await asyncio.sleep(ordered.seconds)
            return web.Response(body=body, content_type=kind)
        case Fault.GARBAGE:
            return web.Response(body=b"<html>" + os.urandom(512), content_type=kind)
        case Fault.EMPTY:
            return web.Response(body=b"", content_type=kind)
        case Fault.ERROR:
            return web.Response(status=500, text="<html>out of order</html>", content_type="text/html")
        case fault:
            response = web.StreamResponse(headers={"Content-Type": kind})
            await response.prepare(request)
            with suppress(ConnectionError):  # the client has had enough, which is the point
                if fault is Fault.HANG:
                    await response.write(body[:1])
                    await asyncio.sleep(ordered.seconds)
                else:
                    part = body.ljust(1 << 16, b"\0")
                    for _ in range(MEGABYTES // len(part)):
                        await response.write(part)
            return response


def application(folder: Path, clock: Callable[[], datetime] | None = None) -> web.Application:
    """Return the services over the authorities in a folder.

    :param clock: the time, aware, whole seconds; by default the system's.
    """
    return Services(folder, clock or (lambda: datetime.now(UTC).replace(microsecond=0))).application()


async def _serve(folder: Path, port: int, state: Path) -> None:
    runner = web.AppRunner(application(folder), access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, LOOPBACK, port)
        await site.start()
        bound = runner.addresses[0][1]
        draft = state.with_suffix(".draft")
        draft.write_text(json.dumps({"url": f"http://{LOOPBACK}:{bound}", "port": bound, "pid": os.getpid()}))
        draft.replace(state)
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """``python -m testbed.services --folder DIR --state FILE [--port N]``: serve until a signal; FILE says where."""
    parser = argparse.ArgumentParser(description="TSA, OCSP and CRLs of the test bed")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    asyncio.run(_serve(chosen.folder, chosen.port, chosen.state))


if __name__ == "__main__":
    main()
