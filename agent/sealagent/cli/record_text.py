"""How an entry of the record reads to a person: when, who, what, with which seal and key, why it was allowed, what came
of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from sealagent.catalog import CATALOG
from sealagent.cli.output import clean, say

__all__ = ["explain_entry", "operation_text"]

Entry = Mapping[str, Any]
"""An entry as the agent gives it: body, kind, number, prev, time, hash."""

_KINDS = {
    "intent": (
        "an intent: the device was about to be asked, or something about to be changed",
        "意图：即将请求设备或作出变更",
    ),
    "signed": ("signed: a signature was made and could be released", "已签署：签名已产生并可放行"),
    "failed": ("failed: the intent came to nothing", "失败：意图未完成"),
    "refused": (
        "refused: the request was turned down before anything was asked of the device",
        "已拒绝：在请求设备之前被拒绝",
    ),
    "admin": ("an administrative act was done", "管理操作已完成"),
}

_OPERATIONS = {
    "document": ("seal a document that the agent read and hashed itself", "对代理自行读取并计算摘要的文件签章"),
    "seal_digest": (
        "make a seal signature over a digest that the program computed (blind: the agent could not look into it)",
        "对程序自行计算的摘要签章（盲签：代理无法得知内容）",
    ),
    "digest": (
        "sign a digest that the program computed (blind: the agent could not look into it)",
        "对程序自行计算的摘要签名（盲签：代理无法得知内容）",
    ),
    "certificate_request": ("sign a certificate request that the agent made", "对代理生成的证书请求签名"),
    "generate_key": ("make a key pair on the token", "在密码钥匙上生成密钥对"),
    "import_certificate": ("write a certificate to the token", "将证书写入密码钥匙"),
    "import_seal": ("import a seal", "导入印章"),
    "remove_seal": ("remove a seal from the local store", "从本地移除印章"),
    "change_pin": ("change the PIN", "修改 PIN"),
    "unblock_pin": ("unblock the PIN with the administrator's", "用管理员 PIN 解锁"),
    "add_trust_list": ("add a trust list", "添加信任列表"),
    "update_trust_list": ("update a trust list", "更新信任列表"),
    "remove_trust_list": ("remove a trust list", "移除信任列表"),
    "pair": ("pair an application", "配对应用"),
    "identify": ("show that it is a paired application", "证明其为已配对应用"),
    "accept_program": ("accept the changed program of an application", "接受应用程序文件的变更"),
    "rename_application": ("rename an application", "重命名应用"),
    "revoke_application": ("revoke an application", "撤销应用"),
    "grant": ("give an application a permission, or forbid it something", "授予应用权限，或禁止其操作"),
    "ungrant": ("take a permission or a prohibition back", "撤回权限或禁令"),
    "batch": ("agree to a batch", "同意批量签署"),
    "cancel_batch": ("cancel a batch", "取消批量签署"),
}

_AGREED = {
    "pin": ("the holder typed the PIN for it", "持有人为此输入了 PIN"),
    "confirm": ("the holder agreed to it in a prompt", "持有人在提示中同意"),
    "session": (
        "the holder agreed to it, and to all like it until the token is locked or pulled",
        "持有人同意此次及本次会话内的同类请求",
    ),
    "batch": ("the holder agreed to the batch it belongs to", "持有人已同意其所属批次"),
}

_SOURCES = {
    "rule": ("rule {name} of the policy", "策略规则 {name}"),
    "grant": ("grant {name} that the holder gave", "持有人授予的权限 {name}"),
    "default": ("the policy's default for {name}", "策略默认值 {name}"),
    "limit": ("the policy's limit {name}", "策略限制 {name}"),
}


def operation_text(name: str) -> str:
    """Return what an operation is, in the holder's language; an unknown one by its name."""
    return say(*_OPERATIONS[name]) if name in _OPERATIONS else clean(name)


def explain_entry(entry: Entry, other: Entry | None) -> Iterator[tuple[str, str]]:
    """Yield label and text of each line.

    :param other: the intent of an outcome, or the outcome of an intent, where there is one.
    """
    closes = "intent" in entry["body"]
    asked, made = (other, entry) if closes and other is not None else (entry, other)
    body = asked["body"]
    yield say("entry", "条目"), f"{entry['number']}  {say(*_KINDS.get(entry['kind'], (entry['kind'],) * 2))}"
    yield say("when", "时间"), _time(entry["time"])
    yield from _who(body.get("caller") or {})
    if operation := body.get("operation"):
        yield say("asked", "请求"), operation_text(operation)
    yield from _what(body)
    yield from _allowed(body.get("authorization"))
    result = made["body"] if made is not None else {}
    yield from _result(asked["kind"], made["kind"] if made is not None else asked["kind"], {**body, **result})
    if other is not None:
        named = say("its intent", "对应意图") if closes else say("its outcome", "对应结果")
        yield named, f"{say('entry', '条目')} {other['number']}, {_time(other['time'])}"
    yield say("hash", "哈希"), clean(entry["hash"])


