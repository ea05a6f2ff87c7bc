"""How tokens, keys, certificates and data objects are named: PKCS#11 URIs (RFC 7512), and ``skf:`` URIs after them.

The output of ``str()`` is canonical (one order, one percent-encoding), so that two spellings of one name compare equal
once parsed and :func:`sealdrivers.contract.short_id` of the text is stable.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast, get_args
from urllib.parse import quote, unquote_to_bytes

from sealdrivers.contract import ModuleInfo, TokenInfo
from sealdrivers.errors import UriError

__all__ = ["MAX_ATTRIBUTES", "MAX_URI_LENGTH", "ObjectType", "Pkcs11Uri", "SkfObjectType", "SkfUri", "parse_uri"]

MAX_URI_LENGTH = 4096
"""Characters. The longest sensible URI (all fields full, everything percent-encoded) is about half of it."""

MAX_ATTRIBUTES = 32
"""Attributes in path and query together; RFC 7512 defines 17."""

ObjectType: TypeAlias = Literal["public", "private", "cert", "secret-key", "data"]

# RFC 7512 §2.3: unreserved, percent-encoded, and these.
_PATH_EXTRA = ":[]@!$'()*+,=&"
_QUERY_EXTRA = ":[]@!$'()*+,=/?|"
_PATH_VALUE = re.compile(rf"(?:[A-Za-z0-9\-._~{re.escape(_PATH_EXTRA)}]|%[0-9A-Fa-f]{{2}})*")
_QUERY_VALUE = re.compile(rf"(?:[A-Za-z0-9\-._~{re.escape(_QUERY_EXTRA)}]|%[0-9A-Fa-f]{{2}})*")
_NAME = re.compile(r"[A-Za-z0-9\-_]+")
_VERSION = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?")
_SLOT = re.compile(r"[0-9]{1,20}")

# The canonical order: what serves the token first, the token, then the object on it.
_PATH_TEXT = (
    "library-manufacturer",
    "library-description",
    "slot-manufacturer",
    "slot-description",
    "token",
    "manufacturer",
    "model",
    "serial",
    "object",
)
_PATH_NAMES = frozenset((*_PATH_TEXT, "library-version", "slot-id", "id", "type"))
_QUERY_TEXT = ("module-name", "module-path", "pin-source")
_QUERY_NAMES = frozenset((*_QUERY_TEXT, "pin-value"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Uri:
    """A PKCS#11 URI. An attribute that is None was not given and matches anything; an empty one matches only empty."""

    library_manufacturer: str | None = None
    library_description: str | None = None
    library_version: tuple[int, int] | None = None
    slot_manufacturer: str | None = None
    slot_description: str | None = None
    slot_id: int | None = None
    token: str | None = None
    """Label of the token."""
    manufacturer: str | None = None
    model: str | None = None
    serial: str | None = None
    id: bytes | None = None
    """CKA_ID."""
    object: str | None = None
    """CKA_LABEL."""
    type: ObjectType | None = None
    vendor: tuple[tuple[str, str], ...] = ()
    """Attributes of the path that RFC 7512 does not define, sorted by name."""
    module_name: str | None = None
    module_path: str | None = None
    pin_source: str | None = None
    vendor_query: tuple[tuple[str, str], ...] = ()
    """Attributes of the query that RFC 7512 does not define, in their order; a name may repeat (§2.3)."""

    @classmethod
    def parse(cls, text: str, *, allow_pin_source: bool = False) -> Pkcs11Uri:
        """Parse a URI strictly.

        :param allow_pin_source: take ``pin-source`` instead of refusing it. ``pin-value`` is always refused.
        :raises UriError: malformed, too long, an attribute twice, or a PIN in it. The message never quotes a value.
        """
        if len(text) > MAX_URI_LENGTH:
            raise UriError(f"the URI is longer than {MAX_URI_LENGTH} characters")
        scheme, colon, rest = text.partition(":")
        if not colon or scheme.lower() != "pkcs11":
            raise UriError("the URI does not begin with pkcs11:")
        path, _, query = rest.partition("?")
        in_path = _split(path, ";", _PATH_VALUE)
        in_query = _split(query, "&", _QUERY_VALUE)
        if len(in_path) + len(in_query) > MAX_ATTRIBUTES:
            raise UriError(f"the URI has more than {MAX_ATTRIBUTES} attributes")
        if any(name == "pin-value" for name, _ in in_path + in_query):
            raise UriError("a PIN in a URI (pin-value) is never accepted")
        for name, _ in in_path:
            if name in _QUERY_NAMES:
                raise UriError(f"{name} belongs in the query of the URI, after '?'")
        for name, _ in in_query:
            if name in _PATH_NAMES:
                raise UriError(f"{name} belongs in the path of the URI, before '?'")
        if not allow_pin_source and any(name == "pin-source" for name, _ in in_query):
            raise UriError("pin-source in a URI is not accepted here; configure where the PIN comes from")
        _refuse_repeated([name for name, _ in in_path])
        _refuse_repeated([name for name, _ in in_query if name in _QUERY_NAMES])
        path_values, query_values = dict(in_path), dict(in_query)
        texts = {name.replace("-", "_"): _text(name, path_values[name]) for name in _PATH_TEXT if name in path_values}
        texts |= {
            name.replace("-", "_"): _text(name, query_values[name]) for name in _QUERY_TEXT if name in query_values
        }
        return cls(
            **texts,
            library_version=_version(path_values.get("library-version")),
            slot_id=_slot_id(path_values.get("slot-id")),
            id=unquote_to_bytes(path_values["id"]) if "id" in path_values else None,
            type=_type(path_values.get("type")),
            vendor=tuple(sorted((name, _text(name, raw)) for name, raw in in_path if name not in _PATH_NAMES)),
            vendor_query=tuple((name, _text(name, raw)) for name, raw in in_query if name not in _QUERY_NAMES),
        )

    def __str__(self) -> str:
        parts = []
        for name in _PATH_TEXT:
            if name == "object" and self.id is not None:
                # §2.3: the whole value of id should be percent-encoded, since it is arbitrary octets.
                parts.append("id=" + "".join(f"%{octet:02X}" for octet in self.id))
            value = getattr(self, name.replace("-", "_"))
            if value is not None:
                parts.append(f"{name}={quote(value, safe=_PATH_EXTRA)}")
            if name == "library-description" and self.library_version is not None:
                parts.append("library-version={}.{}".format(*self.library_version))
            if name == "slot-description" and self.slot_id is not None:
                parts.append(f"slot-id={self.slot_id}")
        if self.type is not None:
            parts.append(f"type={self.type}")
        parts += [f"{name}={quote(value, safe=_PATH_EXTRA)}" for name, value in self.vendor]
        query = [(name, value) for name in _QUERY_TEXT if (value := getattr(self, name.replace("-", "_"))) is not None]
        tail = "&".join(f"{name}={quote(value, safe=_QUERY_EXTRA)}" for name, value in [*query, *self.vendor_query])
        return "pkcs11:" + ";".join(parts) + ("?" + tail if tail else "")

    def matches_token(self, token: TokenInfo, module: ModuleInfo | None = None) -> bool:
        """Say whether the token is meant, whatever object the URI names on it.

        A library attribute matches only when ``module`` is given. A slot attribute or an attribute that RFC 7512 does
        not define matches nothing (§2.4): a token is never named by its slot here.
        """
        if token.driver != "pkcs11":
            return False
        if self.vendor or (self.slot_manufacturer, self.slot_description, self.slot_id) != (None, None, None):
            return False
        pairs = [
            (self.token, token.label),
            (self.manufacturer, token.manufacturer),
            (self.model, token.model),
            (self.serial, token.serial),
            (self.library_manufacturer, module.manufacturer if module else None),
            (self.library_description, module.description if module else None),
        ]
        if not all(wanted is None or wanted == found for wanted, found in pairs):
            return False
        if self.library_version is None:
            return True
        version = _VERSION.fullmatch(module.version) if module else None
        return version is not None and self.library_version == (int(version[1]), int(version[2] or 0))

    def matches_object(self, type: ObjectType, object_id: bytes | None, label: str) -> bool:
        """Say whether an object with these attributes is meant, on whatever token.

        :param object_id: CKA_ID; None for a data object, which has none.
        """
        return (
            not self.vendor
            and self.type in (None, type)
            and (self.id is None or self.id == object_id)
            and self.object in (None, label)
        )


