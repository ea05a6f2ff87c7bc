"""Applications that the holder has paired: how they come to be, and how they prove who they are.

An application asks to be paired and shows six digits; the holder compares them with those in the agent's own prompt and
agrees. It then gets a token, which counts only from the same program file, user and origin. The token is no secret from
other programs of the same user that can read its memory or files: it names an application, it does not confine one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sealagent.callers.grants import GrantBook
from sealagent.callers.model import Paired
from sealagent.callers.names import MAX_NAME, alike, clean_name
from sealagent.callers.peer import Caller
from sealagent.callers.store import Application, CallersStore, drop_application, put_application
from sealagent.clock import Clock
from sealagent.errors import SealAgentError

__all__ = ["MAX_APPLICATIONS", "MAX_OPEN", "Offer", "Pairings", "ProgramChanged", "read_token"]

OPEN_FOR = timedelta(minutes=5)
"""Time from asking to be paired to the holder's yes."""
MAX_OPEN = 4
"""Applications that ask to be paired at once; each process has one."""
MAX_APPLICATIONS = 256
"""Paired applications, revoked and expired ones included as long as there is room for them."""
TOKEN_OCTETS = 32
TOKEN_LENGTH = 43
"""Characters of a token: base64url (RFC 4648 §5) of 32 octets without padding."""
USED_EVERY = timedelta(minutes=10)
"""How exactly it is kept when an application was here last."""
MAX_REFUSED = 1024
"""Changed programs that the holder did not know, remembered so that they do not ask again."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A pairing that was begun: what the application is told."""

    id: str
    name: str
    """The name the application gave itself, as it is kept."""
    code: str
    """Six digits to show."""
    secret: str = field(repr=False)
    """Hexadecimal; the application proves with it that it is the one that began."""
    expires: datetime


@dataclass(slots=True)
class _Open:
    offer: Offer
    caller: Caller
    asking: bool = False
    """Whether the holder is being asked."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A pairing about which the holder is asked."""

    id: str
    name: str
    code: str


class ProgramChanged(SealAgentError):
    """An application's program file is another than when it was paired; the holder may say that it is still it.

    :ivar application: as it is kept. :ivar known_no: the holder has said no to this program before.
    """

    def __init__(self, application: Application, *, known_no: bool) -> None:
        super().__init__(
            "program_changed",
            f"the program of {application.name!r} is not the one that was paired",
            application=application.id,
        )
        self.application = application
        self.known_no = known_no


def read_token(text: str) -> bytes:
    """Return the SHA-256 of a token. :raises SealAgentError: ``token_invalid``: it has not the form of one."""
    try:
        octets = base64.b64decode(text + "=", altchars=b"-_", validate=True) if len(text) == TOKEN_LENGTH else b""
    except (ValueError, binascii.Error):
        octets = b""
    if len(octets) != TOKEN_OCTETS or _encoded(octets) != text:
        raise SealAgentError("token_invalid", "the token is none of this agent's")
    return hashlib.sha256(octets).digest()


def _encoded(token: bytes) -> str:
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


