"""The few words that are the dialog's own, in Chinese and English; all others come from the client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

__all__ = ["WORDS", "Language", "language"]

Language = Literal["zh_CN", "en"]

WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "ok": "_OK",
        "cancel": "_Cancel",
        "prompt": "PIN:",
        "no_picture": "The picture of the seal cannot be shown here.",
        "full": "There is no room for more.",
        "no_paste": "Type the PIN; it cannot be pasted.",
        "early": "Keys pressed while this window opened were not taken. Pause, then type.",
        "caps": "Caps Lock is on.",
        "remaining": "This question closes, with no as its answer, in {seconds} s.",
    },
    "zh_CN": {
        "ok": "确定(_O)",
        "cancel": "取消(_C)",
        "prompt": "PIN：",
        "no_picture": "此处无法显示印章图片。",
        "full": "输入过长，无法再输入。",
        "no_paste": "请键入 PIN，不能粘贴。",
        "early": "窗口打开时按下的键未被采用。请稍停，再输入。",
        "caps": "大写锁定已打开。",
        "remaining": "{seconds} 秒后本窗口将关闭，视为“否”。",
    },
}


def language(environ: Mapping[str, str]) -> Language:
    """Choose as gettext does, and as the client does for its words: LANGUAGE, LC_ALL, LC_MESSAGES, LANG."""
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environ.get(name))), "C")
    if locale in ("C", "POSIX"):
        return "en"
    wanted = next(filter(None, [*environ.get("LANGUAGE", "").split(":"), locale]))
    return "zh_CN" if wanted.split(".")[0].split("_")[0] == "zh" else "en"
