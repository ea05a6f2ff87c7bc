"""How a verdict report reads on the terminal."""

from __future__ import annotations

from typing import Any

import click

from sealagent.cli.output import chinese, clean, say, verdict_mark
from sealagent.verdict import NOTES, REASONS

__all__ = ["STATES", "explain_reason", "print_report", "trust_class"]


def explain_reason(reason: dict[str, str]) -> str:
    """Return a reason in the holder's language, with its code and detail."""
    spec = REASONS.get(reason["code"])
    text = "" if spec is None else f"{spec.zh if chinese() else spec.en} "
    return _with_detail(f"{text}[{clean(reason['code'])}]", reason["detail"])


def _explain_note(note: dict[str, str]) -> str:
    text = NOTES.get(note["code"])
    return _with_detail(f"{text} [{note['code']}]" if text else clean(note["code"]), note["detail"])


def _with_detail(text: str, detail: str) -> str:
    return f"{text}: {clean(detail)}" if detail else text


def print_report(report: dict[str, Any]) -> None:
    """Print the report on one file: its verdict first, then each signature with its reasons and notes."""
    click.echo(f"{clean(report['file'])}: {verdict_mark(report['verdict'])}")
    for reason in report["reasons"]:
        click.echo(f"  ✗ {explain_reason(reason)}")
    for item in report["signatures"]:
        if report["format"] == "seal":
            _print_seal(item)
        else:
            _print_signature(item)
        for reason in item["reasons"]:
            click.echo(f"    ✗ {explain_reason(reason)}")
        for note in item["notes"]:
            click.echo(f"    {say('note', '提示')}: {_explain_note(note)}")


def _print_seal(item: dict[str, Any]) -> None:
    seal = item["seal"]
    if seal is not None:
        until = f"{seal['valid_from']} {say('to', '至')} {seal['valid_until']}"
        click.echo(f"  {say('seal', '印章')} {clean(seal['name'])}, {say('valid', '有效期')} {until}")
    if item["maker"] is not None:
        click.echo(f"    {say('maker', '制章者')} {clean(item['maker']['subject'])}")
    _print_standing(item)


def _print_signature(item: dict[str, Any]) -> None:
    kinds = {"signature": say("digital signature", "数字签名"), "integrity": say("integrity list", "完整性清单")}
    named = item["seal"]["name"] if item["seal"] else kinds.get(item["kind"], item["kind"])
    when = item["signed_at"] or say("at an unknown time", "时间未知")
    identified = f"{say('signature', '签名')} {clean(item['id'])}"
    click.echo(f"  {identified}: {verdict_mark(item['verdict'])}  {clean(named)}, {when}")
    if item["signer"] is not None:
        click.echo(f"    {say('signer', '签章者')} {clean(item['signer']['subject'])}")
    _print_standing(item)


def _print_standing(item: dict[str, Any]) -> None:
    """Print who vouches, and the seal's state; an internal seal must not look like another."""
    trust = item["trust"]
    if trust is not None and trust.get("unit"):
        region = f"{trust['region']} {trust['region_name']}".strip()
        known = clean(f"{trust['unit']}, {region}, {trust_class(trust['class'])}")
        click.echo(f"    {say('vouched for by', '认可单位')} {known}")
    if item["seal"] is not None:
        english, chinese_text = STATES.get(item["status"], (item["status"],) * 2)
        click.echo(f"    {say('seal status', '印章状态')}: {clean(say(english, chinese_text))}")


STATES = {
    "valid": ("valid", "有效"),
    "made": ("made, not filed", "已制作，未备案"),
    "filed": ("filed, not delivered", "已备案，未交付"),
    "suspended": ("suspended", "已停用"),
    "cancelled": ("cancelled", "已注销"),
    "superseded": ("re-made", "已重新制作"),
    "lost": ("lost", "已挂失"),
    "invalid": ("declared invalid", "已标记无效"),
    "unknown": ("could not be asked", "未能查询"),
    "not_checked": ("not checked", "未核验"),
}
"""How ``status`` of a report reads: of a signature at signing time, of a seal now."""


def trust_class(name: str) -> str:
    """Return the class of a trust list's entry in words."""
    words = {
        "e-government": ("e-government", "电子政务"),
        "commercial": ("commercial", "商业"),
        "internal": ("INTERNAL, for the unit's own use", "内部印章，仅限本单位内部使用"),
    }
    return say(*words[name]) if name in words else name
