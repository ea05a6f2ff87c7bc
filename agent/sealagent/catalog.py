"""Every error code once: HTTP status, exit status, title and next step in English and Chinese.

Used by the socket (problem details, RFC 9457) and by the command line. A test holds this table to the codes that the
source raises.
"""

from __future__ import annotations

from sealagent.catalog_maker import MAKER
from sealagent.problems import Exit, Problem

__all__ = ["CATALOG", "Exit", "Problem", "problem"]

_FILE = ("Send a file of the named format.", "请提交所述格式的文件。")
_LIMIT = (
    "Split the work, or ask the administrator to raise the named limit.",
    "请拆分后重试，或请管理员调高相应限额。",
)
_DAMAGED = ("Get the file again from where it came from.", "请向来源方重新获取该文件。")
_PLACE = (
    "Choose a page the document has, and a place on it: `--at PAGE,X,Y`, millimetres from the top left corner.",
    "请选择文档中存在的页及页内位置：--at 页,X,Y，单位毫米，自左上角起。",
)
_REQUEST = ("Correct the named field; GET /v1/openapi.json describes the request.", "请按接口文档更正所述字段。")
_PICTURE = (
    "Correct what is named, or draw one: `sealagent maker draw`.",
    "请按提示更正图像，或用 sealagent maker draw 绘制。",
)
_DESIGN = (
    "Correct the named part; `sealagent maker draw --help` shows what there is.",
    "请更正所述部分；可运行 sealagent maker draw --help 查看选项。",
)
_FONT = (
    "Install one of the named Debian packages, or name a font file with --font.",
    "请安装所述 Debian 字体包，或用 --font 指定字体文件。",
)
_RECORD = (
    "Free space where the record is kept, then try again; nothing was released.",
    "请为记录文件腾出空间后重试；签名未被放行。",
)
_STATE = ("Free space where the agent keeps its state, then try again.", "请为代理的状态目录腾出空间后重试。")
_PLAIN = ("Send the document unencrypted.", "请提交未加密的文件。")
_DEVICE = (
    "Unplug the key and plug it in again; `sealagent doctor` shows what the agent sees.",
    "请拔下并重新插入钥匙；可运行 sealagent doctor 查看情况。",
)
_MODULE = (
    "Check the module's path and permissions; `sealagent doctor` lists what was tried.",
    "请检查模块路径与权限；可运行 sealagent doctor 查看情况。",
)
_STATUS_SIGNER = (
    "Check who signs for the status service: the trust list, or `signers` of the service in agent.toml.",
    "请检查状态服务的签署者：信任列表，或 agent.toml 中该服务的 signers。",
)
_SERVICE = (
    "Check the service's address in agent.toml or in the trust list, and the network; then try again.",
    "请检查 agent.toml 或信任列表中的服务地址以及网络，然后重试。",
)
_TSA = (
    "Try again later; if it persists, ask who runs the time-stamping authority.",
    "请稍后重试；若仍失败，请联系时间戳机构。",
)


def _bad_input(title: str, title_zh: str, step: tuple[str, str] = _FILE, status: int = 422) -> Problem:
    return Problem(status, title, title_zh, *step)


