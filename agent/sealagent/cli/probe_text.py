"""How a probe's report reads, in English or Chinese."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sealagent.cli.output import chinese, clean, say, table_lines
from sealdrivers.probe.kinds import KINDS
from sealdrivers.probe.model import Finding, Outcome, Report, SectionReport, Severity, Timing

__all__ = ["COLUMNS_ZH", "SECTIONS", "outcome_text", "report_lines", "section_title", "verdict_line"]

SECTIONS: dict[str, tuple[str, str]] = {
    "load": ("Loading", "加载"),
    "abi": ("Interface", "接口"),
    "tokens": ("Slots and tokens", "槽与密码钥匙"),
    "mechanisms": ("Mechanisms", "机制"),
    "objects": ("Objects before login", "登录前可见对象"),
    "sessions": ("Sessions", "会话"),
    "threads": ("Threads", "线程"),
    "events": ("Events", "事件"),
    "devices": ("Devices and applications", "设备与应用"),
    "containers": ("Containers", "容器"),
    "files": ("Files", "文件"),
    "errors": ("Handles of the wrong kind", "错误句柄"),
    "signatures": ("Signatures", "签名"),
    "sm2": ("What SM2 mechanisms sign", "SM2 机制判定"),
}
"""Titles of the sections."""

_OUTCOMES = {
    Outcome.DONE: ("done", "完成"),
    Outcome.CRASHED: ("CRASHED", "崩溃"),
    Outcome.HUNG: ("HUNG", "无响应"),
    Outcome.FAILED: ("FAILED", "失败"),
    Outcome.NOT_RUN: ("not run", "未运行"),
}
_SEVERITIES = {
    Severity.FAULT: ("FAULT", "故障"),
    Severity.QUIRK: ("quirk", "偏差"),
    Severity.NOTE: ("note", "提示"),
    Severity.OK: ("ok", "正常"),
}

COLUMNS_ZH: dict[str, str] = {
    "admin_tries": "管理员次数",
    "after_finalize": "C_Finalize 后",
    "answer": "应答",
    "application": "应用",
    "applications": "应用",
    "bool_octets": "BOOL 字节数",
    "call": "调用",
    "cancelled_after_ms": "取消耗时（毫秒）",
    "cancelled_with": "取消返回值",
    "certificate": "证书",
    "certificates": "证书",
    "claimed": "厂商表",
    "container": "容器",
    "containers": "容器",
    "cryptoki_version": "Cryptoki 版本",
    "data_objects": "数据对象",
    "description": "描述",
    "device": "设备",
    "devices": "设备",
    "devices_plugged_in": "已插入设备",
    "devices_supported": "支持的设备",
    "devinfo_octets": "DEVINFO 字节数",
    "empty_lists": "空列表",
    "eseal_extension": "EPS_ReadESealData 扩展",
    "exchange_key": "加密密钥对",
    "exported": "已导出函数",
    "extensions": "扩展函数",
    "factory_pin": "出厂 PIN",
    "file": "文件",
    "files": "文件",
    "firmware": "固件",
    "flags": "标志",
    "form": "形式",
    "hardware": "硬件",
    "input_lengths": "输入长度",
    "interface_version": "函数表版本",
    "issuer": "发行者",
    "key": "密钥",
    "key_sizes": "密钥长度",
    "key_type": "CKA_KEY_TYPE",
    "keys": "密钥",
    "label": "标签",
    "library_version": "库版本",
    "lists": "列表次数",
    "manufacturer": "厂商",
    "max_buffer": "最大缓冲",
    "mechanism": "机制",
    "mechanisms": "机制",
    "median_ms": "中位毫秒",
    "missing_and_not_needed": "缺少但不需要",
    "model": "型号",
    "name": "名称",
    "name_encoding": "名称编码",
    "native": "编号",
    "null_entries": "空指针函数",
    "objects": "对象",
    "octets": "字节",
    "of_the_standard": "标准函数",
    "os_locking": "系统锁",
    "overlapped": "并发重叠",
    "pin_octets": "PIN 长度",
    "pkcs11": "PKCS#11",
    "private_keys": "私钥",
    "public_keys": "公钥",
    "read": "读取",
    "read_rights": "读权限",
    "record_octets": "结构字节数",
    "result": "结果",
    "searches": "查找次数",
    "serial": "序列号",
    "sessions_at_once": "同时会话数",
    "sessions_most": "会话上限",
    "sessions_refused_with": "会话拒绝值",
    "sign_without_init": "未初始化签名",
    "signatures": "签名",
    "signing_key": "签名密钥",
    "skf": "SKF",
    "slot_flags": "槽标志",
    "slots": "槽",
    "sm2_profile": "SM2 条目",
    "small_buffer": "过小缓冲区",
    "state": "状态",
    "then": "随后",
    "threads": "线程",
    "token": "钥匙",
    "tokens": "密码钥匙",
    "type": "类型",
    "unknown_mechanism": "未知机制",
    "user_tries": "用户次数",
    "vendor_entry": "厂商表条目",
    "waiting": "等待",
    "when": "时机",
    "with_32_octets": "32 字节输入",
    "with_a_message": "消息输入",
    "without_buffer": "无缓冲区",
    "without_login": "未登录签名",
    "without_waiting": "不等待",
    "works": "可用",
    "wrong_handles": "错误句柄",
}
"""Names of facts, tables and columns; in English they are the names themselves."""


def section_title(name: str) -> str:
    """Return a section's title."""
    return say(*SECTIONS[name])


