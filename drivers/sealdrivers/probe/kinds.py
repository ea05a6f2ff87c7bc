"""What each code of a finding means: its severity, the clause of the standard, and what SealAgent does about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from sealdrivers.probe.model import Severity

__all__ = ["KINDS", "Kind", "Scope"]

OK, NOTE, QUIRK, FAULT = Severity.OK, Severity.NOTE, Severity.QUIRK, Severity.FAULT


class Scope(Enum):
    """What a fault makes useless."""

    LIBRARY = auto()
    KEY = auto()
    """One key: the library is still of use if another key works."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of finding."""

    severity: Severity
    title: str
    title_zh: str
    clause: str = ""
    """Document and clause that it departs from or that it fulfils."""
    handling: str = ""
    handling_zh: str = ""
    scope: Scope = Scope.LIBRARY


_P11 = "PKCS#11 2.40, "
_SKF = "GM/T 0016-2012, "
_REFUSED = ("the answer is refused as device_failure; nothing of it is used", "以 device_failure 拒绝该应答，不予采用")
_RESPAWN = (
    "each library has a worker process of its own: the agent and other tokens go on, and the worker is started anew",
    "每个库在独立进程中运行：代理和其他密码钥匙不受影响，进程会重新启动",
)
_ONE_THREAD = ("one thread of the worker makes all calls", "工作进程中仅由一个线程调用该库")
_POLLED = (
    "the worker that signs never waits for events: it asks for the list of tokens",
    "签名进程从不等待事件，而是查询设备列表",
)
_NOT_USED = ("not used", "不使用")

