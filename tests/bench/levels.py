"""One token used at one level for some seconds: the library called directly, our driver in this process, or a worker.

Run as ``python -m bench.levels LEVEL DRIVER MODULE SERIAL PIN_FILE SECONDS``: prints one line of JSON. The token holds
one SM2 key.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pkcs11 import Attribute, ObjectClass

from sealdrivers.contract import Mechanism
from sealdrivers.host.service import HostedTokens, ModuleSpec
from sealdrivers.pkcs11 import abi
from sealdrivers.pkcs11.binding import Module
from sealdrivers.pkcs11.driver import open_driver
from sealdrivers.skf.driver import open_driver as open_skf_driver
from sealdrivers.vendors import ModuleOptions, vendor_table
from softgm.client import Skf
from softgm.skf_token import SoftSkfToken

E = bytes(range(32))
OPTIONS = ModuleOptions(vendor_table().sm2, "xipki placeholders")
SIGN_E = 0xFFFFF002
"""The number of that entry."""


def _loop(sign: Callable[[], object], seconds: float) -> list[float]:
    times = []
    start = before = time.perf_counter()
    while before - start < seconds:
        sign()
        now = time.perf_counter()
        times.append(now - before)
        before = now
    return times


def _library_skf(module: Path, serial: str, pin: str, seconds: float) -> list[float]:
    opened = Skf(module).open(SoftSkfToken(Path(serial), "", serial, "SOFTSKF", pin, ""))
    opened.login(pin)
    return _loop(lambda: opened.sign(E), seconds)


def _library_pkcs11(module: Path, serial: str, pin: str, seconds: float) -> list[float]:
    (slot,) = [slot for slot in Module(module).slots() if slot.token().serial == serial]
    session = slot.open()
    session.login(bytearray(pin.encode()))
    (key,) = session.find({Attribute.CLASS: ObjectClass.PRIVATE_KEY})
    mechanism = abi.CK_MECHANISM(SIGN_E)
    return _loop(lambda: session.sign(mechanism, key.handle, E), seconds)


def _driver(kind: str, module: Path, serial: str, pin: str, seconds: float) -> list[float]:
    driver: Any = open_skf_driver(module) if kind == "skf" else open_driver(module, OPTIONS)
    (token,) = [token for token in driver.tokens() if token.info.serial == serial]
    token.login(bytearray(pin.encode()))
    (info,) = token.contents().keys
    key = token.key(info.uri)
    key.sign(Mechanism.SM2_SM3, E)
    return _loop(lambda: key.sign(Mechanism.SM2_SM3, E), seconds)


def _worker(kind: str, module: Path, serial: str, pin: str, seconds: float) -> list[float]:
    async def loop(sign: Callable[[], Awaitable[object]]) -> list[float]:
        times = []
        start = before = time.perf_counter()
        while before - start < seconds:
            await sign()
            now = time.perf_counter()
            times.append(now - before)
            before = now
        return times

    spec = ModuleSpec(module.resolve(), kind, options=OPTIONS)

    async def main() -> list[float]:
        tokens = HostedTokens([spec])
        try:
            (uri,) = [token.uri for token in await tokens.tokens() if token.serial == serial]
            await tokens.login(uri, bytearray(pin.encode()))
            (info,) = (await tokens.contents(uri)).keys
            await tokens.sign(info.uri, Mechanism.SM2_SM3, E)
            return await loop(lambda: tokens.sign(info.uri, Mechanism.SM2_SM3, E))
        finally:
            await tokens.close()

    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def main() -> None:
    """Sign for so many seconds."""
    level, kind, path, serial, pin_file, text = sys.argv[1:]
    module, pin, seconds = Path(path), Path(pin_file).read_text().strip(), float(text)
    start = time.perf_counter()
    if level == "library":
        times = (_library_skf if kind == "skf" else _library_pkcs11)(module, serial, pin, seconds)
    elif level == "driver":
        times = _driver(kind, module, serial, pin, seconds)
    else:
        times = _worker(kind, module, serial, pin, seconds)
    print(json.dumps({"seconds": sum(times), "times": times, "prepared": time.perf_counter() - start - sum(times)}))


if __name__ == "__main__":
    main()