def outcome_text(section: SectionReport) -> str:
    """Return how a section ended."""
    return say(*_OUTCOMES[section.outcome])


def verdict_line(report: Report) -> str:
    """Return whether the library can be used, as far as was looked at."""
    if not report.usable:
        return f"{say('NOT USABLE', '不可用')}: {', '.join(report.blocking)}"
    if report.signatures:
        return say("usable", "可用")
    return say("usable, as far as can be known without a PIN", "可用（未用 PIN 检测签名）")


def report_lines(report: Report) -> list[str]:
    """Return the whole report: what it is about, findings, sections, times."""
    lines = [f"SealAgent {report.version} driver probe, {report.date}, {report.system}", *_library(report), ""]
    lines += _findings(report)
    for section in report.sections:
        lines += ["", *_section(section)]
    return [clean(line) for line in [*lines, *_times(report)]]


def _times(report: Report) -> list[str]:
    """Return the times of each call, from the section that made it most often; the JSON form has all of them."""
    best: dict[str, tuple[str, Timing]] = {}
    for section in report.sections:
        for timing in section.timings:
            if timing.call not in best or best[timing.call][1].count < timing.count:
                best[timing.call] = (section.name, timing)
    if not best:
        return []
    header = (
        *(say("CALL", "调用"), say("MIN ms", "最小毫秒"), say("MEDIAN", "中位"), say("MAX", "最大")),
        *(say("COUNT", "次数"), say("SECTION", "部分")),
    )
    rows = [
        (call, f"{timing.min_ms:.3f}", f"{timing.median_ms:.3f}", f"{timing.max_ms:.3f}", timing.count, section)
        for call, (section, timing) in best.items()
    ]
    return ["", say("Times", "耗时"), *_indented(table_lines(header, rows))]


def _library(report: Report) -> list[str]:
    facts = report.library
    interface = {"pkcs11": "PKCS#11", "skf": "SKF (GM/T 0016)", "": say("neither interface", "无可用接口")}
    said = ", ".join(text for text in (facts.manufacturer, facts.description, facts.version) if text)
    numbers = f"SM2: {facts.sm2_profile}" if facts.sm2_profile else ""
    table = "; ".join(text for text in (facts.vendor_entry, numbers) if text)
    octets = say("octets", "字节")
    architecture = facts.architecture or say("unknown format", "未知格式")
    rows = [
        (say("library", "库"), facts.path),
        ("", f"{interface[facts.driver]}, {architecture}, {facts.size} {octets}"),
        ("SHA-256", facts.sha256),
        (say("says it is", "自述"), said or "-"),
        (say("vendor table", "厂商表"), table or say("no entry", "无条目")),
        (say("verdict", "结论"), verdict_line(report)),
    ]
    return table_lines(rows[0], rows[1:])


def _findings(report: Report) -> list[str]:
    order = list(_SEVERITIES)
    found: dict[Finding, list[str]] = {}
    for section in report.sections:
        for finding in section.findings:
            found.setdefault(finding, []).append(section.name)
    lines = [say("Findings", "检测结果")]
    for finding in sorted(found, key=lambda item: order.index(item.severity)):
        lines += _finding(",".join(found[finding]), finding)
    return lines if found else [*lines, f"  {say('none', '无')}"]


def _finding(section: str, finding: Finding) -> list[str]:
    kind = KINDS[finding.code]
    title = kind.title_zh if chinese() else kind.title
    handling = (kind.handling_zh or kind.handling) if chinese() else kind.handling
    where = f"{finding.where}: " if finding.where else ""
    times = f" (x{finding.times})" if finding.times > 1 else ""
    detail = f": {finding.detail}" if finding.detail else ""
    lines = [f"  {say(*_SEVERITIES[finding.severity])}  {where}{title}{detail}{times}  [{section}/{finding.code}]"]
    if finding.severity is Severity.OK:
        return lines
    clause = f" ({kind.clause})" if kind.clause else ""
    if handling or clause:
        lines.append(f"         → {handling}{clause}" if handling else f"        {clause}")
    return lines


def _section(section: SectionReport) -> Iterator[str]:
    reason = f": {section.reason}" if section.reason else ""
    yield f"{section_title(section.name)}: {outcome_text(section)}{reason}"
    plain = {name: value for name, value in section.facts.items() if not _is_table(value)}
    if plain:
        rows = [(_label(name), _value(value)) for name, value in plain.items()]
        yield from _indented(table_lines(rows[0], rows[1:]))
    for name, value in section.facts.items():
        if _is_table(value):
            yield f"  {_label(name)}"
            columns = list(dict.fromkeys(column for row in value for column in row))
            cells = [[_value(row.get(column)) for column in columns] for row in value]
            header = [label if chinese() else label.upper() for label in map(_label, columns)]
            yield from _indented(table_lines(header, cells), 4)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _label(name: str) -> str:
    return COLUMNS_ZH.get(name, name) if chinese() else name.replace("_", " ")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return say("yes", "是") if value else say("no", "否")
    if value is None or value in ("", []):
        return "-"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return str(value)


def _indented(lines: list[str], by: int = 2) -> list[str]:
    return [" " * by + line for line in lines]
