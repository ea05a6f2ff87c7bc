"""The part of :mod:`sealagent.catalog` that belongs to web pages at the loopback listener."""

from __future__ import annotations

from sealagent.problems import Exit, Problem, bad_input

__all__ = ["PAGES"]

_PLAIN = (
    "Send one plain HTTP/1.1 request with a Content-Length, as `fetch` does; docs/browsers.md shows how.",
    "请像 fetch 那样发送带 Content-Length 的 HTTP/1.1 请求；参见 docs/browsers.md。",
)
_ALLOW = (
    "The administrator names the sites that may ask in [loopback] of agent.toml.",
    "请管理员在 agent.toml 的 [loopback] 中登记允许访问的网站。",
)

PAGES: dict[str, Problem] = {
    "loopback_unusable": Problem(
        500,
        "The agent cannot listen for web pages",
        "代理无法为网页建立监听",
        "Choose another `port` in [loopback] of agent.toml, or end the program that uses it.",
        "请在 agent.toml 的 [loopback] 中更换 port，或结束占用该端口的程序。",
    ),
    "loopback_host_refused": Problem(
        421,
        "This address is not one of the agent's",
        "请求的主机名不属于此代理",
        "Ask http://127.0.0.1:PORT exactly, with the port of agent.toml.",
        "请使用 http://127.0.0.1:端口（端口见 agent.toml）。",
        Exit.REFUSED,
    ),
    "origin_not_allowed": Problem(
        403, "This web site may not use the agent", "该网站无权使用此代理", *_ALLOW, Exit.REFUSED
    ),
    "preflight_refused": Problem(
        403, "Web pages may not send such a request", "网页不得发送此类请求", *_PLAIN, Exit.REFUSED
    ),
    "not_for_pages": Problem(
        403,
        "This resource is not for web pages",
        "网页不得访问该资源",
        "Use the `sealagent` command on this machine.",
        "请在本机使用 sealagent 命令。",
        Exit.REFUSED,
    ),
    "pairing_required": Problem(
        401,
        "The web site is not paired",
        "该网站尚未配对",
        "Pair it: POST /v1/pairings, then send the token as Authorization: Bearer.",
        "请先配对（POST /v1/pairings），再在 Authorization: Bearer 中发送令牌。",
        Exit.REFUSED,
    ),
    "too_many_attempts": Problem(
        429,
        "Too many failed attempts of this web site",
        "该网站失败次数过多",
        "Wait a minute, then use the token of its pairing, or pair it again.",
        "请稍候一分钟，再使用配对所得令牌，或重新配对。",
        Exit.REFUSED,
    ),
    "upgrade_refused": bad_input("WebSocket is not spoken here", "不支持 WebSocket 等协议升级", _PLAIN, 400),
    "http_refused": bad_input("This is no plain HTTP/1.1 request", "不是规范的 HTTP/1.1 请求", _PLAIN, 400),
    "head_too_large": bad_input("The head of the request is too large", "请求头过大", _PLAIN, 431),
    "head_timeout": bad_input("The head of the request came too slowly", "请求头接收超时", _PLAIN, 408),
}
