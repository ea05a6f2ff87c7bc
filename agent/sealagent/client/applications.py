"""The SDK's part about paired applications: pairing, the token and its file, grants.

An application that wants to be known to the holder by name pairs itself once and keeps its token in a file of its own:

>>> with Agent() as agent:                                              # doctest: +SKIP
...     pairing = agent.start_pairing("合同管理系统")
...     print("compare:", pairing["code"])                              # the holder sees the same six digits
...     save_token("~/.config/contracts/token", agent.complete_pairing(pairing)["token"])
>>> agent = Agent(token_file="~/.config/contracts/token")               # doctest: +SKIP
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sealagent.client.errors import AgentError
from sealagent.client.transport import Transport

__all__ = ["TOKEN_FILE", "Applications", "authorization", "read_token_file", "reserve_token_file", "save_token"]

Json = dict[str, Any]

TOKEN_FILE = "SEALAGENT_TOKEN_FILE"  # noqa: S105 - the name of a variable that names a file
"""Environment variable that names the file of the token; the token itself never is in the environment."""
MAX_FILE = 4096
"""Octets of the file of a token; it holds some fifty."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class Applications:
    """Methods of :class:`sealagent.client.Agent` about applications and grants."""

    _transport: Transport

    # Pairing

    def start_pairing(self, name: str) -> Json:
        """Begin to pair the calling program; show the ``code`` of the answer to its user.

        :returns: ``{"id", "name", "code", "secret", "expires"}``.
        """
        return self._transport.json("POST", "/v1/pairings", {"name": name})

    def complete_pairing(self, pairing: Mapping[str, Any]) -> Json:
        """Wait until the holder has compared the code and agreed; from the same process that began.

        :param pairing: the answer of :meth:`start_pairing`.
        :returns: ``{"application": {…}, "token": …}``; the token is shown this once, see :func:`save_token`.
        :raises AgentError: ``consent_refused`` and others; the pairing has ended then.
        """
        body = {"secret": pairing["secret"]}
        return self._transport.json("POST", f"/v1/pairings/{_part(pairing['id'])}/complete", body)

    # Applications

    def applications(self) -> list[Json]:
        """Return the paired applications, revoked and expired ones too."""
        return list(self._transport.json("GET", "/v1/applications")["applications"])

    def application(self, application: str) -> Json:
        """Return one application by id or name."""
        return self._transport.json("GET", f"/v1/applications/{_part(application)}")

    def rename_application(self, application: str, name: str) -> Json:
        """Give an application another name; the holder agrees."""
        return self._change("PATCH", f"/v1/applications/{_part(application)}", {"name": name})

    def revoke_application(self, application: str) -> Json:
        """End an application's token and all its grants."""
        return self._change("DELETE", f"/v1/applications/{_part(application)}")

    # Grants

    def grants(self, application: str | None = None) -> list[Json]:
        """Return the grants of one application (by id or name), or of all."""
        query = f"?application={_part(application)}" if application is not None else ""
        return list(self._transport.json("GET", f"/v1/grants{query}")["grants"])

    def add_grant(
        self,
        operation: str,
        *,
        application: str | None = None,
        effect: str = "allow",
        seal: str | None = None,
        key: str | None = None,
        formats: Sequence[str] = (),
        count: int | None = None,
        hours: str | None = None,
        not_before: datetime | None = None,
        expires: datetime | None = None,
    ) -> Json:
        """Have the holder allow an application something, or forbid it.

        :param operation: ``document``, ``digest``, ``raw`` or ``manage``.
        :param application: id or name; default: the one whose token this agent was given.
        :param effect: ``allow`` or ``deny``.
        :param seal: id, esID or name; default: any. :param key: id (for ``manage`` of a token); default: any.
        :param formats: of documents; default: any. :param count: signatures in all; default: not counted.
        :param hours: local time, ``08:00-18:00``. :param not_before: with a time zone. :param expires: likewise.
        """
        body: Json = {"operation": operation, "effect": effect, "formats": list(formats)}
        body |= {"application": application, "seal": seal, "key": key, "count": count, "hours": hours}
        body["not_before"] = not_before.isoformat() if not_before is not None else None
        body["expires"] = expires.isoformat() if expires is not None else None
        return self._change("POST", "/v1/grants", body)

    def remove_grant(self, grant: str) -> Json:
        """Take a grant back by its id; the holder has to agree where it forbids."""
        return self._change("DELETE", f"/v1/grants/{_part(grant)}")

    def _change(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        return self._transport.json(method, path, body, idempotency_key=os.urandom(16).hex())


def authorization(token: str | None, token_file: str | Path | None) -> dict[str, str]:
    """Return the headers that prove which application this is: the token, that of the file, or that of the file which
    the environment names; none of them: no header.

    :raises AgentError: ``token_file_refused``; ``token_invalid``: it has not the form of one.
    :raises TypeError: both are given.
    """
    if token is not None and token_file is not None:
        raise TypeError("give a token or the file of one, not both")
    if token is None:
        named = token_file if token_file is not None else os.environ.get(TOKEN_FILE)
        if not named:
            return {}
        token = read_token_file(named)
    if not _TOKEN.fullmatch(token):
        raise AgentError("token_invalid", "this is no token of an application")  # nor may it go into a header
    return {"Authorization": f"Bearer {token}"}


def read_token_file(path: str | Path) -> str:
    """Return the token of a file that only its owner, who is this user, may read.

    :raises AgentError: ``token_file_refused``.
    """
    place = Path(path).expanduser()
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise _refused(place, "it is no regular file")
            if found.st_uid != os.geteuid():
                raise _refused(place, "it belongs to another user")
            if found.st_mode & 0o077:
                raise _refused(place, "others may read or write it: chmod 600")
            octets = file.read(MAX_FILE + 1)
    except OSError as error:
        why = "it is a symbolic link" if error.errno == errno.ELOOP else (error.strerror or str(error))
        raise _refused(place, why) from error
    text = octets.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(text):
        raise _refused(place, "it holds no token")
    return text


def reserve_token_file(path: str | Path) -> Path:
    """Make the file of a token, empty and private, so that a token has its place before the holder is asked.

    :raises AgentError: ``token_file_refused``: it is there already, or cannot be made.
    """
    place = Path(path).expanduser()
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _refused(place, error.strerror or str(error)) from error
    return place


def save_token(path: str | Path, token: str, *, reserved: bool = False) -> Path:
    """Write a token into a new file, mode 0600; return its path.

    :param reserved: the file was made by :func:`reserve_token_file`.
    :raises AgentError: ``token_file_refused``: the file is there already, or cannot be written.
    """
    place = Path(path).expanduser() if reserved else reserve_token_file(path)
    try:
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _refused(place, error.strerror or str(error)) from error
    return place


def _refused(path: Path, why: str) -> AgentError:
    if _TOKEN.fullmatch(path.name):  # it must not be said again, where others may read it
        return AgentError("token_file_refused", "the name of a file is wanted, not the token itself")
    return AgentError("token_file_refused", f"{path}: {why}")


def _part(name: str) -> str:
    return quote(name, safe="")
