"""The part of :mod:`sealagent.catalog` that belongs to seals, documents and certificates."""

from __future__ import annotations

from sealagent.problems import Exit, Problem, bad_input

__all__ = ["DOCUMENTS"]

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
_STATE = ("Free space where the agent keeps its state, then try again.", "请为代理的状态目录腾出空间后重试。")
_PLAIN = ("Send the document unencrypted.", "请提交未加密的文件。")
_TSA = (
    "Try again later; if it persists, ask who runs the time-stamping authority.",
    "请稍后重试；若仍失败，请联系时间戳机构。",
)

DOCUMENTS: dict[str, Problem] = {
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
        "`sealagent seal show` says why and since when; its maker can lift a suspension or re-make the seal.",
        "可运行 sealagent seal show 查看原因；恢复使用或重新制作须联系印章制作管理单位。",
        Exit.REFUSED,
    ),
    "use_denied": Problem(
        403,
        "The program may not do this",
        "该程序无权执行此操作",
        "`sealagent policy explain` says what decides; the holder or the administrator can change it.",
        "sealagent policy explain 会说明由哪条规则、权限或限制决定；持有人或管理员可以更改。",
        Exit.REFUSED,
    ),
    "permit_mismatch": Problem(
        500,
        "The agent was about to sign something else than what was allowed",
        "代理即将签署的内容与许可不符",
        "Report it with the daemon's log; nothing was signed.",
        "请附上守护进程日志反馈；未产生签名。",
    ),
    "batch_item_unknown": Problem(
        403,
        "The batch does not allow this item",
        "该批次不包含此项",
        "`sealagent batch show` lists what the holder agreed to; make a new batch for anything else.",
        "sealagent batch show 列出持有人同意的内容；其他内容请新建批次。",
        Exit.REFUSED,
    ),
    "seal_format": bad_input("The seal is malformed", "印章格式错误", _DAMAGED),
    "sig_format": bad_input("The seal signature is malformed", "签章数据格式错误", _DAMAGED),
    "seal_field_invalid": bad_input("A field of the seal is wrong", "印章字段错误", _REQUEST),
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
    "picture_invalid": bad_input("No seal can be made of this picture", "该图像不能用于制作印章", _PICTURE),
    "picture_too_large": bad_input("The picture is too large", "图像过大", _PICTURE, 413),
    "design_invalid": bad_input("The seal cannot be drawn so", "印章设计参数错误", _DESIGN),
    "glyph_missing": bad_input("The font lacks a character", "字体缺少所需文字", _FONT),
    "font_invalid": bad_input("The font file cannot be used", "字体文件不可用", _FONT),
    "font_not_found": Problem(500, "There is no font to draw with", "没有可用的中文字体", *_FONT),
    "drawing_unavailable": Problem(
        501,
        "Drawing and checking pictures is not installed",
        "未安装印章绘制与图像检查组件",
        "Install the extra: pip install 'sealagent[maker]'.",
        "请安装附加组件：pip install 'sealagent[maker]'。",
    ),
    # Documents
    "format_unknown": bad_input("The file is of no known format", "无法识别的文件格式"),
    "ofd_not_zip": bad_input("The file is no OFD package", "不是 OFD 文件"),
    "ofd_truncated": bad_input("The package is cut off", "文件不完整", _DAMAGED),
    "ofd_structure": bad_input("The package's directory is wrong", "文件包目录错误", _DAMAGED),
    "ofd_entry_compression": bad_input(
        "An entry is compressed in an unknown way", "包内文件的压缩方式不支持", _DAMAGED
    ),
    "ofd_entry_damaged": bad_input("An entry of the package is damaged", "包内文件已损坏", _DAMAGED),
    "ofd_entry_duplicate": bad_input("Two entries of the package have one name", "包内文件重名", _DAMAGED),
    "ofd_entry_encrypted": bad_input("An entry of the package is encrypted", "包内文件已加密", _PLAIN),
    "ofd_entry_kind": bad_input("An entry of the package is no plain file", "包内含有非普通文件", _DAMAGED),
    "ofd_entry_missing": bad_input("A file of the package is missing", "包内缺少文件", _DAMAGED),
    "ofd_entry_name": bad_input("An entry of the package has a dangerous name", "包内文件名不安全", _DAMAGED),
    "ofd_main": bad_input("OFD.xml is wrong", "OFD.xml 错误", _DAMAGED),
    "ofd_main_missing": bad_input("The package has no OFD.xml", "缺少 OFD.xml"),
    "ofd_document": bad_input("The document's description is wrong", "文档描述错误", _DAMAGED),
    "ofd_document_not_found": bad_input("The package has no such document", "没有该文档", _REQUEST),
    "ofd_page": bad_input("A page is wrong", "页面错误", _DAMAGED),
    "ofd_no_pages": bad_input("The document has no pages", "文档没有页面"),
    "ofd_signature": bad_input("A signature's description is wrong", "签名描述文件错误", _DAMAGED),
    "ofd_signature_list": bad_input("The list of signatures is wrong", "签名列表错误", _DAMAGED),
    "ofd_integrity": bad_input("The integrity list is wrong", "完整性清单错误", _DAMAGED),
    "ofd_too_large": bad_input("The package is too large", "文件过大", _LIMIT, 413),
    "ofd_ratio": bad_input("The package expands too much", "文件展开后过大", _LIMIT, 413),
    "ofd_too_many_bodies": bad_input("The package has too many documents", "文档数量过多", _LIMIT, 413),
    "ofd_too_many_entries": bad_input("The package has too many entries", "包内文件过多", _LIMIT, 413),
    "ofd_too_many_pages": bad_input("The document has too many pages", "页数过多", _LIMIT, 413),
    "ofd_too_many_references": bad_input("A signature has too many references", "签名引用过多", _LIMIT, 413),
    "ofd_too_many_signatures": bad_input("The document has too many signatures", "签名过多", _LIMIT, 413),
    "ofd_too_many_stamps": bad_input("A signature has too many stamps", "签章外观过多", _LIMIT, 413),
    "xml_doctype": bad_input("An XML file has a DOCTYPE", "XML 含有 DOCTYPE", _DAMAGED),
    "xml_encoding": bad_input("An XML file has an unknown encoding", "XML 编码不支持", _DAMAGED),
    "xml_malformed": bad_input("An XML file is malformed", "XML 格式错误", _DAMAGED),
    "xml_too_deep": bad_input("An XML file is nested too deeply", "XML 嵌套过深", _LIMIT, 413),
    "xml_too_large": bad_input("An XML file is too large", "XML 过大", _LIMIT, 413),
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
    "page_not_found": bad_input("The document has no such page", "没有该页", _PLACE),
    "page_position": bad_input("The seal would lie outside the page", "印章超出页面范围", _PLACE),
    "placement_invalid": bad_input("The seal cannot be placed so", "盖章位置无效", _PLACE),
    "riding_pages": bad_input(
        "The riding seal does not fit these pages",
        "骑缝章与所选页面不符",
        (
            "A riding seal needs two pages or more; use `--at PAGE,X,Y` instead.",
            "骑缝章至少需要两页；请改用 --at 页,X,Y。",
        ),
    ),
    "spool_full": Problem(507, "There is no room for the document", "没有空间暂存文件", *_STATE),
    # Certificates and algorithms
    "certificate_invalid": bad_input("The certificate is malformed", "证书格式错误", _DAMAGED),
    "crl_invalid": bad_input("The revocation list is malformed", "证书吊销列表格式错误", _DAMAGED),
    "public_key_invalid": bad_input("The public key is malformed", "公钥格式错误", _DAMAGED),
    "algorithm_not_supported": bad_input("The algorithm is not supported", "不支持的算法", _DAMAGED),
    "signed_message_invalid": bad_input(
        "The signed message is malformed or was changed", "签名消息格式错误或已被改动", _DAMAGED
    ),
    "timestamp_failed": Problem(
        502,
        "The signature could not be time-stamped, so it was not released",
        "签章未能加盖时间戳，未予放行",
        "Try again later, or have the administrator look at [timestamp]: the detail says what the authority answered.",
        "请稍后重试，或请管理员检查 [timestamp] 配置：详情中有时间戳机构的应答。",
    ),
    "timestamp_invalid": bad_input(
        "The time-stamping authority's answer is of no use", "时间戳机构的应答无效", _TSA, 502
    ),
    "timestamp_refused": bad_input("The time-stamping authority refuses", "时间戳机构拒绝签发时间戳", _TSA, 502),
}
