"""What the prompts say, in Chinese and English, from one table; and how foreign text is shown in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sealagent.consent.prompter import MAX_PIN, MIN_PIN, PinRequest
from sealdrivers.contract import PinState

__all__ = ["Language", "PromptText", "language", "prompt_text", "shown"]

Language = Literal["zh_CN", "en"]

# Octets of UTF-8 that each foreign text may take. Together with our own words they keep the whole description within
# one Assuan line (1,000 octets).
MAX_DOCUMENT = 150
MAX_PROGRAM = 180
MAX_SEAL = 120
MAX_LABEL = 96
MAX_SERIAL = 48

_TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "SealAgent",
        "ok": "OK",
        "cancel": "Cancel",
        "unlock": "A program asks to use your seal. Enter the PIN only if you asked for it.",
        "change_old": "Change the PIN: enter the present PIN.",
        "change_new": "Change the PIN: enter the new PIN.",
        "change_repeat": "Change the PIN: enter the new PIN once more.",
        "prompt": "PIN:",
        "program": "Program: {path} (pid {pid})",
        "program_unknown": "Program: unknown (pid {pid})",
        "document": "Document: {name}",
        "seal": "Seal: {name}",
        "token": "Token: {label} (serial {serial})",
        "tries": "Tries left: {count}",
        "low": "A wrong PIN was entered before.",
        "final": "LAST TRY: another wrong PIN locks the token.",
        "locked": "The PIN is locked.",
        "wrong": "The PIN was wrong.",
        "length": "A PIN has {minimum} to {maximum} octets.",
    },
    "zh_CN": {
        "title": "SealAgent 电子印章",
        "ok": "确定",
        "cancel": "取消",
        "unlock": "有程序请求使用您的印章。只有确为您本人发起时才输入 PIN。",
        "change_old": "修改 PIN：请输入当前 PIN。",
        "change_new": "修改 PIN：请输入新 PIN。",
        "change_repeat": "修改 PIN：请再次输入新 PIN。",
        "prompt": "PIN：",
        "program": "程序：{path}（进程 {pid}）",
        "program_unknown": "程序：未知（进程 {pid}）",
        "document": "文件：{name}",
        "seal": "印章：{name}",
        "token": "密码钥匙：{label}（序列号 {serial}）",
        "tries": "剩余次数：{count}",
        "low": "此前输入过错误的 PIN。",
        "final": "最后一次机会：再输错将锁定密码钥匙。",
        "locked": "PIN 已锁定。",
        "wrong": "PIN 错误。",
        "length": "PIN 长度须为 {minimum} 至 {maximum} 字节。",
    },
}


@dataclass(frozen=True, slots=True)
class PromptText:
    """The words of one prompt."""

    title: str
    description: tuple[str, ...]
    """Lines; none holds a line break or a control character."""
    error: str | None
    """Why the user is asked again."""
    prompt: str
    ok: str
    cancel: str


def language(environ: Mapping[str, str]) -> Language:
    """Choose as gettext does: LANGUAGE (a list), then LC_ALL, LC_MESSAGES, LANG; LANGUAGE does not count in "C"."""
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environ.get(name))), "C")
    if locale in ("C", "POSIX"):
        return "en"
    for wanted in [*environ.get("LANGUAGE", "").split(":"), locale]:
        if wanted:
            return "zh_CN" if wanted.split(".")[0].split("_")[0] == "zh" else "en"
    return "en"


def prompt_text(request: PinRequest, chosen: Language, *, wrong_length: bool = False, shorter: int = 1) -> PromptText:
    """Return the words for a request.

    :param wrong_length: the entry before was empty or too long.
    :param shorter: divides the octets that foreign texts may take.
    """
    texts = _TEXTS[chosen]
    lines = [texts[request.purpose]]
    if request.caller and request.caller.executable:
        lines.append(
            texts["program"].format(
                path=shown(request.caller.executable, MAX_PROGRAM // shorter), pid=request.caller.pid
            )
        )
    elif request.caller:
        lines.append(texts["program_unknown"].format(pid=request.caller.pid))
    if request.document is not None:
        lines.append(texts["document"].format(name=shown(request.document, MAX_DOCUMENT // shorter)))
    if request.seal is not None:
        lines.append(texts["seal"].format(name=shown(request.seal, MAX_SEAL // shorter)))
    label, serial = shown(request.token_label, MAX_LABEL // shorter), shown(request.token_serial, MAX_SERIAL // shorter)
    lines.append(texts["token"].format(label=label, serial=serial))
    if request.purpose in ("unlock", "change_old"):
        lines.extend(_tries(request.pin, texts))
    error = texts["wrong"] if request.previous_wrong else None
    if wrong_length:
        error = texts["length"].format(minimum=MIN_PIN, maximum=MAX_PIN)
    return PromptText(texts["title"], tuple(lines), error, texts["prompt"], texts["ok"], texts["cancel"])


def shown(text: str, octets: int) -> str:
    """Make foreign text safe to show on one line.

    Control and format characters (among them the overrides of writing direction), separators, surrogates and
    unassigned code points go; white space becomes one space; what is longer than ``octets`` of UTF-8 loses its middle,
    so that the end of a path and the suffix of a name stay.
    """
    if len(text) > 8 * octets:  # a name of megabytes costs no more than a long one
        text = text[: 4 * octets] + text[-4 * octets :]
    spaced = " ".join(text.split())
    kept = "".join(c for c in spaced if c == " " or unicodedata.category(c)[0] not in "CZ")
    encoded = kept.encode()
    if len(encoded) <= octets:
        return kept
    room = octets - len("…".encode())
    front = encoded[: room - room // 2].decode(errors="ignore")
    back = encoded[len(encoded) - room // 2 :].decode(errors="ignore")
    return f"{front}…{back}"


def _tries(pin: PinState, texts: Mapping[str, str]) -> list[str]:
    lines = []
    if pin.locked:
        lines.append(texts["locked"])
    elif pin.final_try or pin.tries_left == 1:
        lines.append(texts["final"])
    elif pin.count_low:
        lines.append(texts["low"])
    if pin.tries_left is not None:
        lines.append(texts["tries"].format(count=pin.tries_left))
    return lines
