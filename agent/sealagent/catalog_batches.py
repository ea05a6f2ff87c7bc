"""Error codes of batches; part of :mod:`sealagent.catalog`."""

from __future__ import annotations

from sealagent.problems import Exit, Problem, bad_input

__all__ = ["BATCHES"]

BATCHES: dict[str, Problem] = {
    "batch_not_found": Problem(
        404, "There is no such batch", "没有该批次", "See `sealagent batch list`.", "请查看 sealagent batch list。"
    ),
    "batch_not_yours": Problem(
        403,
        "The batch belongs to another application",
        "该批次属于其他应用",
        "Go on with it in the application that asked for it, or make a batch of your own.",
        "请在发起该批次的应用中继续，或自行新建批次。",
        Exit.REFUSED,
    ),
    "batch_too_large": bad_input(
        "The batch has too many items, or none",
        "批次的项目过多或为空",
        (
            "Split it into several batches; [limits] batch_items of policy.toml says how many items one may have.",
            "请拆成若干批次；每批上限见 policy.toml 的 [limits] batch_items。",
        ),
        413,
    ),
    "too_many_batches": Problem(
        409,
        "Too many batches are open",
        "未结束的批次过多",
        "Finish or cancel one: `sealagent batch list`, `sealagent batch cancel ID`.",
        "请先完成或取消一个：sealagent batch list、sealagent batch cancel ID。",
    ),
    "batch_waiting": Problem(
        409,
        "The holder has not agreed to the batch yet",
        "持有人尚未同意该批次",
        "Answer the prompt that shows the list, then go on.",
        "请先在提示中确认清单，然后继续。",
        Exit.REFUSED,
    ),
    "batch_stopped": Problem(
        409,
        "The batch was stopped because the PIN failed or was not entered",
        "因 PIN 错误或未输入，批次已停止",
        "Make sure of the PIN, then: `sealagent batch resume ID`, or `sealagent document seal --resume ID FILES`.",
        "请确认 PIN 后继续：sealagent batch resume ID，或 sealagent document seal --resume ID 文件。",
        Exit.PIN,
    ),
    "batch_ended": Problem(
        409,
        "The batch has ended",
        "批次已结束",
        "Make a new batch for what is left: `sealagent batch show ID` lists it.",
        "剩余内容请新建批次；sealagent batch show ID 可查看。",
    ),
    "batch_item_not_found": Problem(
        404,
        "The batch has no such item",
        "批次中没有该项目",
        "`sealagent batch show ID` lists its items with their numbers.",
        "sealagent batch show ID 可列出各项目及编号。",
    ),
    "batch_item_mismatch": Problem(
        409,
        "The document is not the one that the holder agreed to",
        "该文件与持有人同意的文件不符",
        "Bring the file as it was, or make a new batch for the changed one; nothing was signed.",
        "请提交建立批次时的原文件，或为改动后的文件新建批次；未签署任何内容。",
        Exit.REFUSED,
    ),
    "batch_item_busy": Problem(
        409,
        "The item is being signed at this moment",
        "该项目正在签署",
        "Wait for its result: `sealagent batch show ID`.",
        "请等待结果：sealagent batch show ID。",
    ),
    "batch_item_settled": Problem(
        409,
        "The item has its result already",
        "该项目已有结果",
        "See its result: `sealagent batch show ID`; a document that failed goes into a new batch once it is mended.",
        "请查看结果：sealagent batch show ID；失败的文件修复后请列入新批次。",
    ),
    "prompt_not_now": Problem(
        409,
        "The holder would have to be asked first",
        "须先询问持有人",
        "Nothing: the batch asks with one item, and goes on with this one afterwards.",
        "无需处理：批次会先以一个项目询问，随后继续处理本项目。",
    ),
    "batch_store_failed": Problem(
        507,
        "The agent cannot keep its batches",
        "无法保存批次",
        "Free space where the agent keeps its state; a file batches.sqlite that is damaged can be moved away.",
        "请为代理的状态目录腾出空间；如 batches.sqlite 已损坏，可将其移走。",
    ),
}
