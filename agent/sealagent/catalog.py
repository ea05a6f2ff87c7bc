"""Every error code once: HTTP status, exit status, title and next step in English and Chinese.

Used by the socket (problem details, RFC 9457) and by the command line. A test holds this table to the codes that the
source raises.
"""

from __future__ import annotations

from sealagent.catalog_batches import BATCHES
from sealagent.catalog_browser import BROWSER
from sealagent.catalog_callers import CALLERS
from sealagent.catalog_devices import DEVICES
from sealagent.catalog_documents import DOCUMENTS
from sealagent.catalog_maker import MAKER
from sealagent.catalog_pages import PAGES
from sealagent.problems import Exit, Problem, bad_input

__all__ = ["CATALOG", "Exit", "Problem", "problem"]

_LIMIT = (
    "Split the work, or ask the administrator to raise the named limit.",
    "请拆分后重试，或请管理员调高相应限额。",
)
_DAMAGED = ("Get the file again from where it came from.", "请向来源方重新获取该文件。")
_REQUEST = ("Correct the named field; GET /v1/openapi.json describes the request.", "请按接口文档更正所述字段。")
_RECORD = (
    "Free space where the record is kept, then try again; nothing was released.",
    "请为记录文件腾出空间后重试；签名未被放行。",
)
_STATE = ("Free space where the agent keeps its state, then try again.", "请为代理的状态目录腾出空间后重试。")
_STATUS_SIGNER = (
    "Check who signs for the status service: the trust list, or `signers` of the service in agent.toml.",
    "请检查状态服务的签署者：信任列表，或 agent.toml 中该服务的 signers。",
)
_SERVICE = (
    "Check the service's address in agent.toml or in the trust list, and the network; then try again.",
    "请检查 agent.toml 或信任列表中的服务地址以及网络，然后重试。",
)

