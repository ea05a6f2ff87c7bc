"""What the prompts say, in Chinese and English, from one table; and how foreign text is shown in them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sealagent.consent.prompter import MAX_PIN, MIN_PIN, SPENDING, ConsentRequest, Occasion, PinRequest, Purpose
from sealdrivers.contract import PinState

__all__ = ["YES", "Language", "PromptText", "confirm_text", "consent_text", "language", "prompt_text", "shown"]

Language = Literal["zh_CN", "en"]

# Octets of UTF-8 that each foreign text may take. Together with our own words they keep the whole description within
# one Assuan line (1,000 octets).
MAX_DOCUMENT = 150
MAX_PROGRAM = 180
MAX_SEAL = 120
MAX_LABEL = 96
MAX_SERIAL = 48

YES = frozenset({"yes", "是"})
"""Words that confirm on a terminal, in either language; every other line is no."""

_TEXTS: dict[Language, dict[str, str]] = {
    "en": {
        "title": "SealAgent",
        "ok": "OK",
        "cancel": "Cancel",
        "unlock": "A program asks to use your seal. Enter the PIN only if you asked for it.",
        "change_old": "Change the PIN: enter the present PIN.",
        "change_new": "Change the PIN: enter the new PIN.",
        "change_repeat": "Change the PIN: enter the new PIN once more.",
        "unblock_admin": "Unblock the PIN: enter the ADMINISTRATOR's PIN of the token, not your own.",
        "unblock_new": "Unblock the PIN: enter the new PIN of the user.",
        "unblock_repeat": "Unblock the PIN: enter the new PIN of the user once more.",
        "prompt": "PIN:",
        "prompt_admin": "Administrator's PIN:",
        "prompt_new": "New PIN:",
        "confirm": "ONE TRY IS LEFT for the PIN. If the next PIN is wrong, the token is locked.",
        "confirm_admin": "ONE TRY IS LEFT for the ADMINISTRATOR's PIN. If it is wrong, that PIN is locked for good.",
        "confirm_question": "Go on only if you are sure of the PIN. Spend the last try?",
        "confirm_prompt": "Type yes to go on; anything else stops:",
        "use": "A program asks to use your seal. Allow it only if you asked for it.",
        "allow": "_Allow",
        "deny": "_Deny",
        "confirm_ok": "_Yes, spend it",
        "confirm_cancel": "_No",
        "program": "Program: {path} (pid {pid})",
        "program_unknown": "Program: unknown (pid {pid})",
        "document": "Document: {name}",
        "seal": "Seal: {name}",
        "token": "Token: {label} (serial {serial})",
        "tries": "Tries left: {count}",
        "factory": "It is still the factory's PIN. Change it: sealagent token change-pin",
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
        "unblock_admin": "解锁 PIN：请输入密码钥匙的【管理员 PIN】（不是您自己的 PIN）。",
        "unblock_new": "解锁 PIN：请输入新的用户 PIN。",
        "unblock_repeat": "解锁 PIN：请再次输入新的用户 PIN。",
        "prompt": "PIN：",
        "prompt_admin": "管理员 PIN：",
        "prompt_new": "新 PIN：",
        "confirm": "PIN 只剩最后一次机会：再输错，密码钥匙将被锁定。",
        "confirm_admin": "【管理员 PIN】只剩最后一次机会：再输错，它将永久锁定。",
        "confirm_question": "确信 PIN 无误时才继续。是否使用最后一次机会？",
        "confirm_prompt": "输入“是”或 yes 继续，其他任何输入均停止：",
        "use": "有程序请求使用您的印章。只有确为您本人发起时才允许。",
        "allow": "允许(_A)",
        "deny": "拒绝(_D)",
        "confirm_ok": "是，使用(_Y)",
        "confirm_cancel": "否(_N)",
        "program": "程序：{path}（进程 {pid}）",
        "program_unknown": "程序：未知（进程 {pid}）",
        "document": "文件：{name}",
        "seal": "印章：{name}",
        "token": "密码钥匙：{label}（序列号 {serial}）",
        "tries": "剩余次数：{count}",
        "factory": "当前仍为出厂 PIN，请修改：sealagent token change-pin",
        "low": "此前输入过错误的 PIN。",
        "final": "最后一次机会：再输错将锁定密码钥匙。",
        "locked": "PIN 已锁定。",
        "wrong": "PIN 错误。",
        "length": "PIN 长度须为 {minimum} 至 {maximum} 字节。",
    },
}


_PROMPTS: dict[Purpose, str] = {
    "unblock_admin": "prompt_admin",
    "unblock_new": "prompt_new",
    "unblock_repeat": "prompt_new",
}
"""What stands before the entry, where it is not the present PIN of the user."""


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
    lines = [texts[request.purpose], *_circumstances(request, texts, shorter)]
    if request.purpose in SPENDING:
        lines.extend(_tries(request.pin, texts))
    error = texts["wrong"] if request.previous_wrong else None
    if wrong_length:
        error = texts["length"].format(minimum=MIN_PIN, maximum=MAX_PIN)
    prompt = texts[_PROMPTS.get(request.purpose, "prompt")]
    return PromptText(texts["title"], tuple(lines), error, prompt, texts["ok"], texts["cancel"])


def confirm_text(request: PinRequest, chosen: Language, *, shorter: int = 1) -> PromptText:
    """Return the words that ask whether the last try may be spent.

    :param shorter: divides the octets that foreign texts may take.
    """
    texts = _TEXTS[chosen]
    what = texts["confirm_admin" if request.purpose == "unblock_admin" else "confirm"]
    lines = (what, *_circumstances(request, texts, shorter), texts["confirm_question"])
    return PromptText(
        texts["title"], lines, None, texts["confirm_prompt"], texts["confirm_ok"], texts["confirm_cancel"]
    )


def consent_text(request: ConsentRequest, chosen: Language, *, shorter: int = 1) -> PromptText:
    """Return the words that ask for consent.

    :param shorter: divides the octets that foreign texts may take.
    """
    texts = _TEXTS[chosen]
    lines = (texts["use"], *_occasion(request.occasion, texts, shorter))
    return PromptText(texts["title"], lines, None, texts["confirm_prompt"], texts["allow"], texts["deny"])


def _circumstances(request: PinRequest, texts: Mapping[str, str], shorter: int) -> list[str]:
    """Return who asks, for what, and of which token."""
    lines = _occasion(request.occasion, texts, shorter)
    label, serial = shown(request.token_label, MAX_LABEL // shorter), shown(request.token_serial, MAX_SERIAL // shorter)
    lines.append(texts["token"].format(label=label, serial=serial))
    return lines


def _occasion(occasion: Occasion, texts: Mapping[str, str], shorter: int) -> list[str]:
    """Return who asks, and for what."""
    lines = []
    if occasion.caller and occasion.caller.executable:
        lines.append(
            texts["program"].format(
                path=shown(occasion.caller.executable, MAX_PROGRAM // shorter), pid=occasion.caller.pid
            )
        )
    elif occasion.caller:
        lines.append(texts["program_unknown"].format(pid=occasion.caller.pid))
    if occasion.document is not None:
        lines.append(texts["document"].format(name=shown(occasion.document, MAX_DOCUMENT // shorter)))
    if occasion.seal is not None:
        lines.append(texts["seal"].format(name=shown(occasion.seal, MAX_SEAL // shorter)))
    return lines


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
    elif pin.last_try:
        lines.append(texts["final"])
    elif pin.count_low:
        lines.append(texts["low"])
    if pin.tries_left is not None:
        lines.append(texts["tries"].format(count=pin.tries_left))
    if pin.factory_pin:
        lines.append(texts["factory"])
    return lines
