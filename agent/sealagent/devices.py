"""Known USB keys in the words of people: which are plugged in, which library serves each, and what is missing.

The sentences are made here, once, in English and Chinese: events, the socket and the command line all show the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sealdrivers.discovery import installed, is_library_of
from sealdrivers.presence import UsbKey
from sealdrivers.vendors import VendorModule, VendorTable

__all__ = ["Device", "DeviceState", "ServingModule", "describe"]


class DeviceState(StrEnum):
    """How far a key is from being used."""

    READY = "ready"
    """A library that serves it is loaded."""
    NO_ACCESS = "no_access"
    """A library is loaded, but the device file may not be opened."""
    FAILED = "failed"
    """A library was to be loaded, and failed."""
    NOT_LOADED = "not_loaded"
    """A library is installed, but the agent does not use it."""
    MIDDLEWARE_MISSING = "middleware_missing"
    """No library is installed, or none is known."""


@dataclass(frozen=True, slots=True)
class ServingModule:
    """A library of the vendor table that serves a key."""

    name: str
    driver: str
    path: str | None
    """Where it is installed."""
    state: str
    """``not_installed``, ``not_loaded``, or the state of its module (``GET /v1/status``)."""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "driver": self.driver, "path": self.path, "state": self.state}


@dataclass(frozen=True, slots=True)
class Device:
    """A plugged-in key and what stands between it and its use."""

    key: UsbKey
    modules: tuple[ServingModule, ...]

    @property
    def state(self) -> DeviceState:
        states = {module.state for module in self.modules} - {"not_installed"}
        if states - {"not_loaded", "failed"}:
            blocked = self.key.accessible is False and not self.key.entry.pcsc
            return DeviceState.NO_ACCESS if blocked else DeviceState.READY
        if "failed" in states:
            return DeviceState.FAILED
        return DeviceState.NOT_LOADED if states else DeviceState.MIDDLEWARE_MISSING

    @property
    def missing_middleware(self) -> str | None:
        """What to install; None where something is installed."""
        return self.key.entry.middleware if self.state is DeviceState.MIDDLEWARE_MISSING else None

    @property
    def message(self) -> tuple[str, str]:
        """The state in a sentence, English and Chinese."""
        entry = self.key.entry
        path = next((module.path for module in self.modules if module.state != "not_installed"), None)
        english, chinese = {
            DeviceState.READY: ("its library is loaded", "其库已加载"),
            DeviceState.NO_ACCESS: (
                "its library is loaded, but you may not open the device",
                "其库已加载，但当前用户无权打开该设备",
            ),
            DeviceState.FAILED: (f"its library {path} could not be loaded", f"其库 {path} 加载失败"),
            DeviceState.NOT_LOADED: (
                f"its library {path} is installed, but the agent does not use it",
                f"其库 {path} 已安装，但代理未使用",
            ),
            DeviceState.MIDDLEWARE_MISSING: (
                (
                    f"this key needs {entry.middleware}, which is not installed",
                    f"此钥匙需要{entry.middleware_zh}，尚未安装",
                )
                if self.modules
                else (
                    f"this key needs {entry.middleware}; the agent knows no library for it",
                    f"此钥匙需要{entry.middleware_zh}；代理尚不知适用的库",
                )
            ),
        }[self.state]
        return f"{entry.name}: {english}", f"{entry.name}：{chinese}"

    @property
    def next_step(self) -> tuple[str, str]:
        """What to do, English and Chinese."""
        if self.state is DeviceState.READY and self.key.entry.pcsc:
            return _PCSCD
        return _NEXT_STEP[self.state]

    def as_json(self) -> dict[str, Any]:
        """Return it for ``GET /v1/devices``."""
        (message, message_zh), (next_step, next_step_zh) = self.message, self.next_step
        return {
            **self.identity(),
            "product": self.key.product,
            "modules": [module.as_json() for module in self.modules],
            "state": self.state.value,
            "missing_middleware": self.missing_middleware,
            "message": message,
            "message_zh": message_zh,
            "next_step": next_step,
            "next_step_zh": next_step_zh,
        }

    def as_event(self) -> dict[str, Any]:
        """Return it for the event ``usb_inserted``."""
        message, message_zh = self.message
        return {
            **self.identity(),
            "state": self.state.value,
            "missing_middleware": self.missing_middleware,
            "message": message,
            "message_zh": message_zh,
        }

    def identity(self) -> dict[str, Any]:
        """Return what names it, which is all that is known of a removed one."""
        return {
            "name": self.key.entry.name,
            "vendor_id": f"{self.key.vendor_id:04x}",
            "product_id": f"{self.key.product_id:04x}",
            "serial": self.key.serial,
            "port": self.key.port,
        }


_PCSCD = (
    "If its token is not shown, check that pcscd runs, and that a card is in the reader.",
    "若未显示令牌，请检查 pcscd 是否在运行、读卡器中是否有卡。",
)
_NEXT_STEP: Mapping[DeviceState, tuple[str, str]] = {
    DeviceState.READY: (
        "If its token is not shown, unplug the key and plug it in again.",
        "若未显示令牌，请拔下钥匙后重新插入。",
    ),
    DeviceState.NO_ACCESS: (
        "Copy config/udev/70-sealagent.rules to /etc/udev/rules.d, run `udevadm control --reload`, then replug it.",
        "请将 config/udev/70-sealagent.rules 复制到 /etc/udev/rules.d，运行 udevadm control --reload，再重新插入钥匙。",
    ),
    DeviceState.FAILED: (
        "`sealagent status` shows how it failed; install the library anew, or a newer one.",
        "sealagent status 会显示失败原因；请重新安装该库或安装更新版本。",
    ),
    DeviceState.NOT_LOADED: (
        "Restart the agent; if that does not help, name the library under [[modules]] in agent.toml.",
        "请重启代理；若无效，请在 agent.toml 的 [[modules]] 中指明该库。",
    ),
    DeviceState.MIDDLEWARE_MISSING: (
        "Install it and restart the agent; a library in an unusual place is named under [[modules]] in agent.toml.",
        "请安装后重启代理；若库不在常规位置，请在 agent.toml 的 [[modules]] 中指明。",
    ),
}


def describe(keys: Iterable[UsbKey], table: VendorTable, loaded: Sequence[Mapping[str, Any]]) -> list[Device]:
    """Say of each key which libraries serve it, looking on the disk for those that are not loaded.

    :param loaded: how the agent's modules are (``HostedTokens.health``).
    """
    entries = {entry.name: entry for entry in table.modules}
    known: dict[str, ServingModule] = {}
    devices = []
    for key in keys:
        for name in key.entry.modules:
            if name not in known and name in entries:
                known[name] = _serving(entries[name], loaded)
        devices.append(Device(key, tuple(known[name] for name in key.entry.modules if name in known)))
    return devices


def _serving(entry: VendorModule, loaded: Sequence[Mapping[str, Any]]) -> ServingModule:
    found = installed(entry)
    real = os.path.realpath(found) if found is not None else None
    for module in loaded:
        path = module.get("path")
        if path is None or module.get("driver") != entry.driver:
            continue
        if path == real or is_library_of(Path(path), entry):
            return ServingModule(entry.name, entry.driver, path, str(module["state"]))
    state = "not_installed" if found is None else "not_loaded"
    return ServingModule(entry.name, entry.driver, None if found is None else str(found), state)