CATALOG: dict[str, Problem] = {
    # Requests
    "request_invalid": bad_input("The request is malformed", "请求格式错误", _REQUEST, 400),
    "not_found": bad_input("There is no such resource", "资源不存在", _REQUEST, 404),
    "method_not_allowed": bad_input("The resource does not take this method", "不支持的请求方法", _REQUEST, 405),
    "body_too_large": bad_input("The request is too large", "请求过大", _LIMIT, 413),
    "body_timeout": bad_input("The request body came too slowly", "请求体接收超时", _REQUEST, 408),
    "media_type_unsupported": bad_input("The body has the wrong media type", "请求体类型不支持", _REQUEST, 415),
    "digest_invalid": bad_input("The digest has the wrong length", "摘要长度错误", _REQUEST),
    "too_many_listeners": Problem(
        503, "Too many event listeners", "事件监听者过多", "Close one and try again.", "请关闭部分监听后重试。"
    ),
    "too_many_documents": Problem(
        503, "Too many documents at once", "同时处理的文件过多", "Try again shortly.", "请稍后重试。"
    ),
    "idempotency_conflict": Problem(
        409,
        "The Idempotency-Key was used for another request",
        "幂等键已用于其他请求",
        "Use a new key for a new request.",
        "新请求请使用新的幂等键。",
    ),
    "idempotency_result_gone": Problem(
        409,
        "The request was carried out before and its result is no longer kept",
        "该请求已执行过，结果已不再保留",
        "Look the signature up in the record (`sealagent record list`).",
        "请在记录中查询该签名。",
    ),
    "internal_error": Problem(
        500,
        "The agent failed",
        "代理内部错误",
        "Report it with the daemon's log; nothing was released.",
        "请附上守护进程日志反馈；签名未被放行。",
    ),
    "not_supported": Problem(
        501,
        "Not supported",
        "不支持该操作",
        "Use another way that the documentation names.",
        "请改用文档所述的其他方式。",
    ),
    "config_invalid": Problem(
        500,
        "The configuration is wrong",
        "配置错误",
        "Correct the named key; config/agent.toml (config/maker.toml for the maker) describes all of them.",
        "请更正所述配置项。",
        Exit.USAGE,
    ),
    "policy_invalid": Problem(
        403,
        "The policy is wrong, so nothing is allowed",
        "策略文件有误，一切请求均被拒绝",
        "Correct what is named (`sealagent policy check`); config/policy.toml describes every key.",
        "请更正所述内容；可用 sealagent policy check 检查。",
        Exit.REFUSED,
    ),
    "vendor_table_invalid": Problem(
        500,
        "The vendor table is wrong",
        "厂商表错误",
        "Correct the named entry of vendors.toml.",
        "请更正 vendors.toml 中所述条目。",
        Exit.USAGE,
    ),
    # The daemon
    "daemon_running": Problem(
        409,
        "The agent is already running",
        "代理已在运行",
        "Use the running one, or stop it first.",
        "请直接使用，或先停止它。",
    ),
    "socket_unusable": Problem(
        500,
        "The socket cannot be made",
        "无法创建套接字",
        "Check the directory named, or choose another with SEALAGENT_SOCKET.",
        "请检查所述目录，或用 SEALAGENT_SOCKET 指定其他位置。",
    ),
    "agent_unreachable": Problem(
        503,
        "The agent does not answer",
        "无法连接代理",
        "Start it with `sealagent daemon run`.",
        "请运行 sealagent daemon run 启动代理。",
        Exit.UNREACHABLE,
    ),
    "agent_timeout": Problem(
        504,
        "The agent did not answer in time",
        "代理响应超时",
        "Look whether a PIN prompt is waiting; the record says whether anything was signed.",
        "请查看是否有待输入的 PIN 提示；可在记录中确认是否已签名。",
    ),
    "agent_failed": Problem(
        502,
        "The agent answered nonsense",
        "代理应答异常",
        "Check what listens at the socket.",
        "请检查套接字上的程序。",
    ),
    "agent_stopping": Problem(
        503,
        "The agent is being stopped",
        "代理正在停止",
        "Try again once it runs; nothing was signed.",
        "请在代理重新运行后重试；未产生签名。",
        Exit.UNREACHABLE,
    ),
    "too_many_connections": Problem(
        503,
        "Too many connections to the agent",
        "与代理的连接过多",
        "Close one and try again.",
        "请关闭部分连接后重试。",
    ),
    "caller_unknown": Problem(
        403,
        "The caller cannot be identified",
        "无法识别调用方",
        "Connect to the Unix socket directly.",
        "请直接连接套接字。",
        Exit.REFUSED,
    ),
    "caller_not_allowed": Problem(
        403,
        "This user may not use the agent",
        "该用户无权使用此代理",
        "Use your own agent.",
        "请使用您自己的代理。",
        Exit.REFUSED,
    ),
    "caller_changed": Problem(
        403,
        "The caller is not the program that connected",
        "调用方已不是建立连接时的程序",
        "Connect again from the program that asks; restart it if its file was replaced. Nothing was signed.",
        "请由发出请求的程序重新连接；若其程序文件已更新，请先重启该程序。未产生签名。",
        Exit.REFUSED,
    ),
    "caller_gone": Problem(
        403,
        "The caller has ended",
        "调用方已退出",
        "Keep the program that asks running until it has its answer. Nothing was signed.",
        "请保持发出请求的程序运行，直至收到应答。未产生签名。",
        Exit.REFUSED,
    ),
    # Services that are asked
    "service_unreachable": Problem(502, "A service cannot be reached", "无法连接服务", *_SERVICE),
    "service_timeout": Problem(504, "A service did not answer in time", "服务应答超时", *_SERVICE),
    "service_refused": Problem(502, "A service refused to answer", "服务拒绝应答", *_SERVICE),
    "service_answer_too_large": Problem(502, "A service answered too much", "服务应答过大", *_SERVICE),
    "status_answer_refused": Problem(
        502, "A seal status answer does not count", "印章状态应答不被采信", *_STATUS_SIGNER
    ),
    "status_list_rolled_back": Problem(
        409,
        "The status list is older than one that was used before",
        "印章状态列表版本回退",
        "Get the newest list from the unit that publishes it.",
        "请向发布单位获取最新列表。",
    ),
    "status_list_conflict": Problem(
        409,
        "Two status lists have the same sequence",
        "同一版本号出现了不同的印章状态列表",
        "Tell the unit that publishes it; until it issues a higher sequence neither counts.",
        "请告知发布单位；在其发布更高版本之前均不采用。",
    ),
    "status_state_failed": Problem(
        500,
        "What is remembered of status lists cannot be read or written",
        "印章状态列表的版本记忆无法读写",
        "Check the named file and its disk; if it is removed, an older list may count as the newest.",
        "请检查所述文件及磁盘；删除该文件后，旧列表可能被当作最新列表。",
    ),
    # Evidence
    "evidence_not_found": Problem(
        404,
        "There is no such evidence",
        "没有该证据",
        "The record names what was kept: `sealagent record show`, status.",
        "记录中列有所保存的证据：sealagent record show 的 status 部分。",
    ),
    "evidence_failed": Problem(500, "Evidence cannot be kept or read", "证据无法保存或读取", *_STATE),
    "status_answer_invalid": bad_input(
        "The seal status answer is malformed",
        "印章状态应答格式错误",
        (
            "Ask whoever runs the status service; nothing in the answer was used.",
            "请联系状态查询服务的运营方；该应答未被采用。",
        ),
        502,
    ),
    # Trust lists
    "trust_list_invalid": bad_input("The trust list is malformed", "信任列表格式错误", _DAMAGED),
    "trust_list_signer": Problem(
        403,
        "The trust list is signed by somebody else",
        "信任列表的签署者不符",
        "Compare the signer's SHA-256 with what the unit publishes elsewhere; the version before names who may follow.",
        "请与发布单位另行公布的证书指纹核对；新的签署证书须在上一版列表中声明。",
        Exit.REFUSED,
    ),
    "trust_list_rolled_back": Problem(
        409,
        "The trust list is older than one that was seen before",
        "信任列表版本回退",
        "Get the newest version from the unit that publishes it.",
        "请向发布单位获取最新版本。",
        Exit.REFUSED,
    ),
    "trust_list_conflict": Problem(
        409,
        "Two trust lists have the same version",
        "同一版本号出现了不同的信任列表",
        "Tell the unit that publishes it; until it issues a higher version the list before counts.",
        "请告知发布单位；在其发布更高版本之前，仍以原列表为准。",
        Exit.REFUSED,
    ),
    "trust_list_stale": Problem(
        409,
        "The trust list is out of date",
        "信任列表已过期",
        "Get the newest version from the unit that publishes it.",
        "请向发布单位获取最新版本。",
        Exit.REFUSED,
    ),
    "trust_list_not_found": Problem(
        404,
        "There is no such trust list",
        "没有该信任列表",
        "See `sealagent trust list`; a new one is added with `sealagent trust add`.",
        "请查看 sealagent trust list；新列表请用 sealagent trust add 添加。",
    ),
    "trust_list_exists": Problem(
        409,
        "The trust list is there already",
        "信任列表已存在",
        "Bring in its new version with `sealagent trust update`.",
        "请用 sealagent trust update 更新版本。",
    ),
    "trust_list_read_only": Problem(
        403,
        "The trust list is the administrator's",
        "信任列表由管理员维护",
        "Have the administrator change it in the folder that trust.lists names.",
        "请由管理员在 trust.lists 所列目录中更改。",
        Exit.REFUSED,
    ),
    "trust_list_damaged": Problem(
        500,
        "What is remembered of the trust list is damaged",
        "信任列表的存档已损坏",
        "Find out why; then move its file out of the folder trust/ in the state directory, and add the list again.",
        "请查明原因，再将状态目录 trust/ 中的对应文件移出，然后重新添加列表。",
    ),
    "trust_store_full": Problem(
        507,
        "There is no room for another trust list",
        "信任列表数量已达上限",
        "Remove lists that are no longer needed.",
        "请删除不再需要的列表。",
    ),
    "trust_store_failed": Problem(500, "Trust lists cannot be kept", "信任列表读写失败", *_STATE),
    # The test bed
    "testbed_needs_source": Problem(
        501,
        "The test bed needs a source checkout",
        "测试环境需要源码目录",
        "Run it from a checkout in which `make setup` was run, or name one in SEALAGENT_SOURCE.",
        "请在已执行 make setup 的源码目录中运行，或用 SEALAGENT_SOURCE 指定源码目录。",
    ),
    "testbed_packages_missing": Problem(
        501,
        "The test bed lacks parts of the system",
        "缺少测试环境所需的系统软件包",
        "Install the named packages (`make setup` in the checkout does), then try again.",
        "请安装所列软件包（可在源码目录执行 make setup），然后重试。",
    ),
    "testbed_busy": Problem(
        409,
        "Another command is at work on this test bed",
        "另一条命令正在操作该测试环境",
        "Wait until it has ended, or choose another folder with --dir.",
        "请等待其结束，或用 --dir 另选目录。",
    ),
    "testbed_unfinished": Problem(
        409,
        "The test bed is half made",
        "测试环境未建成",
        "Remove it with `sealagent testbed down`, then make it anew.",
        "请先运行 sealagent testbed down 删除，再重新建立。",
    ),
    "testbed_foreign_folder": Problem(
        409,
        "The folder is no test bed",
        "该目录不是测试环境",
        "Choose another folder with --dir; nothing in this one was touched.",
        "请用 --dir 另选目录；该目录中的内容未被改动。",
    ),
    "testbed_port_busy": Problem(
        409,
        "A port that the test bed's certificates name is taken",
        "测试环境证书所用的端口已被占用",
        "End the program that has it, or make a new test bed: `sealagent testbed down`, then `sealagent testbed up`.",
        "请结束占用该端口的程序，或先运行 sealagent testbed down，再重新建立。",
    ),
    "testbed_step_failed": Problem(
        500,
        "A step of the test bed failed",
        "测试环境的某一步骤失败",
        "Nothing of it runs any more; the logs are in its folder run/. Remove it with `sealagent testbed down`.",
        "其进程均已停止，日志在其 run/ 目录中；请运行 sealagent testbed down 删除。",
    ),
    # The record
    "record_failed": Problem(507, "The record cannot be written", "无法写入记录", *_RECORD),
    "record_in_use": Problem(
        409,
        "Another agent writes this record",
        "记录正被另一代理使用",
        "An agent is already running with this state directory: use it, or stop it first.",
        "已有代理在使用该状态目录：请直接使用，或先停止它。",
    ),
    "record_damaged": Problem(
        500,
        "The record is damaged",
        "记录已损坏",
        "Keep the file as evidence, and start with a new state directory.",
        "请保留该文件作为证据，并改用新的状态目录。",
    ),
    "record_hash_mismatch": Problem(
        500,
        "The record was made with another hash",
        "记录使用了其他杂凑算法",
        "Set record.tree_hash to what the record has, or start a new state directory.",
        "请将 record.tree_hash 改为该记录所用的算法，或改用新的状态目录。",
        Exit.USAGE,
    ),
    "record_intent_not_open": Problem(
        500,
        "The record has no such open intent",
        "记录中没有该待结意图",
        "Report it with the daemon's log.",
        "请附日志反馈。",
    ),
    "record_body_invalid": bad_input("This cannot be put on record", "内容无法写入记录", _REQUEST),
    "record_body_too_large": bad_input("This is too large for the record", "内容过长，无法写入记录", _REQUEST, 413),
    "record_entry_invalid": Problem(
        500,
        "An entry of the record is malformed",
        "记录条目格式错误",
        "Check it: `sealagent record verify`.",
        "请核验该记录。",
    ),
    "checkpoint_invalid": bad_input(
        "The checkpoint is malformed",
        "检查点格式错误",
        (
            "Give the three lines that `sealagent record checkpoint` printed.",
            "请提供 sealagent record checkpoint 输出的三行内容。",
        ),
    ),
    "record_not_found": Problem(
        404, "There is no such record", "没有该条记录", "See `sealagent record list`.", "请查看记录列表。"
    ),
    # Parts of their own
    **BATCHES,
    **BROWSER,
    **CALLERS,
    **DEVICES,
    **DOCUMENTS,
    **MAKER,
    **PAGES,
}


def problem(code: str) -> Problem:
    """Return what a code means; an unknown one is an internal error."""
    return CATALOG.get(code, CATALOG["internal_error"])