SkfObjectType: TypeAlias = Literal["private", "cert", "data", "eseal"]
_SKF_TEXT = ("serial", "application", "container", "file")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkfUri:
    """An SKF URI: ``skf:serial=…;application=…;container=…``, percent-encoded as RFC 7512 has it.

    Serial (of the device) and application name a token, container or file what is on it. ``type`` tells the key
    (``private``) and the certificate of a container apart, a file (``data``), and the seal behind EPS_ReadESealData
    (``eseal``). An attribute that is None was not given and matches anything.
    """

    serial: str | None = None
    application: str | None = None
    container: str | None = None
    file: str | None = None
    type: SkfObjectType | None = None

    @classmethod
    def parse(cls, text: str) -> SkfUri:
        """Parse a URI strictly.

        :raises UriError: malformed, too long, an attribute twice or unknown, or a query. No message quotes a value.
        """
        if len(text) > MAX_URI_LENGTH:
            raise UriError(f"the URI is longer than {MAX_URI_LENGTH} characters")
        scheme, colon, path = text.partition(":")
        if not colon or scheme.lower() != "skf":
            raise UriError("the URI does not begin with skf:")
        attributes = _split(path, ";", _PATH_VALUE)
        _refuse_repeated([name for name, _ in attributes])
        values = {name: _text(name, raw) for name, raw in attributes}
        unknown = values.keys() - {*_SKF_TEXT, "type"}
        if unknown:
            raise UriError(f"an skf: URI has no attribute {min(unknown)}")
        if values.get("type") not in (None, *get_args(SkfObjectType)):
            raise UriError(f"type is none of {', '.join(get_args(SkfObjectType))}")
        return cls(**cast("dict[str, Any]", values))

    def __str__(self) -> str:
        named = [(name, getattr(self, name)) for name in (*_SKF_TEXT, "type")]
        return "skf:" + ";".join(
            f"{name}={quote(value, safe=_PATH_EXTRA)}" for name, value in named if value is not None
        )

    def with_object(self, type: SkfObjectType, *, container: str | None = None, file: str | None = None) -> SkfUri:
        """Return the URI of an object on this token."""
        return replace(self, container=container, file=file, type=type)

    def matches_token(self, token: TokenInfo) -> bool:
        """Say whether the token is meant, whatever object the URI names on it."""
        return token.driver == "skf" and self.names(SkfUri.parse(token.uri))

    def names(self, token: SkfUri) -> bool:
        """Say whether the token of this URI is meant."""
        return self.serial in (None, token.serial) and self.application in (None, token.application)

    def matches_container(self, type: SkfObjectType, container: str) -> bool:
        """Say whether the key or certificate of a container is meant, on whatever token."""
        return self.type in (None, type) and self.container in (None, container) and self.file is None


