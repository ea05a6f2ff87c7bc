"""The part of :mod:`sealagent.catalog` that belongs to paired applications and grants."""

from __future__ import annotations

from sealagent.problems import Exit, Problem, bad_input

__all__ = ["CALLERS"]

_REQUEST = ("Correct the named field; GET /v1/openapi.json describes the request.", "请按接口文档更正所述字段。")
_PAIR = (
    "Pair the application anew; the holder agrees in the agent's own prompt.",
    "请重新配对该应用，并由持有人在代理的提示窗口中确认。",
)
_APPLICATIONS = (
    "`sealagent app list` shows the applications there are.",
    "可运行 sealagent app list 查看已配对的应用。",
)

CALLERS: dict[str, Problem] = {
    # Pairing
    "pairing_not_found": Problem(
        404,
        "There is no such pairing to complete",
        "没有待完成的该配对",
        "Begin anew, and complete it from the same process within five minutes.",
        "请重新发起配对，并由同一进程在五分钟内完成。",
    ),
    "pairing_secret_wrong": Problem(
        403,
        "The secret of the pairing is wrong",
        "配对密钥错误",
        "The pairing has ended; begin anew.",
        "该配对已终止，请重新发起。",
        Exit.REFUSED,
    ),
    "too_many_pairings": Problem(
        503,
        "Too many programs ask to be paired",
        "同时申请配对的程序过多",
        "Answer the prompts that are open, or wait five minutes.",
        "请先处理已打开的提示，或五分钟后重试。",
    ),
    "too_many_applications": Problem(
        507,
        "There is no room for another application",
        "已配对的应用数量达到上限",
        "Revoke applications that are no longer used (`sealagent app revoke`).",
        "请撤销不再使用的应用（sealagent app revoke）。",
    ),
    "application_not_found": Problem(404, "There is no such application", "没有该应用", *_APPLICATIONS),
    "application_name_taken": Problem(
        409,
        "Another application bears this name",
        "该名称已被其他应用使用",
        "Choose another name, or revoke the other application first (`sealagent app revoke`).",
        "请另选名称，或先撤销另一应用（sealagent app revoke）。",
    ),
    "name_invalid": bad_input(
        "The name cannot be used",
        "名称不可用",
        ("Choose a name of 1 to 64 visible characters.", "请使用 1 至 64 个可见字符的名称。"),
    ),
    # Tokens of applications
    "token_invalid": Problem(401, "The application's token is not known", "应用令牌无效", *_PAIR, Exit.REFUSED),
    "pairing_expired": Problem(401, "The pairing has expired", "配对已过期", *_PAIR, Exit.REFUSED),
    "pairing_revoked": Problem(401, "The pairing was revoked", "配对已被撤销", *_PAIR, Exit.REFUSED),
    "token_misused": Problem(
        401,
        "The token belongs to another program",
        "该令牌属于其他程序",
        "Pair this program for itself; if nobody copied the token on purpose, revoke its application "
        "(`sealagent app revoke`).",
        "请为该程序单独配对；若非有意复制令牌，请撤销其应用（sealagent app revoke）。",
        Exit.REFUSED,
    ),
    "program_changed": Problem(
        403,
        "The application's program was changed",
        "应用的程序文件已变更",
        "If it was updated, pair the application anew; if not, find out what changed it.",
        "若为正常升级，请重新配对该应用；否则请查明变更原因。",
        Exit.REFUSED,
    ),
    "token_file_refused": Problem(
        422,
        "The file of the application's token is of no use",
        "应用令牌文件不可用",
        "Name a regular file of yours with mode 0600 that holds one token (`sealagent app pair NAME --save FILE`).",
        "请指定本人所有、权限为 0600 且只含一个令牌的普通文件（sealagent app pair 名称 --save 文件）。",
        Exit.USAGE,
    ),
    # Grants
    "grant_invalid": bad_input("The grant makes no sense", "授权内容无效", _REQUEST),
    "grant_not_found": Problem(
        404,
        "There is no such grant",
        "没有该授权",
        "`sealagent app grants` shows the grants there are.",
        "可运行 sealagent app grants 查看现有授权。",
    ),
    "grant_spent": Problem(
        403,
        "The grant is used up",
        "授权次数已用完",
        "Ask again, so that the holder can agree; nothing was signed.",
        "请重新发起，由持有人确认；未产生签名。",
        Exit.REFUSED,
    ),
    "grant_ended": Problem(
        403,
        "The grant does not count any more",
        "授权已失效",
        "Ask again, so that the holder can agree; nothing was signed.",
        "请重新发起，由持有人确认；未产生签名。",
        Exit.REFUSED,
    ),
    "too_many_grants": Problem(
        507,
        "There is no room for another grant",
        "授权数量已达上限",
        "Remove grants that are no longer needed (`sealagent app ungrant`).",
        "请删除不再需要的授权（sealagent app ungrant）。",
    ),
    "policy_limit_reached": Problem(
        403,
        "The day's limit of a policy rule is reached",
        "已达到策略规则的每日上限",
        "Try again tomorrow, or have the administrator raise `per_day` in policy.toml.",
        "请次日重试，或请管理员调高 policy.toml 中的 per_day。",
        Exit.REFUSED,
    ),
    # Their file
    "callers_damaged": Problem(
        500,
        "The file of pairings and grants is damaged",
        "配对与授权文件已损坏",
        "Put a backup of callers.sqlite in its place, or move it and its -wal neighbour away: then every application "
        "is to be paired anew, and prohibitions are to be given anew.",
        "请用备份替换 callers.sqlite，或将其与相邻的 -wal 文件一并移走；移走后须重新配对所有应用并重新设置禁止项。",
    ),
    "callers_failed": Problem(
        507,
        "Pairings and grants cannot be kept",
        "配对与授权无法读写",
        "Free space where the agent keeps its state, and see that no other program has callers.sqlite open.",
        "请为代理的状态目录腾出空间，并确认没有其他程序打开 callers.sqlite。",
    ),
}