KINDS: dict[str, Kind] = {
    # The library as a whole
    "load_failed": Kind(
        FAULT, "The file cannot be loaded", "无法加载该文件", "", "module_not_loadable", "报 module_not_loadable"
    ),
    "other_architecture": Kind(
        FAULT,
        "The library is of another architecture than this Python",
        "该库与当前 Python 的架构不同",
        "",
        "it needs a worker executable of its own word size",
        "需要与其字长一致的工作进程",
    ),
    "no_driver_library": Kind(
        FAULT,
        "The file exports neither interface",
        "该文件两种接口均未导出",
        "",
        "module_not_loadable",
        "报 module_not_loadable",
    ),
    "two_interfaces": Kind(NOTE, "The file exports both interfaces; --driver chooses", "该文件同时导出两种接口"),
    "crashed": Kind(FAULT, "The library crashed", "库崩溃", "", *_RESPAWN),
    "hung": Kind(
        FAULT,
        "A call did not return in time",
        "调用未在限定时间内返回",
        "",
        "the worker is killed after the time of agent.toml [timeouts] and started anew",
        "超过 agent.toml [timeouts] 后终止并重启进程",
    ),
    "ended_process": Kind(FAULT, "The library ended its process", "库结束了所在进程", "", *_RESPAWN),
    "channel_damaged": Kind(
        FAULT, "The library disturbed the channel of its process", "库干扰了所在进程的通信", "", *_RESPAWN
    ),
    "probe_failed": Kind(NOTE, "The probe itself failed here: please report it", "检测程序自身出错，请反馈"),
    "prints": Kind(
        QUIRK,
        "The library prints",
        "库有打印输出",
        "",
        "a bounded part of it goes to the log",
        "仅限量记入日志",
    ),
    "call_failed": Kind(FAULT, "A call failed", "调用失败"),
    "not_offered": Kind(NOTE, "Not offered", "未提供"),
    "answer_invalid": Kind(FAULT, "An answer makes no sense", "应答不合理", "", *_REFUSED),
    "device_removed": Kind(NOTE, "The token was gone during the probe", "检测期间密码钥匙被移除"),
    "no_token": Kind(NOTE, "No token is present: what needs one was not looked at", "没有密码钥匙，相关项目未检测"),
    "size_claim": Kind(
        QUIRK,
        "The size told without a buffer is not the size that is written",
        "空缓冲区时给出的长度与实际写入不符",
        "PKCS#11 2.40, 5.2; GM/T 0016-2012, 7",
        "sizes are never asked for first; each call gets room enough",
        "从不预先询问长度，直接提供足够的缓冲区",
    ),
    "buffer_overrun": Kind(
        FAULT,
        "More was written than the buffer holds",
        "写入超出缓冲区",
        "PKCS#11 2.40, 5.2; GM/T 0016-2012, 7",
        *_REFUSED,
    ),
    "buffer_check_missing": Kind(
        QUIRK,
        "A buffer that is too small is not refused as such",
        "缓冲区过小时未按规定报错",
        "PKCS#11 2.40, 5.2; GM/T 0016-2012, annex A",
        "each call gets room enough",
        "直接提供足够的缓冲区",
    ),
    "text_padding": Kind(
        QUIRK,
        "A text field is not padded as the standard wants",
        "文本字段填充不合标准",
        "PKCS#11 2.40, 3.1 (blanks, no NUL)",
        "both kinds of padding are cut off",
        "两种填充均可识别",
    ),
    "text_encoding": Kind(
        QUIRK,
        "A text is not UTF-8",
        "文本不是 UTF-8 编码",
        "PKCS#11 2.40, 3.1; GM/T 0016-2012 leaves it open",
        "GB18030 is tried next (SKF); other octets are shown as such",
        "SKF 另按 GB18030 识别，其余原样显示",
    ),
    "threads_work": Kind(OK, "Two threads at once get right answers", "双线程并发调用正常"),
    "threads_fail": Kind(QUIRK, "Two threads at once get errors", "双线程并发调用出错", "", *_ONE_THREAD),
    "events_work": Kind(OK, "Events can be waited for, and the waiting ends when told", "事件等待与取消正常"),
    "events_not_offered": Kind(NOTE, "There are no events", "不提供事件", "", *_POLLED),
    "wait_blocks_others": Kind(
        QUIRK,
        "While a thread waits for an event, no other call returns",
        "等待事件期间其他调用被阻塞",
        "PKCS#11 2.40, 5.5; GM/T 0016-2012, 7.1",
        *_POLLED,
    ),
    "wait_not_ended": Kind(
        QUIRK,
        "Waiting for an event does not end when it should",
        "事件等待无法取消",
        "PKCS#11 2.40, 5.5 (C_Finalize); GM/T 0016-2012, 7.1 (SKF_CancelWaitForDevEvent)",
        *_POLLED,
    ),
    "wait_at_once": Kind(NOTE, "Waiting for an event came back at once", "事件等待立即返回", "", *_POLLED),
    # PINs
    "pin_last_try": Kind(
        NOTE, "One PIN try is left: no PIN was offered", "仅剩一次 PIN 尝试，未提交 PIN", "", *_NOT_USED
    ),
    "pin_locked": Kind(NOTE, "The PIN is locked", "PIN 已锁定"),
    "pin_incorrect": Kind(NOTE, "The PIN that was given is wrong; it was offered once", "所给 PIN 错误，仅提交了一次"),
    "pin_rejected": Kind(NOTE, "The token does not take such a PIN; no try was spent", "密码钥匙不接受该 PIN"),
    "pin_on_device": Kind(NOTE, "The PIN is entered on the device: not probed", "PIN 在设备上输入，未检测"),
    "pin_low": Kind(NOTE, "A wrong PIN was entered before", "此前输入过错误的 PIN"),
    "pin_counter_hidden": Kind(
        QUIRK,
        "The library does not tell how many PIN tries are left",
        "库不提供剩余 PIN 次数",
        _SKF + "7.2 (SKF_GetPINInfo)",
        "the holder is not told the number either",
        "无法向持有人显示剩余次数",
    ),
    "factory_pin": Kind(
        NOTE, "The PIN is still the factory's: change it", "仍为出厂 PIN，请修改", "", "it is shown", "会显示提示"
    ),
    # Keys and signatures
    "no_key": Kind(NOTE, "The token holds no key that signs", "没有可签名的密钥"),
    "key_not_supported": Kind(NOTE, "A key of a kind that SealAgent does not sign with", "不支持的密钥类型"),
    "public_key_unreadable": Kind(
        FAULT,
        "The public half of a key cannot be read",
        "无法读取公钥",
        "",
        "a key without it is not used: its signatures could not be checked",
        "不使用该密钥，因其签名无法校验",
        Scope.KEY,
    ),
    "certificate_mismatch": Kind(
        FAULT,
        "A certificate belongs to another key than the one it lies with",
        "证书与密钥不匹配",
        "",
        "the key is refused",
        "拒绝使用该密钥",
        Scope.KEY,
    ),
    "certificate_unreadable": Kind(QUIRK, "A certificate's octets are no certificate", "证书内容无效", "", *_NOT_USED),
    "signature_verified": Kind(OK, "Signatures verify with the public key", "签名验证通过"),
    "signature_wrong": Kind(
        FAULT,
        "A signature does not verify",
        "签名验证失败",
        "",
        "each signature is verified before it is released; this one would not be",
        "签名放行前均会验证，该签名不会放行",
        Scope.KEY,
    ),
    "signature_malformed": Kind(
        FAULT,
        "What was answered is no signature",
        "应答不是签名",
        "",
        "refused as device_failure",
        "以 device_failure 拒绝",
        Scope.KEY,
    ),
    "signature_refused": Kind(
        FAULT,
        "The token refuses to sign with a mechanism it lists",
        "拒绝使用所列机制签名",
        "",
        "mechanism_not_supported, with the token's own value",
        "报 mechanism_not_supported 并保留原值",
        Scope.KEY,
    ),
    "signs_without_login": Kind(
        FAULT,
        "A key signs without the PIN",
        "未经 PIN 验证即可签名",
        "PKCS#11 2.40, 4.4 (CKA_PRIVATE); GM/T 0016-2012, 7.6",
        "the agent asks for the PIN all the same; other programs do not have to",
        "代理仍要求 PIN，但其他程序可绕过",
    ),
    "signs_after_logout": Kind(
        QUIRK,
        "A key still signs after the logout",
        "注销后仍可签名",
        "PKCS#11 2.40, 5.6 (C_Logout); GM/T 0016-2012, 7.2 (SKF_ClearSecureState)",
        "the end of the unlock window does not bind the device",
        "解锁时限对该设备无约束力",
    ),
    "der_not_minimal": Kind(
        QUIRK,
        "The numbers of a DER signature are not encoded minimally",
        "DER 签名整数编码非最短",
        "X.690, 8.3.2",
        "read all the same, and encoded anew",
        "可识别并重新编码",
    ),
}

