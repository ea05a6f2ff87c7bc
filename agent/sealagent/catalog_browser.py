"""Error codes of the bridge for browser extensions; part of :mod:`sealagent.catalog`."""

from __future__ import annotations

from sealagent.problems import Exit, Problem, bad_input

__all__ = ["BROWSER"]

_MESSAGE = (
    "Correct the message; docs/native-messaging.md describes the form.",
    "请按 docs/native-messaging.md 更正消息。",
)

BROWSER: dict[str, Problem] = {
    "message_invalid": bad_input("The message of the extension is malformed", "扩展消息格式错误", _MESSAGE, 400),
    "message_too_large": bad_input(
        "The message of the extension is too large",
        "扩展消息过大",
        ("Send it in parts, or send less.", "请分段发送或减小内容。"),
        413,
    ),
    "id_in_use": bad_input(
        "The message id is in use",
        "消息编号正在使用",
        ("Give each request an id of its own.", "请为每个请求使用不同的编号。"),
        409,
    ),
    "bridge_busy": Problem(
        503,
        "Too many requests of the extension",
        "扩展请求过多",
        "Wait for answers, then try again.",
        "请等待应答后重试。",
    ),
    "route_not_bridged": Problem(
        403,
        "Browser extensions may not ask for this",
        "不允许浏览器扩展进行此操作",
        "Use the command line, `sealagent`, for what administers the agent.",
        "管理类操作请使用命令行 sealagent。",
        Exit.REFUSED,
    ),
    "record_not_own": Problem(
        403,
        "The record is not of this extension's requests",
        "该记录不属于本扩展的请求",
        "Ask for the numbers in the receipts that the extension got.",
        "请查询本扩展所获回执中的记录编号。",
        Exit.REFUSED,
    ),
    "origin_not_proven": Problem(
        403,
        "The program says that it asks for a browser extension, but no browser started it",
        "程序自称代表浏览器扩展，但并非由浏览器启动",
        "Use a browser that the agent knows, or have its program file added to [browser] programs of agent.toml.",
        "请使用代理已知的浏览器，或将其程序文件加入 agent.toml 的 [browser] programs。",
        Exit.REFUSED,
    ),
    "extension_not_allowed": Problem(
        403,
        "The extension is not allowed",
        "不允许该浏览器扩展",
        "Allow it: `sealagent browser install --browser NAME --extension ID`.",
        "请先允许：sealagent browser install --browser 浏览器 --extension 扩展编号。",
        Exit.REFUSED,
    ),
    "extension_id_invalid": bad_input(
        "This is no id of an extension",
        "扩展编号无效",
        ("Copy the id from the browser's page of extensions.", "请从浏览器的扩展管理页复制编号。"),
        400,
    ),
    "too_many_extensions": bad_input(
        "Too many extensions",
        "扩展过多",
        (
            "Remove some: `sealagent browser remove --extension ID`.",
            "请移除部分：sealagent browser remove --extension 编号。",
        ),
        400,
    ),
    "host_program_missing": Problem(
        500,
        "The program that browsers start is missing",
        "缺少供浏览器启动的程序",
        "Install SealAgent again.",
        "请重新安装 SealAgent。",
    ),
}