CATALOG: dict[str, Problem] = {
    # Requests
    "request_invalid": _bad_input("The request is malformed", "请求格式错误", _REQUEST, 400),
    "not_found": _bad_input("There is no such resource", "资源不存在", _REQUEST, 404),
    "method_not_allowed": _bad_input("The resource does not take this method", "不支持的请求方法", _REQUEST, 405),
    "body_too_large": _bad_input("The request is too large", "请求过大", _LIMIT, 413),
    "body_timeout": _bad_input("The request body came too slowly", "请求体接收超时", _REQUEST, 408),
    "media_type_unsupported": _bad_input("The body has the wrong media type", "请求体类型不支持", _REQUEST, 415),
    "digest_invalid": _bad_input("The digest has the wrong length", "摘要长度错误", _REQUEST),
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
        "Correct the named key; config/agent.toml describes all of them.",
        "请更正所述配置项。",
        Exit.USAGE,
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
    # Tokens and keys
    "token_not_found": Problem(
        404,
        "The token is not plugged in",
        "未插入该钥匙",
        "Plug in the key, then try again.",
        "请插入钥匙后重试。",
        Exit.NO_TOKEN,
    ),
    "token_removed": Problem(
        409,
        "The token was removed",
        "钥匙已被拔出",
        "Plug in the key, then try again.",
        "请插入钥匙后重试。",
        Exit.NO_TOKEN,
    ),
    "key_not_found": Problem(
        404,
        "The key is not on a plugged-in token",
        "已插入的钥匙中没有该密钥",
        "`sealagent key list` shows the keys there are.",
        "可运行 sealagent key list 查看。",
        Exit.NO_TOKEN,
    ),
    "object_exists": Problem(
        409,
        "The token already holds such an object",
        "钥匙中已有同名对象",
        "Choose another identifier.",
        "请更换标识。",
    ),
    "object_invalid": _bad_input("The token cannot store this", "钥匙无法存放该对象", _REQUEST),
    "certificate_mismatch": Problem(
        422,
        "The certificate is not of this key",
        "证书与密钥不匹配",
        "Import the certificate that was issued for this key's request.",
        "请导入由该密钥的请求签发的证书。",
    ),
    "public_key_unreadable": Problem(
        409,
        "The key's public half cannot be read",
        "无法读取公钥",
        "Import the key's certificate to the token first.",
        "请先导入该密钥的证书。",
    ),
    "pin_incorrect": Problem(
        403,
        "The PIN was wrong",
        "PIN 码错误",
        "Try again with the right PIN; too many wrong ones lock the key.",
        "请核对后重试；多次错误将锁定钥匙。",
        Exit.PIN,
    ),
    "pin_locked": Problem(
        403,
        "The PIN is locked",
        "PIN 码已锁定",
        "Have the key's issuer or administrator unblock it: sealagent token unblock-pin TOKEN.",
        "请联系发放机构或管理员解锁：sealagent token unblock-pin TOKEN。",
        Exit.PIN,
    ),
    "pin_last_try": Problem(
        403,
        "One try is left, and nobody confirmed that it may be spent",
        "只剩最后一次机会，且未经持有人确认",
        "Make sure of the PIN, try again and confirm at the agent's own prompt (pinentry or terminal), or have the "
        "administrator set a new one: sealagent token unblock-pin TOKEN.",
        "请先核实 PIN，再重试并在代理的提示（pinentry 或终端）中确认；"
        "或请管理员重设：sealagent token unblock-pin TOKEN。",
        Exit.PIN,
    ),
    "admin_pin_incorrect": Problem(
        403,
        "The administrator's PIN was wrong",
        "管理员 PIN 码错误",
        "Ask the key's issuer for the administrator's PIN; too many wrong ones lock it for good.",
        "请向发放机构核实管理员 PIN；多次错误将永久锁定。",
        Exit.PIN,
    ),
    "admin_pin_locked": Problem(
        403,
        "The administrator's PIN is locked",
        "管理员 PIN 码已锁定",
        "Have the key's issuer initialise or replace the key; nobody else can unblock it.",
        "请联系发放机构重新初始化或更换钥匙。",
        Exit.PIN,
    ),
    "pin_rejected": Problem(
        422,
        "The token does not accept this PIN",
        "PIN 码不符合要求",
        "Use a PIN of the length the token asks for; no try was spent.",
        "请使用符合长度要求的 PIN 码；未消耗尝试次数。",
        Exit.PIN,
    ),
    "pin_cancelled": Problem(
        403, "The PIN was not entered", "已取消输入 PIN 码", "Ask again when ready.", "准备好后请重试。", Exit.REFUSED
    ),
    "pin_length": Problem(
        422,
        "The PIN is too short or too long",
        "PIN 码长度不符",
        "Enter a PIN of 1 to 64 octets.",
        "请重新输入。",
        Exit.PIN,
    ),
    "pin_mismatch": Problem(
        422,
        "The two new PINs differ",
        "两次输入的新 PIN 码不一致",
        "Enter the same PIN twice.",
        "请重新输入。",
        Exit.PIN,
    ),
    "pin_source_refused": Problem(
        403,
        "The configured PIN source cannot be used",
        "无法使用所配置的 PIN 来源",
        "Check the file's owner, mode 0600 and content; after a wrong PIN its content must change.",
        "请检查文件属主、权限与内容；PIN 错误后须更换内容。",
        Exit.PIN,
    ),
    "prompt_unavailable": Problem(
        503,
        "There is no way to ask for the PIN",
        "没有可用的 PIN 输入方式",
        "Install a pinentry program, or run the daemon in a terminal.",
        "请安装 pinentry，或在终端中运行守护进程。",
        Exit.PIN,
    ),
    "prompt_failed": Problem(
        503,
        "The PIN prompt failed",
        "PIN 输入程序出错",
        "Try again; `sealagent doctor` names the program.",
        "请重试。",
        Exit.PIN,
    ),
    "prompt_timeout": Problem(
        408,
        "Nobody entered the PIN in time",
        "输入 PIN 码超时",
        "Ask again when ready.",
        "准备好后请重试。",
        Exit.REFUSED,
    ),
    "login_required": Problem(
        403,
        "The token is locked",
        "钥匙未解锁",
        "Ask again: the PIN will be asked for.",
        "请重试并输入 PIN 码。",
        Exit.PIN,
    ),
    "access_refused": Problem(403, "The token forbids the operation", "钥匙拒绝该操作", *_DEVICE, Exit.REFUSED),
    "mechanism_not_supported": Problem(
        422,
        "The key cannot do this",
        "密钥不支持该算法",
        "Choose another key or type; `sealagent key list --json` shows what each key can do.",
        "请改用其他密钥或类型；可运行 sealagent key list --json 查看。",
    ),
    "token_full": Problem(
        507, "The token has no room left", "钥匙空间已满", "Delete unused objects.", "请删除无用对象。"
    ),
    "device_failure": Problem(502, "The device failed", "设备故障", *_DEVICE),
    "driver_error": Problem(502, "The driver failed", "驱动出错", *_DEVICE),
    "device_signature_wrong": Problem(
        502,
        "The device gave a wrong signature",
        "设备给出的签名不正确",
        "Do not use this key with this module; the signature was not released.",
        "请勿继续使用该密钥与模块；签名未被放行。",
    ),
    "worker_died": Problem(
        502, "The module crashed", "驱动模块崩溃", "Try again: it was restarted.", "已重启，请重试。"
    ),
    "worker_timeout": Problem(504, "The module did not answer", "驱动模块无响应", *_DEVICE),
    "worker_protocol": Problem(502, "The module's worker answered nonsense", "驱动进程应答异常", *_DEVICE),
    "module_not_allowed": Problem(403, "The module may not be loaded", "不允许加载该模块", *_MODULE),
    "module_not_loadable": Problem(502, "The module cannot be loaded", "无法加载模块", *_MODULE),
    "uri_invalid": _bad_input("The PKCS#11 URI is malformed", "PKCS#11 URI 格式错误", _REQUEST, 400),
    # Seals
    "seal_not_found": Problem(
        404,
        "There is no such seal",
        "没有该印章",
        "`sealagent seal list` shows the seals; plug in the key that holds it.",
        "可运行 sealagent seal list 查看，或插入存有该印章的钥匙。",
        Exit.NO_TOKEN,
    ),
    "seal_ambiguous": Problem(
        409, "Several seals have this name", "有多枚印章同名", "Use the seal's id.", "请使用印章的 id。", Exit.USAGE
    ),
    "seal_key_absent": Problem(
        409,
        "The seal's key is not plugged in",
        "印章对应的钥匙未插入",
        "Plug in the key whose certificate the seal lists; after a renewed certificate the seal must be re-made.",
        "请插入印章所列证书的钥匙；证书更新后须重新制作印章。",
        Exit.NO_TOKEN,
    ),
    "seal_outdated": Problem(
        409,
        "The certificate was renewed, but not the seal",
        "证书已更新，印章未更新",
        "Have the seal's maker re-make it for the new certificate.",
        "请联系印章制作单位按新证书重新制作印章。",
        Exit.REFUSED,
    ),
    "seal_not_valid": Problem(
        403,
        "The seal may not be used now",
        "印章当前不可用",
        "`sealagent seal show` says why and since when.",
        "可运行 sealagent seal show 查看原因。",
        Exit.REFUSED,
    ),
    "raw_digest_not_allowed": Problem(
        403,
        "Digests computed elsewhere are not signed",
        "不签署外部计算的摘要",
        "Send the document itself, or have the administrator set signing.allow_raw_digests.",
        "请提交原文，或由管理员开启 signing.allow_raw_digests。",
        Exit.REFUSED,
    ),
    "seal_format": _bad_input("The seal is malformed", "印章格式错误", _DAMAGED),
    "sig_format": _bad_input("The seal signature is malformed", "签章数据格式错误", _DAMAGED),
    "seal_field_invalid": _bad_input("A field of the seal is wrong", "印章字段错误", _REQUEST),
    "seal_store_full": Problem(
        507, "The seal store is full", "印章库已满", "Remove seals that are no longer used.", "请删除不再使用的印章。"
    ),
    "seal_store_failed": Problem(500, "The seal store failed", "印章库读写失败", *_STATE),
    "seal_damaged": Problem(
        500,
        "A stored seal is damaged",
        "存放的印章已损坏",
        "Import the seal again from its .esl file.",
        "请重新导入该印章。",
    ),
    # Pictures of seals
    "picture_invalid": _bad_input("No seal can be made of this picture", "该图像不能用于制作印章", _PICTURE),
    "picture_too_large": _bad_input("The picture is too large", "图像过大", _PICTURE, 413),
    "design_invalid": _bad_input("The seal cannot be drawn so", "印章设计参数错误", _DESIGN),
    "glyph_missing": _bad_input("The font lacks a character", "字体缺少所需文字", _FONT),
    "font_invalid": _bad_input("The font file cannot be used", "字体文件不可用", _FONT),
    "font_not_found": Problem(500, "There is no font to draw with", "没有可用的中文字体", *_FONT),
    "drawing_unavailable": Problem(
        501,
        "Drawing and checking pictures is not installed",
        "未安装印章绘制与图像检查组件",
        "Install the extra: pip install 'sealagent[maker]'.",
        "请安装附加组件：pip install 'sealagent[maker]'。",
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
    "status_answer_invalid": _bad_input(
        "The seal status answer is malformed",
        "印章状态应答格式错误",
        (
            "Ask whoever runs the status service; nothing in the answer was used.",
            "请联系状态查询服务的运营方；该应答未被采用。",
        ),
        502,
    ),
    # Documents
    "format_unknown": _bad_input("The file is of no known format", "无法识别的文件格式"),
    "ofd_not_zip": _bad_input("The file is no OFD package", "不是 OFD 文件"),
    "ofd_truncated": _bad_input("The package is cut off", "文件不完整", _DAMAGED),
    "ofd_structure": _bad_input("The package's directory is wrong", "文件包目录错误", _DAMAGED),
    "ofd_entry_compression": _bad_input(
        "An entry is compressed in an unknown way", "包内文件的压缩方式不支持", _DAMAGED
    ),
    "ofd_entry_damaged": _bad_input("An entry of the package is damaged", "包内文件已损坏", _DAMAGED),
    "ofd_entry_duplicate": _bad_input("Two entries of the package have one name", "包内文件重名", _DAMAGED),
    "ofd_entry_encrypted": _bad_input("An entry of the package is encrypted", "包内文件已加密", _PLAIN),
    "ofd_entry_kind": _bad_input("An entry of the package is no plain file", "包内含有非普通文件", _DAMAGED),
    "ofd_entry_missing": _bad_input("A file of the package is missing", "包内缺少文件", _DAMAGED),
    "ofd_entry_name": _bad_input("An entry of the package has a dangerous name", "包内文件名不安全", _DAMAGED),
    "ofd_main": _bad_input("OFD.xml is wrong", "OFD.xml 错误", _DAMAGED),
    "ofd_main_missing": _bad_input("The package has no OFD.xml", "缺少 OFD.xml"),
    "ofd_document": _bad_input("The document's description is wrong", "文档描述错误", _DAMAGED),
    "ofd_document_not_found": _bad_input("The package has no such document", "没有该文档", _REQUEST),
    "ofd_page": _bad_input("A page is wrong", "页面错误", _DAMAGED),
    "ofd_no_pages": _bad_input("The document has no pages", "文档没有页面"),
    "ofd_signature": _bad_input("A signature's description is wrong", "签名描述文件错误", _DAMAGED),
    "ofd_signature_list": _bad_input("The list of signatures is wrong", "签名列表错误", _DAMAGED),
    "ofd_integrity": _bad_input("The integrity list is wrong", "完整性清单错误", _DAMAGED),
    "ofd_too_large": _bad_input("The package is too large", "文件过大", _LIMIT, 413),
    "ofd_ratio": _bad_input("The package expands too much", "文件展开后过大", _LIMIT, 413),
    "ofd_too_many_bodies": _bad_input("The package has too many documents", "文档数量过多", _LIMIT, 413),
    "ofd_too_many_entries": _bad_input("The package has too many entries", "包内文件过多", _LIMIT, 413),
    "ofd_too_many_pages": _bad_input("The document has too many pages", "页数过多", _LIMIT, 413),
    "ofd_too_many_references": _bad_input("A signature has too many references", "签名引用过多", _LIMIT, 413),
    "ofd_too_many_signatures": _bad_input("The document has too many signatures", "签名过多", _LIMIT, 413),
    "ofd_too_many_stamps": _bad_input("A signature has too many stamps", "签章外观过多", _LIMIT, 413),
    "xml_doctype": _bad_input("An XML file has a DOCTYPE", "XML 含有 DOCTYPE", _DAMAGED),
    "xml_encoding": _bad_input("An XML file has an unknown encoding", "XML 编码不支持", _DAMAGED),
    "xml_malformed": _bad_input("An XML file is malformed", "XML 格式错误", _DAMAGED),
    "xml_too_deep": _bad_input("An XML file is nested too deeply", "XML 嵌套过深", _LIMIT, 413),
    "xml_too_large": _bad_input("An XML file is too large", "XML 过大", _LIMIT, 413),
    "ofd_closed": Problem(
        409,
        "The document is closed",
        "文档已锁定签章",
        "An earlier signature forbids further ones: seal the version before it.",
        "在先签名不允许再签，请使用该签名之前的版本。",
        Exit.REFUSED,
    ),
    "ofd_signing_forbidden": Problem(
        403,
        "The document forbids signatures",
        "文档权限禁止签名",
        "Ask its author for a version that permits them (Permissions/Signature).",
        "请向作者索取允许签名的版本。",
        Exit.REFUSED,
    ),
    "ofd_encrypted": Problem(409, "The package is encrypted", "文件已加密", *_PLAIN, Exit.REFUSED),
    "ofd_integrity_protected": Problem(
        409,
        "The package's integrity list allows no new files",
        "完整性清单不允许加入文件",
        "Seal the document before its integrity list is made (GM/T 0099).",
        "请在生成完整性清单之前签章。",
        Exit.REFUSED,
    ),
    "page_not_found": _bad_input("The document has no such page", "没有该页", _PLACE),
    "page_position": _bad_input("The seal would lie outside the page", "印章超出页面范围", _PLACE),
    "placement_invalid": _bad_input("The seal cannot be placed so", "盖章位置无效", _PLACE),
    "riding_pages": _bad_input(
        "The riding seal does not fit these pages",
        "骑缝章与所选页面不符",
        (
            "A riding seal needs two pages or more; use `--at PAGE,X,Y` instead.",
            "骑缝章至少需要两页；请改用 --at 页,X,Y。",
        ),
    ),
    "spool_full": Problem(507, "There is no room for the document", "没有空间暂存文件", *_STATE),
    # Certificates and algorithms
    "certificate_invalid": _bad_input("The certificate is malformed", "证书格式错误", _DAMAGED),
    "crl_invalid": _bad_input("The revocation list is malformed", "证书吊销列表格式错误", _DAMAGED),
    "public_key_invalid": _bad_input("The public key is malformed", "公钥格式错误", _DAMAGED),
    "algorithm_not_supported": _bad_input("The algorithm is not supported", "不支持的算法", _DAMAGED),
    "signed_message_invalid": _bad_input(
        "The signed message is malformed or was changed", "签名消息格式错误或已被改动", _DAMAGED
    ),
    "timestamp_failed": Problem(
        502,
        "The signature could not be time-stamped, so it was not released",
        "签章未能加盖时间戳，未予放行",
        "Try again later, or have the administrator look at [timestamp]: the detail says what the authority answered.",
        "请稍后重试，或请管理员检查 [timestamp] 配置：详情中有时间戳机构的应答。",
    ),
    "timestamp_invalid": _bad_input(
        "The time-stamping authority's answer is of no use", "时间戳机构的应答无效", _TSA, 502
    ),
    "timestamp_refused": _bad_input("The time-stamping authority refuses", "时间戳机构拒绝签发时间戳", _TSA, 502),
    # Trust lists
    "trust_list_invalid": _bad_input("The trust list is malformed", "信任列表格式错误", _DAMAGED),
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
    "record_body_invalid": _bad_input("This cannot be put on record", "内容无法写入记录", _REQUEST),
    "record_body_too_large": _bad_input("This is too large for the record", "内容过长，无法写入记录", _REQUEST, 413),
    "record_entry_invalid": Problem(
        500,
        "An entry of the record is malformed",
        "记录条目格式错误",
        "Check it: `sealagent record verify`.",
        "请核验该记录。",
    ),
    "checkpoint_invalid": _bad_input(
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
    # The maker
    **MAKER,
}


def problem(code: str) -> Problem:
    """Return what a code means; an unknown one is an internal error."""
    return CATALOG.get(code, CATALOG["internal_error"])