def _time(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return f"{moment.astimezone().isoformat(sep=' ', timespec='seconds')}  ({clean(text)})"


def _who(caller: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not caller:
        return
    application = caller.get("application")
    if application:
        name, paired = clean(application["name"]), clean(application["id"])
        yield say("who", "请求者"), say(f"{name} (paired application {paired})", f"{name}（已配对应用 {paired}）")
    else:
        yield say("who", "请求者"), say("a program that is not paired", "未配对的程序")
    program = clean(caller.get("executable") or say("unknown", "未知"))
    numbers = f"pid {caller.get('pid')}, uid {caller.get('uid')}"
    digest = f", SHA-256 {clean(caller['sha256'])[:16]}…" if caller.get("sha256") else ""
    yield say("program", "程序"), f"{program} ({numbers}{digest})"
    if caller.get("parent"):
        yield say("started by", "启动者"), clean(caller["parent"])
    if caller.get("origin"):
        yield say("acting for", "代表"), f"{clean(caller['origin'])} {say('(as the browser says)', '（浏览器所述）')}"


def _what(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    document = body.get("document") or {}
    if document.get("name"):
        named = say("(named so by the program)", "（程序所述名称）")
        kind = f" {clean(document['format']).upper()}" if document.get("format") else ""
        yield say("document", "文件"), f"{clean(document['name'])}{kind} {named}"
    if document.get("sm3"):
        yield say("its SM3", "文件 SM3"), clean(document["sm3"])
    if document.get("digest"):
        yield say("digest", "摘要"), clean(document["digest"])
    seal = body.get("seal") or {}
    if isinstance(seal, str):
        yield say("seal", "印章"), clean(seal)
    elif seal:
        status = (body.get("status") or {}).get("status") if isinstance(body.get("status"), Mapping) else None
        state = f", {say('status', '状态')} {clean(status)}" if status else ""
        yield say("seal", "印章"), f"{clean(seal.get('name', ''))} ({clean(seal.get('es_id', ''))}{state})"
    application = body.get("application") or {}
    if application:
        new = f" → {clean(application['new_name'])}" if application.get("new_name") else ""
        named = clean(application.get("name") or say("unknown", "未知"))
        yield say("application", "应用"), f"{named}{new} ({clean(application.get('id', ''))})"
    for name, label in (("grant", say("permission", "权限")), ("batch", say("batch", "批次"))):
        if isinstance(body.get(name), Mapping):
            parts = (f"{clean(key)} {clean(value)}" for key, value in body[name].items() if value not in (None, []))
            yield label, ", ".join(parts)
    for name, label in (
        ("key", say("key", "密钥")),
        ("token", say("token", "密码钥匙")),
        ("batch", say("batch", "批次")),
    ):
        if isinstance(body.get(name), str):
            yield label, clean(body[name])
    certificate = body.get("certificate") or {}
    if certificate.get("serial"):
        yield say("certificate", "证书"), f"{say('serial', '序列号')} {clean(certificate['serial'])}"


def _allowed(authorization: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    if not authorization:
        return
    source = _SOURCES.get(authorization.get("source", ""), ("{name}", "{name}"))
    agreed = authorization.get("agreed")
    by = say(*source).format(name=clean(authorization.get("name", "")))
    if agreed in _AGREED:
        yield say("allowed by", "依据"), f"{say(*_AGREED[agreed])} ({by})"
    else:
        yield say("allowed by", "依据"), by


def _result(asked: str, made: str, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    label = say("result", "结果")
    if reason := body.get("reason"):
        known = CATALOG.get(reason)
        title = f"{say(known.title, known.title_zh)} " if known else ""
        yield label, f"{title}[{clean(reason)}]: {clean(body.get('detail', ''))}"
        for each in body.get("reasons") or ():
            yield "", f"- {clean(each['code'])}: {clean(each['detail'])}" if isinstance(each, Mapping) else clean(each)
        if body.get("tries_left") is not None:
            yield say("tries left", "剩余次数"), str(body["tries_left"])
        if known:
            yield "→", say(known.next_step, known.next_step_zh)
    elif made == "signed":
        yield label, say("a signature was made and recorded before it was released", "签名已产生，且在放行前已记录")
        if body.get("signature_sha256"):
            yield say("its SHA-256", "签名 SHA-256"), clean(body["signature_sha256"])
        stamp = body.get("timestamp") or {}
        if stamp.get("time"):
            yield say("time-stamp", "时间戳"), f"{_time(stamp['time'])}, {clean(stamp.get('authority', ''))}"
        elif stamp.get("fault"):
            yield say("time-stamp", "时间戳"), f"{say('none', '无')}: {clean(stamp['fault'])}"
    elif made == "admin":
        yield label, say("done", "已完成")
    elif asked == "intent":
        yield (
            label,
            say(
                "none yet: it is under way, or the agent was interrupted; the next start settles it",
                "尚无：正在进行，或代理被中断；下次启动时补记",
            ),
        )
