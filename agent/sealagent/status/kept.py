"""The last answer about each seal, in memory and on disk: for when nobody can be asked, and against older ones.

What a service said last is kept in a file of its own, as it was received, so that it can be verified anew after a
restart. A statement of a list is not: the list itself is at hand.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict
from pathlib import Path

from sealagent.errors import SealAgentError
from sealagent.files import read_regular, write_whole
from sealagent.pki.trust import TrustStore
from sealagent.seals.status import SealState
from sealagent.status.statements import MAX_MESSAGE, Question, Statement, answer_statement

__all__ = ["MAX_KEPT", "KeptAnswers"]

MAX_KEPT = 1024  # answers on disk and in memory: one's own seals, and those of the documents verified lately
TIDY_EVERY = 64  # answers written between two looks whether there are too many

_SUFFIX = ".answer"

log = logging.getLogger(__name__)


class KeptAnswers:
    """The newest authentic statement about each seal.

    :param directory: made with mode 0700 when the first answer is kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._newest: OrderedDict[str, Statement] = OrderedDict()
        self._trust: TrustStore | None = None
        self._written = 0

    def newest(self, question: Question, signers: frozenset[str]) -> Statement | None:
        """Return the last statement about a seal, if there is one that still counts by present trust.

        :param signers: SHA-256 of certificates that the configuration lets sign.
        """
        with self._lock:
            if self._trust is not question.trust:
                # Who signed may be recognised no longer; what is on disk is verified anew.
                self._newest.clear()
                self._trust = question.trust
            known = self._newest.get(question.sm3)
        if known is None:
            known = self._from_disk(question, signers)
            if known is not None:
                known = self._remember(question.sm3, known)
        return known

    def offer(self, question: Question, statement: Statement) -> None:
        """Keep a statement about a seal that is known to its unit, unless a newer one is.

        :raises SealAgentError: ``status_answer_refused``: it is older than what is known.
        """
        if not statement.history:
            return
        kept = self._remember(question.sm3, statement)
        if kept is not statement:
            raise SealAgentError("status_answer_refused", f"{kept.source} has said something newer")
        if statement.alone:
            self._to_disk(question.sm3, statement)

    def _remember(self, sm3: str, statement: Statement) -> Statement:
        """Keep the newer of two; return it."""
        with self._lock:
            known = self._newest.get(sm3)
            if known is not None and known.produced_at > statement.produced_at:
                return known
            self._newest[sm3] = statement
            self._newest.move_to_end(sm3)
            if len(self._newest) > MAX_KEPT:
                self._newest.popitem(last=False)
            return statement

    def _from_disk(self, question: Question, signers: frozenset[str]) -> Statement | None:
        path = self._directory / (question.sm3 + _SUFFIX)
        try:
            source, _, message = read_regular(path, MAX_MESSAGE + 4096).partition(b"\n")
            return answer_statement(question, message, source.decode(), signers, None)
        except FileNotFoundError:
            return None
        except (OSError, SealAgentError, ValueError) as error:
            log.info("the answer kept about seal %s does not count: %r", question.sm3, error)
            return None

    def _to_disk(self, sm3: str, statement: Statement) -> None:
        octets = statement.source.encode() + b"\n" + statement.evidence
        try:
            write_whole(self._directory / (sm3 + _SUFFIX), octets, durable=False)
            with self._lock:
                self._written += 1
                tidy = self._written % TIDY_EVERY == 1
            if tidy:
                self._tidy()
        except OSError as error:
            log.warning("an answer cannot be kept for later: %s", error.strerror)

    def _tidy(self) -> None:
        """Remove the answers that were written longest ago, if there are too many; good ones first."""
        files = [each for each in os.scandir(self._directory) if each.name.endswith(_SUFFIX)]
        if len(files) <= MAX_KEPT:
            return
        files.sort(key=lambda each: (self._is_bad(each.name), each.stat().st_mtime_ns))
        for each in files[: len(files) - MAX_KEPT]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each.path)

    def _is_bad(self, name: str) -> bool:
        known = self._newest.get(name.removesuffix(_SUFFIX))
        return known is not None and known.history[-1].state is not SealState.VALID
