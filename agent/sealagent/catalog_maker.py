"""The part of :mod:`sealagent.catalog` that belongs to the maker of seals."""

from __future__ import annotations

from sealagent.problems import Exit, Problem

__all__ = ["MAKER"]

_HELP = ("The command's --help names what it takes.", "请查看该命令的 --help。")
_SHOW = (
    "`sealagent maker show SEAL` and `sealagent maker history SEAL` say how it came to be so.",
    "可运行 sealagent maker show 与 sealagent maker history 查看。",
)
_CA = (
    "Get a certificate for this key from a CA that is trusted here ([trust] in maker.toml).",
    "请向受信任的证书认证机构（maker.toml 的 [trust]）为该密钥申领证书。",
)
_AGAIN = ("Try again shortly.", "请稍后重试。")
_KEEP = (
    "Keep the files as evidence; `sealagent maker verify` says what is wrong.",
    "请保留文件作为证据；可运行 sealagent maker verify 查看。",
)
_LIST = ("`sealagent maker list` shows what there is.", "可运行 sealagent maker list 查看。")

MAKER: dict[str, Problem] = {
    # The register
    "register_missing": Problem(
        404,
        "There is no register",
        "登记簿不存在",
        "Begin with `sealagent maker init`.",
        "请先运行 sealagent maker init。",
        Exit.USAGE,
    ),
    "register_in_use": Problem(409, "Another command has the register open", "登记簿正被另一命令使用", *_AGAIN),
    "register_behind": Problem(503, "The register is being changed", "登记簿正在变更", *_AGAIN),
    "register_damaged": Problem(500, "The register is damaged", "登记簿已损坏", *_KEEP),
    "register_index_failed": Problem(
        500,
        "The register's index cannot be used",
        "登记簿索引读写失败",
        "Free space where it is kept, or remove index.sqlite: it is made anew from the ledger.",
        "请腾出空间，或删除 index.sqlite，它会按登记簿重建。",
    ),
    "register_transition_refused": Problem(
        409, "The seal's state does not allow this", "印章当前状态不允许此操作", *_SHOW, Exit.REFUSED
    ),
    "register_reason_invalid": Problem(422, "The reason is none of those allowed", "原因代码无效", *_HELP, Exit.USAGE),
    "register_asker_invalid": Problem(
        422, "This is not for that party to ask for", "申请方无权提出此项变更", *_HELP, Exit.REFUSED
    ),
    "register_text_invalid": Problem(422, "The text cannot be put on record", "说明文字无效", *_HELP, Exit.USAGE),
    "operator_missing": Problem(
        422,
        "The operator is not named",
        "未指明经办人",
        "Give --operator NAME, or set `operator` in maker.toml.",
        "请用 --operator 指明经办人，或在 maker.toml 中设置 operator。",
        Exit.USAGE,
    ),
    "seal_not_registered": Problem(404, "The register has no such seal", "登记簿中没有该印章", *_LIST),
    "archive_failed": Problem(
        500,
        "A file could not be kept or read",
        "文件读写失败",
        "Check the place named, then run the command again: what was finished is on record.",
        "请检查所述位置后重新运行；已完成的操作均有记录。",
    ),
    # Applications
    "application_unknown": Problem(
        404,
        "There is no such application",
        "没有该申请",
        "`sealagent maker list --applications` shows them.",
        "可运行 sealagent maker list --applications 查看。",
    ),
    "application_closed": Problem(
        409,
        "The application is closed",
        "该申请已办结",
        "Record a new application, or re-make the seal: `sealagent maker remake`.",
        "请登记新的申请，或用 sealagent maker remake 重新制作。",
        Exit.REFUSED,
    ),
    "application_invalid": Problem(
        422,
        "The application is not complete or not right",
        "申请材料不完整或有误",
        "Correct the named part with the applicant.",
        "请与申请单位核实并更正所述内容。",
    ),
    "credit_code_invalid": Problem(
        422,
        "The unified social credit code is wrong",
        "统一社会信用代码有误",
        "Copy it once more from the licence; nothing was recorded.",
        "请对照营业执照重新录入；未作登记。",
    ),
    "certificate_request_invalid": Problem(
        422,
        "The certificate request cannot be used",
        "证书请求无效",
        "Have the applicant make a new one on their key: `sealagent key request`.",
        "请申请单位用其钥匙重新生成：sealagent key request。",
    ),
    "signer_certificate_refused": Problem(
        422, "The signer's certificate cannot go into a seal", "签章者证书不可列入印章", *_CA, Exit.REFUSED
    ),
    "signer_certificate_missing": Problem(
        409,
        "The signer's certificate is missing",
        "缺少签章者证书",
        "Give what the CA issued for the request with --certificate.",
        "请用 --certificate 提供由该请求签发的证书。",
    ),
    # Making
    "maker_key_not_found": Problem(
        404,
        "The maker's key is not plugged in",
        "未插入制章密钥",
        "Plug in its token; `sealagent maker init` shows what is there.",
        "请插入存有该密钥的介质；可运行 sealagent maker init 查看。",
        Exit.NO_TOKEN,
    ),
    "maker_key_ambiguous": Problem(
        409,
        "Several keys could be meant",
        "有多个密钥可用",
        "Name one by its URI: `key` in maker.toml.",
        "请在 maker.toml 中用 key 指明其 URI。",
        Exit.USAGE,
    ),
    "maker_certificate_missing": Problem(409, "The key of the maker has no certificate", "制章密钥没有证书", *_CA),
    "maker_certificate_refused": Problem(
        409, "The maker's certificate may make no seals now", "制章者证书当前不可用于制章", *_CA, Exit.REFUSED
    ),
    "seal_name_taken": Problem(
        409,
        "The owner has a seal of this name",
        "该单位已有同名印章",
        "Re-make it (`sealagent maker remake`), or have the other one cancelled.",
        "请重新制作（sealagent maker remake），或先注销原印章。",
        Exit.REFUSED,
    ),
    "es_id_taken": Problem(
        409,
        "The esID belongs to another seal",
        "印章编码已被占用",
        "Leave --es-id out: the register allocates one.",
        "请省略 --es-id，由登记簿分配。",
        Exit.REFUSED,
    ),
    "es_id_exhausted": Problem(
        409,
        "The region has no esID left",
        "该区划的印章编码已用尽",
        "Give one with --es-id.",
        "请用 --es-id 指定编码。",
        Exit.REFUSED,
    ),
    "seal_outlasts_certificate": Problem(
        409,
        "The seal would outlast its signer's certificate",
        "印章有效期超出签章者证书",
        "End it earlier, or say why with --beyond-certificate.",
        "请缩短有效期，或用 --beyond-certificate 说明理由。",
        Exit.REFUSED,
    ),
    "seal_remake_differs": Problem(
        409,
        "A re-made seal has the owner and name of the old one",
        "重新制作的印章须与原印章同主体、同名称",
        "Cancel the old seal and record an application for the new one.",
        "请注销原印章，并为新印章登记申请。",
        Exit.REFUSED,
    ),
    "seal_made_wrong": Problem(
        500,
        "The seal that was made is not valid",
        "所制印章未通过自检",
        "Nothing was released. Compare the clocks of maker and time-stamp authority; else report it.",
        "未放行任何印章；请核对本机与时间戳机构的时钟，否则请反馈。",
    ),
    "seal_file_exists": Problem(
        409,
        "The file is there already",
        "文件已存在",
        "Choose another name with -o.",
        "请用 -o 指定其他文件名。",
    ),
    # Publishing
    "status_question_invalid": Problem(
        400,
        "The question to the status service is malformed",
        "状态查询请求格式错误",
        "Ask GET /v1/seals/SM3?at=TIME&nonce=HEX.",
        "请按 GET /v1/seals/SM3?at=时间&nonce=十六进制 查询。",
    ),
    "status_busy": Problem(503, "The status service is busy", "状态查询服务繁忙", *_AGAIN),
    "status_unavailable": Problem(
        503,
        "The status service cannot answer now",
        "状态查询服务暂不可用",
        "Try again later; its operator finds the reason in its log.",
        "请稍后重试；原因见服务日志。",
    ),
    "status_address_unusable": Problem(
        500,
        "The status service cannot listen there",
        "状态查询服务无法监听该地址",
        "Choose another address with `listen` in [status] of maker.toml.",
        "请在 maker.toml 的 [status] 中用 listen 另设地址。",
        Exit.USAGE,
    ),
    "trust_description_invalid": Problem(
        422,
        "The description of the trust list is wrong",
        "信任列表描述文件有误",
        "Correct the named key; `sealagent maker trust-list --help` shows an example.",
        "请更正所述项；示例见 sealagent maker trust-list --help。",
        Exit.USAGE,
    ),
}
