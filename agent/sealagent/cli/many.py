"""Sealing many documents: a batch, to which the holder agrees once and whose PIN is entered once."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from sealagent.catalog import Exit, problem
from sealagent.cli.output import clean, say
from sealagent.cli.progress import Bar
from sealagent.client import Agent, AgentError
from sealagent.client.batches import sha256_of

__all__ = ["Outcome", "Piece", "conclude", "how_to_go_on", "listed", "resumed", "seal_all"]

MAX_SHOWN = 20
"""Lines of the list that are shown before the holder is asked; the agent's own prompt shows all of it."""
OF_ITEM = frozenset({"batch_item_mismatch", "batch_item_settled", "idempotency_result_gone"})
"""Codes that say something of one document, whatever its state in the batch."""

Write = Callable[[Path, bytes], None]


@dataclass(frozen=True, slots=True)
class Piece:
    """One document, where its sealed form goes, and its line of the list."""

    number: int
    file: Path
    target: Path
    settled: str | None = None
    """What became of it before: ``signed`` or ``failed``."""

    @property
    def unexpected(self) -> bool:
        """Whether something stands where its sealed form goes, that it cannot be."""
        return self.settled is None and self.target.exists()


@dataclass(slots=True)
class Outcome:
    """What became of the documents."""

    sealed: list[dict[str, Any]] = field(default_factory=list)
    """Receipts, with the file that was written."""
    failed: list[dict[str, Any]] = field(default_factory=list)
    """Documents that were not sealed, each with its problem."""


def listed(files: Sequence[Path], targets: Sequence[Path], seal: str) -> list[Piece]:
    """Show the list that the holder is about to be asked for, and return it."""
    head = say(f"{len(files)} documents for the seal {seal!r}:", f"{len(files)} 份文件，使用印章“{seal}”：")
    click.echo(clean(head), err=True)
    for file in files[:MAX_SHOWN]:
        click.echo(f"  {clean(file)}", err=True)
    if len(files) > MAX_SHOWN:
        more = len(files) - MAX_SHOWN
        click.echo(f"  … {say(f'{more} more', f'另有 {more} 份')}", err=True)
    return [Piece(number, *pair) for number, pair in enumerate(zip(files, targets, strict=True), 1)]


def resumed(agent: Agent, batch: str, files: Sequence[Path], targets: Sequence[Path]) -> list[Piece]:
    """Find the lines of a batch that files belong to, by their SHA-256, and have the batch go on.

    :raises click.UsageError: a file is not on the list.
    """
    waiting: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in agent.batch_items(batch):
        waiting[item["digest"]].append(item)
    pieces = []
    for file, target in zip(files, targets, strict=True):
        same = waiting[sha256_of(file)]
        if not same:
            raise click.UsageError(f"{clean(file)} is not in the batch {batch}, or was changed since")
        # Of several copies of one document, each takes a line; its own name first.
        item = next((each for each in same if each["name"] == file.name), same[0])
        same.remove(item)
        settled = item["state"] if item["state"] in ("signed", "failed") else None
        pieces.append(Piece(item["number"], file, target, settled))
    if any(piece.settled is None for piece in pieces):
        agent.resume_batch(batch)
    return pieces


def seal_all(
    agent: Agent,
    batch: str,
    pieces: Sequence[Piece],
    write: Write,
    outcome: Outcome,
    *,
    stop_on_error: bool,
    quiet: bool,
) -> None:
    """Seal what is not sealed yet, one after the other; a document that fails does not keep the others from it.

    :param write: writes a sealed document. :param outcome: is filled as it goes.
    :param quiet: say nothing of those that went well.
    :raises AgentError: what stands against all of them; how to go on was said.
    """
    try:
        with Bar(len(pieces)) as bar:
            quiet = quiet or (bar.shown and sys.stdout.isatty())
            for done, piece in enumerate(pieces):
                count = f"[{done + 1}/{len(pieces)}] "
                bar.show(done, piece.file)
                if piece.settled == "signed" and piece.target.exists():
                    if not quiet:
                        click.echo(f"{count}{clean(piece.target)}  ({say('sealed before', '此前已签章')})")
                    continue
                try:
                    sealed = agent.seal_batch_document(batch, piece.number, piece.file)
                    write(piece.target, sealed.document)
                except (AgentError, OSError) as error:
                    bar.clear()
                    click.echo(f"{count}{clean(piece.file)}: {say('not sealed', '未签章')}", err=True)
                    if not _lies_in_it(agent, batch, piece, error):
                        raise
                    outcome.failed.append(_failed(piece, error))
                    if stop_on_error:
                        break
                    continue
                outcome.sealed.append({"file": str(piece.target), **sealed.receipt})
                if not quiet:
                    bar.clear()
                    recorded = say(f"record {sealed.receipt['record']}", f"记录 {sealed.receipt['record']}")
                    click.echo(f"{count}{clean(piece.target)}  ({recorded})")
    except (AgentError, KeyboardInterrupt):
        how_to_go_on(batch)
        raise
    if outcome.failed and stop_on_error:
        how_to_go_on(batch)


def how_to_go_on(batch: str) -> None:
    """Say how the rest of a batch is sealed without being agreed to again."""
    command = f"sealagent document seal --resume {clean(batch)} FILES"
    click.echo(say(f"To go on with the rest: {command}", f"继续处理其余文件：{command}"), err=True)


def _lies_in_it(agent: Agent, batch: str, piece: Piece, error: AgentError | OSError) -> bool:
    """Say whether a fault is one of this document alone: the batch says so, or the file cannot be read or written."""
    if isinstance(error, OSError) or error.code in OF_ITEM:
        return True
    if not error.problem:  # the agent is gone
        return False
    try:
        [item] = agent.batch(batch, after=piece.number - 1, limit=1)["items"]
    except AgentError:
        return False
    return bool(item["state"] == "failed")


def _failed(piece: Piece, error: AgentError | OSError) -> dict[str, Any]:
    if isinstance(error, AgentError):
        known = problem(error.code)
        click.echo(f"  ✗ {say(known.title, known.title_zh)} [{clean(error.code)}]: {clean(error.detail)}", err=True)
        return {"file": str(piece.file), "problem": error.problem}
    click.echo(f"  ✗ {clean(error.filename or piece.file)}: {clean(error.strerror)}", err=True)
    return {"file": str(piece.file), "problem": {"code": "file", "detail": clean(error.strerror)}}


def conclude(outcome: Outcome, batch: str, *, quiet: bool) -> None:
    """Say how many were sealed, and end with the exit status that fits."""
    if outcome.failed:
        sealed, failed = len(outcome.sealed), len(outcome.failed)
        words = say(
            f"{sealed} sealed, {failed} not; batch {clean(batch)}",
            f"已签章 {sealed} 份，未签章 {failed} 份；批次 {clean(batch)}",
        )
        click.echo(words, err=True)
        raise click.exceptions.Exit(Exit.FAILURE)
    if not quiet:
        click.echo(say(f"batch {clean(batch)}: done", f"批次 {clean(batch)}：完成"), err=True)
