"""The part of :mod:`sealagent.catalog` that belongs to modules, tokens, keys and PINs."""

from __future__ import annotations

from sealagent.problems import Exit, Problem, bad_input

__all__ = ["DEVICES"]

_REQUEST = ("Correct the named field; GET /v1/openapi.json describes the request.", "请按接口文档更正所述字段。")
_DEVICE = (
    "Unplug the key and plug it in again; `sealagent doctor` shows what the agent sees.",
    "请拔下并重新插入钥匙；可运行 sealagent doctor 查看情况。",
)
_MODULE = (
    "Check the module's path and permissions; `sealagent doctor` lists what was tried.",
    "请检查模块路径与权限；可运行 sealagent doctor 查看情况。",
)

DEVICES: dict[str, Problem] = {
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
    "object_invalid": bad_input("The token cannot store this", "钥匙无法存放该对象", _REQUEST),
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
    "locked_meanwhile": Problem(
        409,
        "The token was locked while the request waited",
        "请求等待期间钥匙已被锁定",
        "Send the request again; the PIN is asked for anew.",
        "请重新发起请求，并再次输入 PIN 码。",
        Exit.PIN,
    ),
    "asked_too_often": Problem(
        429,
        "The holder refused this program again and again",
        "持有人已多次拒绝该程序",
        "Wait a minute before asking again; look at the record for what was refused, and revoke what you do not know.",
        "请等待一分钟后再试；可在记录中查看被拒绝的请求，并撤销不认识的应用。",
        Exit.REFUSED,
    ),
    "consent_unavailable": Problem(
        403,
        "Nobody can be asked for consent",
        "无法征得持有人同意",
        "Have a rule for it added to policy.toml, or let the agent ask on a screen or terminal.",
        "请在 policy.toml 中添加规则，或让代理能在屏幕或终端上询问。",
        Exit.REFUSED,
    ),
    "consent_refused": Problem(
        403,
        "The holder did not agree",
        "持有人未同意",
        "Ask again only after talking to the holder of the seal.",
        "请与印章持有人沟通后再试。",
        Exit.REFUSED,
    ),
    "too_many_prompts": Problem(
        503,
        "Too many requests already wait for the holder",
        "等待持有人处理的请求过多",
        "Try again when the prompts that wait have been answered.",
        "请待已有提示处理完后重试。",
        Exit.REFUSED,
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
        "There is no way to ask the holder",
        "没有可用的提示方式",
        "Install a pinentry program, or run the daemon in a terminal.",
        "请安装 pinentry，或在终端中运行守护进程。",
        Exit.PIN,
    ),
    "prompt_failed": Problem(
        503,
        "The prompt failed; nothing was agreed to",
        "提示程序出错，未作任何同意",
        "Try again; `sealagent doctor` names the program.",
        "请重试。",
        Exit.PIN,
    ),
    "prompt_timeout": Problem(
        408,
        "Nobody answered the prompt in time",
        "无人及时应答提示",
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
    "uri_invalid": bad_input("The PKCS#11 URI is malformed", "PKCS#11 URI 格式错误", _REQUEST, 400),
}