class Pairings:
    """All paired applications, and those that ask to be.

    Methods that change something block on the disk and are safe in any thread; :meth:`identify` takes microseconds and
    does not.

    :param days: gives how long a pairing that is made now counts; None: until it is revoked.
    :raises SealAgentError: ``callers_damaged``.
    """

    def __init__(
        self, store: CallersStore, book: GrantBook, clock: Clock, *, days: Callable[[], int | None] = lambda: None
    ) -> None:
        self._store = store
        self._book = book
        self._clock = clock
        self._days = days
        self._writing = threading.Lock()
        self._memory = threading.Lock()
        self._applications = {each.id: each for each in store.applications()}
        self._by_token = {each.token_sha256: each.id for each in self._applications.values()}
        self._open: dict[str, _Open] = {}
        self._refused: dict[tuple[str, str], None] = {}
        self._unwritten: set[str] = set()
        """Applications that were here since that was written down last."""

    # What there is

    def list(self) -> list[Application]:
        """Return all applications, oldest first; expired and revoked ones too."""
        with self._memory:
            return sorted(self._applications.values(), key=lambda each: (each.created, each.id))

    def get(self, application_id: str) -> Application:
        """Return an application. :raises SealAgentError: ``application_not_found``."""
        with self._memory:
            found = self._applications.get(application_id)
        if found is None:
            raise SealAgentError("application_not_found", "there is no such application")
        return found

    def find(self, named: str) -> Application:
        """Return an application by id, or a paired one by name. :raises SealAgentError: ``application_not_found``."""
        with self._memory:
            found = self._applications.get(named)
            if found is None:
                now, wanted = self._clock(), alike(named[:MAX_NAME])
                same = (each for each in self._applications.values() if alike(each.name) == wanted)
                found = next((each for each in same if each.state(now) == "active"), None)
        if found is None:
            raise SealAgentError("application_not_found", "there is no such application")
        return found

    def require_active(self, application_id: str) -> Application:
        """Return an application whose token counts. :raises SealAgentError: ``application_not_found``."""
        found = self.get(application_id)
        if (state := found.state(self._clock())) != "active":
            raise SealAgentError("application_not_found", f"the application {found.name!r} is {state}")
        return found

    # Pairing

    def start(self, caller: Caller, declared: str) -> Offer:
        """Begin to pair an application. An earlier attempt of the same process ends, unless the holder is being asked.

        :param caller: whose :attr:`~Caller.executable` and :attr:`~Caller.sha256` are known.
        :param declared: the name that it gives itself.
        :raises FormatError: ``name_invalid``.
        :raises SealAgentError: ``caller_unknown``, ``application_name_taken``, ``too_many_pairings``.
        """
        name = clean_name(declared)
        _require_known(caller)
        now = self._clock()
        with self._memory:
            self._require_free(name, now)
            self._tidy(now)
            mine = [each for each in self._open.values() if _same_process(each.caller, caller)]
            if any(each.asking for each in mine):
                raise SealAgentError("too_many_pairings", "the holder is being asked about this program already")
            for each in mine:
                del self._open[each.offer.id]
            if len(self._open) >= MAX_OPEN:
                raise SealAgentError("too_many_pairings", f"{MAX_OPEN} programs ask to be paired already")
            taken = {each.offer.code for each in self._open.values()}
            while (code := f"{secrets.randbelow(10**6):06}") in taken:
                pass
            offer = Offer(secrets.token_hex(16), name, code, secrets.token_hex(32), now + OPEN_FOR)
            self._open[offer.id] = _Open(offer, caller)
            return offer

    def ask(self, offer_id: str, secret: str, caller: Caller) -> Asked:
        """Have the holder asked next; :meth:`finish` or :meth:`abandon` must follow.

        :raises SealAgentError: ``pairing_not_found``: this process has none, its time is over, it was completed, or the
            holder is being asked already; ``pairing_secret_wrong``: it has ended now.
        """
        with self._memory:
            found = self._open.get(offer_id)
            if found is None or not _same_process(found.caller, caller):
                raise _no_pairing()
            if self._clock() >= found.offer.expires:
                del self._open[offer_id]
                raise _no_pairing()
            if not hmac.compare_digest(secret.encode(errors="replace"), found.offer.secret.encode()):
                del self._open[offer_id]  # should the holder be reading the code just now, their yes comes to nothing
                raise SealAgentError(
                    "pairing_secret_wrong", "the secret is not the one of this pairing, which has ended"
                )
            if found.asking:
                raise _no_pairing()
            found.asking = True
            return Asked(offer_id, found.offer.name, found.offer.code)

    def abandon(self, offer_id: str) -> None:
        """End a pairing that came to nothing."""
        with self._memory:
            self._open.pop(offer_id, None)

    def finish(self, offer_id: str, caller: Caller, record: int | None = None) -> tuple[Application, str]:
        """Pair an application after the holder agreed; return it and its token, which is kept nowhere.

        :param caller: who began it, as it is now: its program may have changed while the holder was asked.
        :raises SealAgentError: ``pairing_not_found``: its time is over; ``program_changed``,
            ``application_name_taken``, ``too_many_applications``, ``callers_failed``. The pairing has ended then, too.
        """
        with self._writing:
            now = self._clock()
            with self._memory:
                found = self._open.pop(offer_id, None)
                if found is None or not found.asking or now >= found.offer.expires:
                    raise _no_pairing()
                executable, sha256 = _require_known(caller)
                began = found.caller
                if (began.executable, began.sha256, began.origin) != (executable, sha256, caller.origin):
                    raise SealAgentError("program_changed", "the program changed while the holder was asked")
                self._require_free(found.offer.name, now)
                removed = self._room(now)
            days = self._days()
            token = _encoded(secrets.token_bytes(TOKEN_OCTETS))
            application = Application(
                id=f"app-{secrets.token_hex(8)}",
                name=found.offer.name,
                uid=caller.uid,
                executable=executable,
                sha256=sha256,
                origin=caller.origin,
                token_sha256=read_token(token),
                created=now,
                expires=now + timedelta(days=days) if days is not None else None,
                record=record,
            )
            self._store.write([*map(drop_application, removed), put_application(application)])
            with self._memory:
                for each in removed:
                    self._drop(each)
                self._keep(application)
            return application, token

    # Who it is

    def identify(self, caller: Caller, token: str) -> Paired:
        """Say which application a caller is. Never waits for the disk.

        :raises SealAgentError: ``token_invalid``, ``pairing_expired``, ``pairing_revoked``; ``token_misused``: another
            program, user or origin presents it; ``caller_unknown``: its program cannot be looked at.
        :raises ProgramChanged: ``program_changed``: the program file is another than the holder knows.
        """
        token_sha256 = read_token(token)
        now = self._clock()
        with self._memory:
            found = self._applications.get(self._by_token.get(token_sha256, ""))
            if found is None:
                raise SealAgentError("token_invalid", "the token is none of this agent's")
            _require_counting(found, now)
            if (found.uid, found.origin) != (caller.uid, caller.origin) or (
                caller.executable is not None and caller.executable != found.executable
            ):
                raise SealAgentError(
                    "token_misused",
                    f"the token of {found.name!r} is presented by another program",
                    application=found.id,
                )
            _, sha256 = _require_known(caller)
            if sha256 != found.sha256:
                raise ProgramChanged(found, known_no=(found.id, sha256) in self._refused)
            if found.last_used is None or not timedelta() <= now - found.last_used < USED_EVERY:
                self._applications[found.id] = replace(found, last_used=now)
                self._unwritten.add(found.id)
            return Paired(found.id, found.name)

    def require_counting(self, caller: Caller) -> None:
        """Have a caller that was identified some time ago still be a paired application, or an unpaired one.

        :raises SealAgentError: ``pairing_revoked``, ``pairing_expired``, ``application_not_found``.
        """
        if caller.application is not None:
            _require_counting(self.get(caller.application.id), self._clock())

    def accept_program(self, application_id: str, sha256: str) -> Application:
        """Take the present program file for the application's: the holder said that it is still it.

        :raises SealAgentError: ``application_not_found``, ``callers_failed``.
        """
        with self._writing:
            return self._change(replace(self.require_active(application_id), sha256=sha256))

    def refuse_program(self, application_id: str, sha256: str) -> None:
        """Remember that the holder did not know a changed program, so that it does not ask again and again."""
        with self._memory:
            while len(self._refused) >= MAX_REFUSED:
                self._refused.pop(next(iter(self._refused)))
            self._refused[(application_id, sha256)] = None

    # Changing

    def check_name(self, application_id: str, declared: str) -> str:
        """Return a new name for an application, cleaned.

        :raises FormatError: ``name_invalid``. :raises SealAgentError: ``application_not_found``,
            ``application_name_taken``.
        """
        name = clean_name(declared)
        self.require_active(application_id)
        with self._memory:
            self._require_free(name, self._clock(), application_id)
        return name

    def rename(self, application_id: str, declared: str) -> Application:
        """Give an application another name, durably. :raises SealAgentError: as :meth:`check_name`, and
        ``callers_failed``."""
        with self._writing:
            name = self.check_name(application_id, declared)
            return self._change(replace(self.get(application_id), name=name))

    def revoke(self, application_id: str) -> Application:
        """End a pairing and all grants of the application, durably and together; return it as it is now.

        :raises SealAgentError: ``application_not_found``, ``callers_failed``.
        """
        with self._writing:
            revoked = replace(self.get(application_id), revoked=True)
            self._book.end_grantee(application_id, [put_application(revoked)])
            with self._memory:
                self._applications[application_id] = revoked
            return revoked

    @property
    def unwritten(self) -> bool:
        """Whether :meth:`note_uses` has anything to do."""
        return bool(self._unwritten)

    def note_uses(self) -> None:
        """Write down when applications were here last. :raises SealAgentError: ``callers_failed``."""
        with self._writing:
            with self._memory:
                fresh = [self._applications[each] for each in self._unwritten if each in self._applications]
                self._unwritten.clear()
            if fresh:
                self._store.write(map(put_application, fresh), recount=False)

    def _change(self, application: Application) -> Application:
        self._store.write([put_application(application)], recount=False)
        with self._memory:
            kept = self._applications[application.id]
            self._applications[application.id] = replace(application, last_used=kept.last_used)
        return application

    # Memory

    def _keep(self, application: Application) -> None:
        self._applications[application.id] = application
        self._by_token[application.token_sha256] = application.id

    def _drop(self, application_id: str) -> None:
        gone = self._applications.pop(application_id)
        self._by_token.pop(gone.token_sha256, None)

    def _room(self, now: datetime) -> tuple[str, ...]:
        """Return which applications go to make room: none, or the one that ended first."""
        if len(self._applications) < MAX_APPLICATIONS:
            return ()
        over = [each for each in self._applications.values() if each.state(now) != "active"]
        if not over:
            raise SealAgentError("too_many_applications", f"{MAX_APPLICATIONS} applications are paired; revoke some")
        return (min(over, key=lambda each: (each.created, each.id)).id,)

    def _require_free(self, name: str, now: datetime, but: str | None = None) -> None:
        wanted = alike(name)
        for each in self._applications.values():
            if each.id != but and each.state(now) == "active" and alike(each.name) == wanted:
                raise SealAgentError(
                    "application_name_taken", f"another application is called {each.name!r}", application=each.id
                )

    def _tidy(self, now: datetime) -> None:
        """End the attempts whose time is over, and those of processes that have ended."""
        for each in list(self._open.values()):
            if not each.asking and (now >= each.offer.expires or not os.path.exists(f"/proc/{each.caller.pid}")):
                del self._open[each.offer.id]


def _require_counting(application: Application, now: datetime) -> None:
    if (state := application.state(now)) == "revoked":
        raise SealAgentError(
            "pairing_revoked", f"the pairing of {application.name!r} was revoked", application=application.id
        )
    if state == "expired":
        raise SealAgentError(
            "pairing_expired", f"the pairing of {application.name!r} has expired", application=application.id
        )


def _no_pairing() -> SealAgentError:
    return SealAgentError(
        "pairing_not_found", "there is no such pairing to complete: it ended, or is another process's"
    )


def _same_process(one: Caller, other: Caller) -> bool:
    return (one.uid, one.process, one.origin) == (other.uid, other.process, other.origin)


def _require_known(caller: Caller) -> tuple[str, str]:
    """Return path and digest of the caller's program. :raises SealAgentError: ``caller_unknown``."""
    if caller.executable is None or caller.sha256 is None or caller.started is None:
        raise SealAgentError(
            "caller_unknown",
            "the program file of the caller cannot be looked at; it may have been replaced while the program ran",
        )
    return caller.executable, caller.sha256
