"""The policy in words, in English and Chinese."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sealagent.callers.model import DailyHours, Effect
from sealagent.callers.policy import Policy, Rule
from sealagent.cli.output import clean, say
from sealagent.uses import Operation

__all__ = ["hints", "limit_lines", "reason", "rule_line"]

MAX_SHOWN = 5
"""Values of one list that are written out."""

_OPERATIONS = {
    Operation.DOCUMENT: ("sealing documents", "为文件盖章"),
    Operation.DIGEST: ("seal signatures over digests (blind)", "对摘要的电子签章（不可见内容）"),
    Operation.RAW: ("bare signatures over digests (blind)", "对摘要的裸签名（不可见内容）"),
    Operation.MANAGE: ("managing tokens", "管理密码钥匙"),
}
_EFFECTS = {
    Effect.ALLOW: ("allows", "允许"),
    Effect.ASK: ("has the holder asked about", "须经持有人确认："),
    Effect.DENY: ("denies", "禁止"),
}
_DEFAULTS = {
    Effect.ALLOW: ("allowed", "允许"),
    Effect.ASK: ("the holder is asked", "询问持有人"),
    Effect.DENY: ("denied", "禁止"),
}
_DAYS = dict(
    zip(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), ("一", "二", "三", "四", "五", "六", "日"), strict=True)
)
_LISTS = (
    ("executables", "by the program", "程序"),
    ("sha256", "whose file has the SHA-256", "程序文件的 SHA-256 为"),
    ("parents", "started by", "由其启动："),
    ("applications", "by the application", "应用"),
    ("origins", "for the web origin", "网页来源"),
    ("seals", "with the seal", "印章"),
    ("keys", "with the key", "密钥"),
    ("formats", "in the format", "格式"),
)

_REASONS = {
    "it is about other operations": "针对其他操作",
    "it is about other seals": "针对其他印章",
    "it is about other keys": "针对其他密钥",
    "it is about other formats": "针对其他格式",
    "it is about other programs": "针对其他程序",
    "it is about program files with other digests": "针对摘要不同的程序文件",
    "it is about programs that others started": "针对由其他程序启动的程序",
    "it is about other applications": "针对其他应用",
    "it is about other web origins": "针对其他网页来源",
    "it does not count yet": "尚未生效",
    "it does not count any more": "已失效",
    "it is outside its hours": "不在时段内",
    "it is for other days": "不在所述日期",
    "the holder forbade it": "持有人已禁止",
    "the holder granted it": "持有人已授权",
    "it is not in force": "未生效",
    "the caller is paired": "调用方已配对",
    "digests that the agent cannot look into are signed for paired applications only": "仅为已配对的应用对摘要签名",
}


def rule_line(rule: Rule) -> str:
    """Say a rule in one line."""
    effect, effect_zh = _EFFECTS[rule.effect]
    operations = rule.operations or tuple(Operation)
    if len(operations) == len(Operation):
        what, what_zh = "everything", "一切操作"
    else:
        what = _joined([_OPERATIONS[each][0] for each in operations])
        what_zh = "、".join(_OPERATIONS[each][1] for each in operations)
    parts = list(_conditions(rule))
    english = "; ".join([f"{clean(rule.name)}: {effect} {what}", *(part for part, _ in parts)])
    chinese = "；".join([f"{clean(rule.name)}：{effect_zh}{what_zh}", *(part for _, part in parts)])
    return say(english, chinese)


def _conditions(rule: Rule) -> Iterator[tuple[str, str]]:
    for key, english, chinese in _LISTS:
        values = [clean(each) for each in getattr(rule, key)]
        if values:
            more = len(values) - MAX_SHOWN
            shown, hidden = values[:MAX_SHOWN], [f"{more} more"] if more > 0 else []
            hidden_zh = [f"另有 {more} 个"] if more > 0 else []
            yield f"{english} {_joined(shown + hidden, 'or')}", f"{chinese} {'、'.join(shown + hidden_zh)}"
    if rule.days:
        yield f"on {', '.join(rule.days)}", "周" + "、".join(_DAYS[day] for day in rule.days)
    if rule.hours is not None:
        yield f"at {_hours(rule.hours)}", f"每日 {_hours(rule.hours)}"
    if rule.not_before is not None:
        yield f"from {_moment(rule.not_before)}", f"自 {_moment(rule.not_before)}"
    if rule.not_after is not None:
        yield f"until {_moment(rule.not_after)}", f"至 {_moment(rule.not_after)}"
    if rule.per_day is not None:
        yield f"at most {rule.per_day} signatures a day", f"每天至多 {rule.per_day} 次签名"


def limit_lines(policy: Policy) -> Iterator[str]:
    """Say the defaults and limits, a line each."""
    for operation, (english, chinese) in _OPERATIONS.items():
        default, default_zh = _DEFAULTS[policy.defaults.of(operation)]
        yield say(f"{english}: {default}", f"{chinese}：{default_zh}")
    limits = policy.limits
    if limits.blind_needs_pairing:
        yield say("digests are signed for paired applications only", "仅为已配对的应用对摘要签名")
    else:
        yield say("digests are signed for programs that are not paired, too", "亦为未配对的程序对摘要签名")
    yield say(f"pairings last {limits.pairing_days} days", f"配对有效期 {limits.pairing_days} 天")
    yield say(
        f"grants last {limits.grant_days} days and count {limits.grant_count} signatures at most",
        f"授权至多 {limits.grant_days} 天、{limits.grant_count} 次签名",
    )
    if limits.session_grants:
        yield say("the holder may agree until the token is locked or pulled", "持有人可一次同意至钥匙锁定或拔出")
    else:
        yield say("the holder is asked about each", "每次均询问持有人")
    yield say(f"a batch has {limits.batch_items} items at most", f"一批至多 {limits.batch_items} 项")


def hints(policy: Policy) -> Iterator[str]:
    """Say what is right by its form, but may not do what was meant on this machine."""
    for rule in policy.rules:
        for path in (*rule.executables, *rule.parents):
            if hint := _program_hint(path):
                yield f"{clean(rule.name)}: {clean(path)}: {hint}"
        if rule.effect is Effect.ALLOW and not (
            rule.executables or rule.sha256 or rule.parents or rule.applications or rule.origins
        ):
            yield f"{clean(rule.name)}: " + say("it allows any program of the user", "允许该用户的任何程序")


def _program_hint(path: str) -> str | None:
    try:
        real = os.path.realpath(path, strict=True)
        if real != path:
            return say(f"a symbolic link; programs are known as {clean(real)}", f"符号链接；程序以 {clean(real)} 识别")
        if Path(path).is_file():
            with open(path, "rb") as file:
                if file.read(2) == b"#!":
                    return say("a script; it is known by its interpreter", "脚本；以其解释器识别")
            return None
        return say("no file", "不是文件")
    except OSError:
        return say("not on this machine", "本机没有该程序")


def reason(why: str, step: Mapping[str, Any]) -> str:
    """Return why a step matched or not, in the language of messages as far as the agent's words are known.

    :param why: as the agent says it. :param step: ``kind``, ``effect`` and ``matched``.
    """
    known = _REASONS.get(why)
    if known is None and step["matched"] and step["kind"] in ("rule", "default"):
        known = {"rule": "规则", "default": "默认"}[step["kind"]] + _DEFAULTS[Effect(step["effect"])][1]
    return say(clean(why), known or clean(why))


def _hours(hours: DailyHours) -> str:
    return f"{hours.start:%H:%M}-{hours.end:%H:%M}"


def _moment(moment: datetime) -> str:
    return moment.isoformat(" ")


def _joined(values: Iterable[str], word: str = "and") -> str:
    *first, last = values
    return f"{', '.join(first)} {word} {last}" if first else last