def parse_uri(text: str) -> Pkcs11Uri | SkfUri:
    """Parse a URI of either scheme. :raises UriError: it is of neither, or malformed."""
    return SkfUri.parse(text) if text[:4].lower() == "skf:" else Pkcs11Uri.parse(text)


def _split(part: str, separator: str, value: re.Pattern[str]) -> list[tuple[str, str]]:
    """Split path or query into names and still percent-encoded values."""
    attributes = []
    for item in part.split(separator) if part else []:
        name, equals, raw = item.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UriError("the URI has an attribute without a proper name and '='")
        if not value.fullmatch(raw):
            raise UriError(f"{name} has a character that must be percent-encoded, or a broken percent-encoding")
        attributes.append((name, raw))
    return attributes


def _refuse_repeated(names: list[str]) -> None:
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UriError(f"{min(repeated)} appears more than once in the URI")


def _text(name: str, raw: str) -> str:
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise UriError(f"{name} is not UTF-8 once decoded") from None


def _version(raw: str | None) -> tuple[int, int] | None:
    if raw is None:
        return None
    found = _VERSION.fullmatch(raw)
    version = (int(found[1]), int(found[2] or 0)) if found else (256, 0)
    if max(version) > 255:  # CK_VERSION holds two octets
        raise UriError("library-version is not one or two numbers up to 255, joined by a dot")
    return version


def _slot_id(raw: str | None) -> int | None:
    if raw is None:
        return None
    if not _SLOT.fullmatch(raw) or int(raw) >= 1 << 64:
        raise UriError("slot-id is not a decimal number of a slot")
    return int(raw)


def _type(raw: str | None) -> ObjectType | None:
    if raw is not None and raw not in get_args(ObjectType):
        raise UriError(f"type is none of {', '.join(get_args(ObjectType))}")
    return cast("ObjectType | None", raw)