KINDS |= {
    # PKCS#11
    "p11_null_function": Kind(
        QUIRK,
        "The function list has null entries",
        "函数表含空指针",
        _P11 + "5.4 (C_GetFunctionList: a function that is not supported has a stub)",
        "none of them is called",
        "不调用这些函数",
    ),
    "p11_null_required": Kind(
        FAULT,
        "A function that SealAgent calls is null",
        "所需函数为空指针",
        _P11 + "5.4",
        "the library cannot be used",
        "无法使用该库",
    ),
    "p11_initialize_failed": Kind(FAULT, "C_Initialize fails", "C_Initialize 失败", _P11 + "5.4"),
    "p11_cannot_lock": Kind(
        QUIRK,
        "The library cannot lock for several threads",
        "库不支持多线程加锁",
        _P11 + "5.4 (CKF_OS_LOCKING_OK)",
        "it is initialised for one thread; one thread of the worker makes all calls",
        "按单线程初始化，仅由一个线程调用",
    ),
    "p11_twice_not_told": Kind(
        QUIRK,
        "A second C_Initialize is not refused",
        "重复 C_Initialize 未报错",
        _P11 + "5.4 (CKR_CRYPTOKI_ALREADY_INITIALIZED)",
        "each worker process initialises once",
        "每个进程仅初始化一次",
    ),
    "p11_no_second_life": Kind(
        QUIRK,
        "After C_Finalize the library does not work again",
        "C_Finalize 后无法再次初始化",
        _P11 + "5.4",
        "a worker that has finalised ends; a new process starts",
        "结束后由新进程重新加载",
    ),
    "p11_life_cycle": Kind(OK, "C_Finalize, and C_Initialize again, work", "可反复初始化", _P11 + "5.4"),
    "p11_works_uninitialized": Kind(
        QUIRK,
        "A call without C_Initialize is not refused",
        "未初始化时调用未报错",
        _P11 + "5.4 (CKR_CRYPTOKI_NOT_INITIALIZED)",
        *_NOT_USED,
    ),
    "p11_version_differs": Kind(
        NOTE, "C_GetInfo and the function list name different versions", "两处接口版本不一致", _P11 + "5.4"
    ),
    "p11_token_uninitialized": Kind(NOTE, "A token is not initialised", "密码钥匙未初始化", "", *_NOT_USED),
    "p11_mechanism_refused": Kind(
        QUIRK,
        "A mechanism is listed, and then not known",
        "所列机制查询失败",
        _P11 + "5.5 (C_GetMechanismInfo)",
        "the mechanism is not used",
        "不使用该机制",
    ),
    "p11_mechanism_twice": Kind(
        QUIRK, "A mechanism is listed twice", "机制重复列出", _P11 + "5.5", "taken once", "仅计一次"
    ),
    "p11_mechanism_hidden": Kind(
        NOTE,
        "A mechanism of the vendor table's entry is not listed by the token",
        "厂商表中的机制未被列出",
        "",
        "it is tried all the same: some modules leave vendors' mechanisms out",
        "仍会尝试，因部分库不列出厂商机制",
    ),
    "p11_id_empty": Kind(
        QUIRK,
        "A key or certificate has no CKA_ID",
        "密钥或证书没有 CKA_ID",
        _P11 + "4.7",
        "the key is named by its label",
        "以标签标识密钥",
    ),
    "p11_id_twice": Kind(
        QUIRK,
        "Two keys have the same CKA_ID",
        "两个密钥的 CKA_ID 相同",
        _P11 + "4.7",
        "they are told apart by their labels",
        "以标签区分",
    ),
    "p11_point_form": Kind(
        QUIRK,
        "CKA_EC_POINT is no DER OCTET STRING",
        "CKA_EC_POINT 不是 DER OCTET STRING",
        "PKCS#11 2.40 Current Mechanisms, 2.3.3",
        "a bare point and a BIT STRING are read, too",
        "亦可识别裸点与 BIT STRING",
    ),
    "p11_private_visible": Kind(
        NOTE, "Private keys are listed before the login", "登录前即可列出私钥", _P11 + "4.4 (CKA_PRIVATE)"
    ),
    "p11_search_limit": Kind(
        FAULT, "A search for objects does not end", "对象查找不结束", _P11 + "5.7 (C_FindObjects)", *_REFUSED
    ),
    "p11_session_poisoned": Kind(
        QUIRK,
        "After a failed signature the session is unusable",
        "签名失败后会话不可用",
        _P11 + "5.11",
        "a session is discarded after each failure",
        "失败后弃用该会话",
    ),
    "p11_session_clean": Kind(OK, "After a failed signature the session goes on", "签名失败后会话仍可用"),
    "p11_one_session": Kind(
        QUIRK,
        "Two sessions at once are not possible",
        "不支持同时两个会话",
        _P11 + "5.6",
        "the login goes with a session that has to be discarded",
        "会话弃用后需重新登录",
    ),
    "p11_closed_session": Kind(
        QUIRK,
        "A closed session's handle is still taken",
        "已关闭的会话句柄仍可用",
        _P11 + "5.6 (CKR_SESSION_HANDLE_INVALID)",
        *_NOT_USED,
    ),
    "p11_sign_without_init": Kind(
        QUIRK,
        "C_Sign without C_SignInit is not refused as such",
        "未初始化的 C_Sign 未按规定报错",
        _P11 + "5.11 (CKR_OPERATION_NOT_INITIALIZED)",
        *_NOT_USED,
    ),
    "p11_size_call_ends": Kind(
        QUIRK,
        "Asking for the size ends the signature that was begun",
        "询问长度会终止已开始的签名",
        _P11 + "5.2",
        "C_Sign is called once, with room for any signature",
        "仅以足够的缓冲区调用一次 C_Sign",
    ),
    "sm2_no_key": Kind(
        NOTE, "No SM2 key on the token: what its mechanisms sign cannot be told", "没有 SM2 密钥，无法判定 SM2 机制"
    ),
    "sm2_signs_e": Kind(OK, "A mechanism signs e with SM2", "机制对 e 进行 SM2 签名", "GM/T 0009"),
    "sm2_none": Kind(
        FAULT,
        "No mechanism signs e with SM2",
        "没有机制可对 e 进行 SM2 签名",
        "GM/T 0009",
        "the key is listed and refused, with the reason",
        "列出该密钥但拒绝使用，并说明原因",
        Scope.KEY,
    ),
    "sm2_hashes": Kind(
        NOTE,
        "A mechanism hashes what it is given",
        "机制自行计算摘要",
        "",
        "not used: e is computed by the agent",
        "不使用：e 由代理计算",
    ),
    "sm2_ecdsa": Kind(
        QUIRK,
        "A mechanism answers with ECDSA on the SM2 curve, which is no SM2 signature",
        "机制在 SM2 曲线上返回 ECDSA 签名，不是 SM2 签名",
        "GB/T 32918.2",
        "refused for SM2, with that reason",
        "拒绝用于 SM2，并说明原因",
    ),
    "sm2_unknown": Kind(
        QUIRK,
        "A mechanism's answer is a signature of nothing that is known",
        "机制的应答无法识别",
        "",
        "refused as device_failure",
        "以 device_failure 拒绝",
    ),
    "sm2_claim_confirmed": Kind(OK, "A mechanism does what the vendor table says", "机制与厂商表一致"),
    "sm2_claim_differs": Kind(
        QUIRK,
        "A mechanism does not do what the vendor table says",
        "机制与厂商表不一致",
        "",
        "what was found counts; please report it, so that the table can be corrected",
        "以实测为准；请反馈以便更正厂商表",
    ),
    # SKF
    "skf_required_missing": Kind(
        FAULT,
        "Functions are missing without which there is no SKF library",
        "缺少必需函数",
        _SKF + "7",
        "module_not_loadable",
        "报 module_not_loadable",
    ),
    "skf_optional_missing": Kind(
        NOTE,
        "Functions of the standard are missing",
        "缺少标准函数",
        _SKF + "7",
        "what needs them is not offered",
        "相应功能不提供",
    ),
    "skf_decorated": Kind(
        QUIRK,
        "Functions are exported under decorated names",
        "函数以修饰名导出",
        "",
        "found under them",
        "可按修饰名查找",
    ),
    "skf_list_end": Kind(
        QUIRK,
        "A list of names does not end with two NULs",
        "名称列表未以双 NUL 结尾",
        _SKF + "7.1 (SKF_EnumDev)",
        "read by the size that is told",
        "按返回长度解析",
    ),
    "skf_devinfo_natural": Kind(
        QUIRK,
        "DEVINFO has 296 octets: the compiler aligned it",
        "DEVINFO 为 296 字节（自然对齐）",
        _SKF + "6.4",
        "told by what was written, and read",
        "按写入长度识别",
    ),
    "skf_devinfo_layout": Kind(
        FAULT,
        "DEVINFO has a layout that is not known",
        "DEVINFO 布局未知",
        _SKF + "6.4",
        "the device is refused",
        "拒绝使用该设备",
    ),
    "skf_text_unterminated": Kind(
        QUIRK,
        "A text field of DEVINFO has no NUL",
        "DEVINFO 文本字段无 NUL 结尾",
        _SKF + "6.4",
        "read up to the end of the field",
        "读至字段末尾",
    ),
    "skf_serial_empty": Kind(
        QUIRK,
        "A device has no serial number",
        "设备没有序列号",
        _SKF + "6.4",
        "named by its name in SKF_EnumDev instead",
        "以设备名标识",
    ),
    "skf_wide_bool": Kind(
        QUIRK,
        "BOOL is written with 8 octets",
        "BOOL 按 8 字节写入",
        _SKF + "6.3",
        "each number has room for 8, and the first 4 count",
        "预留 8 字节，取前 4 字节",
    ),
    "skf_admin_counter_hidden": Kind(
        NOTE, "The administrator's PIN counter cannot be read", "无法读取管理员 PIN 次数", _SKF + "7.2"
    ),
    "skf_key_blob": Kind(
        FAULT,
        "A public key's record is not that of the standard",
        "公钥结构不合标准",
        _SKF + "6.4",
        "refused as device_failure",
        "以 device_failure 拒绝",
        Scope.KEY,
    ),
    "skf_container_type": Kind(
        QUIRK,
        "The container's type does not say what is in it",
        "容器类型与内容不符",
        _SKF + "7.5 (SKF_GetContainerType)",
        "the public key's record counts",
        "以公钥结构为准",
    ),
    "skf_not_right_aligned": Kind(
        FAULT,
        "r and s are not at the end of their fields",
        "r、s 未在字段中右对齐",
        _SKF + "6.4 (ECCSIGNATUREBLOB)",
        "refused as device_failure",
        "以 device_failure 拒绝",
        Scope.KEY,
    ),
    "skf_e_length": Kind(
        QUIRK,
        "SKF_ECCSignData takes other lengths than 32 octets",
        "SKF_ECCSignData 接受非 32 字节输入",
        _SKF + "7.6 (SKF_ECCSignData)",
        "it is given 32 octets and nothing else",
        "仅输入 32 字节",
    ),
    "skf_handle_checked": Kind(OK, "Handles of another kind are refused", "错误类型的句柄被拒绝", _SKF + "annex A"),
    "skf_handle_taken": Kind(
        QUIRK,
        "A handle of another kind, or a closed one, is taken",
        "接受了错误类型或已关闭的句柄",
        _SKF + "annex A (SAR_INVALIDHANDLEERR)",
        "handles are never mixed up",
        "句柄不会混用",
    ),
    "skf_try_spent": Kind(
        FAULT,
        "A call without a PIN has spent a PIN try",
        "未提交 PIN 的调用消耗了尝试次数",
        _SKF + "7.2",
        *_NOT_USED,
    ),
    "skf_file_size": Kind(
        FAULT,
        "A file cannot be read as long as SKF_GetFileInfo says",
        "文件长度与 SKF_GetFileInfo 不符",
        _SKF + "7.4 (SKF_GetFileInfo)",
        "the contents of the token are refused as device_failure",
        "以 device_failure 拒绝读取该密码钥匙的内容",
    ),
}
