"""Child process that writes to SoftHSM tokens, so that the tests' own process never has to load the library.

Run by :mod:`softhsm2_fixtures.softhsm`; not imported. Requests and answers are JSON lines on stdin and stdout,
octets as hexadecimal digits. SoftHSM 2.6.1 sees a token that another process made only after C_Finalize and
C_Initialize, so each request starts with both.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import pkcs11
from asn1crypto.keys import PrivateKeyInfo, PublicKeyInfo
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass, TokenFlag
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key
from pkcs11.util.rsa import decode_rsa_private_key, decode_rsa_public_key

FLAGS = TokenFlag.TOKEN_INITIALIZED


def _tokens(lib: Any) -> list[Any]:
    return [slot.get_token() for slot in lib.get_slots(token_present=True) if slot.get_token().flags & FLAGS]


def _token(lib: Any, label: str) -> Any:
    found = [token for token in _tokens(lib) if token.label == label]
    if len(found) != 1:
        raise LookupError(f"{len(found)} tokens are labelled {label!r}")
    return found[0]


def _common(request: dict[str, Any]) -> dict[Any, Any]:
    return {
        Attribute.TOKEN: True,
        Attribute.LABEL: request["object_label"],
        Attribute.ID: bytes.fromhex(request["object_id"]),
    }


def _private_only(request: dict[str, Any]) -> dict[Any, Any]:
    template = {Attribute.PRIVATE: True, Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.SIGN: True}
    template |= dict.fromkeys((Attribute.DECRYPT, Attribute.UNWRAP, Attribute.DERIVE, Attribute.SIGN_RECOVER), False)
    if request.get("always_authenticate"):
        template[Attribute.ALWAYS_AUTHENTICATE] = True
    return template


def put_key(session: Any, request: dict[str, Any]) -> None:
    """Import a PKCS#8 key pair."""
    info = PrivateKeyInfo.load(bytes.fromhex(request["pkcs8"]))
    spki = bytes.fromhex(request["spki"])
    if info.algorithm == "rsa":
        private = decode_rsa_private_key(info["private_key"].parsed.dump())
        public = decode_rsa_public_key(PublicKeyInfo.load(spki)["public_key"].parsed.dump())
    else:
        private = decode_ec_private_key(bytes.fromhex(request["sec1"]))
        public = decode_ec_public_key(spki)
    template = {**private, **_common(request), **_private_only(request)}
    if request.get("readable"):
        template |= {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
    session.create_object(template)
    if request["public"]:
        session.create_object({**public, **_common(request), Attribute.PRIVATE: False, Attribute.VERIFY: True})


def generate(session: Any, request: dict[str, Any]) -> None:
    """Generate a key pair on the token."""
    private = {**_common(request), **_private_only(request), Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    public = {**_common(request), Attribute.PRIVATE: False, Attribute.VERIFY: True}
    if "bits" in request:
        kind, mechanism = KeyType.RSA, Mechanism.RSA_PKCS_KEY_PAIR_GEN
    else:
        kind, mechanism = KeyType.EC, Mechanism.EC_KEY_PAIR_GEN
        public[Attribute.EC_PARAMS] = bytes.fromhex(request["ec_params"])
    session._generate_keypair(
        kind, request.get("bits"), mechanism=mechanism, store=True, public_template=public, private_template=private
    )


def put_certificate(session: Any, request: dict[str, Any]) -> None:
    """Store a certificate, or any octets under the class of certificates."""
    session.create_object(
        {
            **_common(request),
            Attribute.CLASS: ObjectClass.CERTIFICATE,
            Attribute.CERTIFICATE_TYPE: pkcs11.CertificateType.X_509,
            Attribute.PRIVATE: False,
            Attribute.SUBJECT: bytes.fromhex(request["subject"]),
            Attribute.VALUE: bytes.fromhex(request["value"]),
        }
    )


def put_data(session: Any, request: dict[str, Any]) -> None:
    """Store a data object."""
    session.create_object(
        {
            Attribute.CLASS: ObjectClass.DATA,
            Attribute.TOKEN: True,
            Attribute.PRIVATE: request["private"],
            Attribute.LABEL: request["object_label"],
            Attribute.APPLICATION: request["application"],
            Attribute.VALUE: bytes.fromhex(request["value"]),
        }
    )


def objects(session: Any, request: dict[str, Any]) -> list[dict[str, Any]]:
    """List the objects of a token; private keys with the attributes that protect them."""
    listed = []
    for item in session.get_objects():
        kind = item[Attribute.CLASS]
        entry = {"class": kind.name, "label": item[Attribute.LABEL]}
        if kind is not ObjectClass.DATA:
            entry["id"] = item[Attribute.ID].hex()
        if kind is ObjectClass.PRIVATE_KEY:
            for name in ("SENSITIVE", "EXTRACTABLE", "SIGN", "DECRYPT", "UNWRAP", "DERIVE", "PRIVATE"):
                entry[name.lower()] = item[Attribute[name]]
        listed.append(entry)
    return listed


def delete(session: Any, request: dict[str, Any]) -> int:
    """Delete every object of a label; return how many."""
    found = list(session.get_objects({Attribute.LABEL: request["object_label"]}))
    for item in found:
        item.destroy()
    return len(found)


def wrong_pin(token: Any, request: dict[str, Any]) -> None:
    """Enter a wrong user PIN."""
    try:
        token.open(user_pin=request["pin"])
    except pkcs11.PinIncorrect:
        return
    raise AssertionError("the token took a wrong PIN")


ON_SESSION = {
    "put_key": put_key,
    "generate": generate,
    "put_certificate": put_certificate,
    "put_data": put_data,
    "objects": objects,
    "delete": delete,
}


def answer(lib: Any, request: dict[str, Any]) -> Any:
    """Carry out one request."""
    if "conf" in request:  # read by SoftHSM while it is initialised
        os.environ["SOFTHSM2_CONF"] = request["conf"]
    lib.reinitialize()
    token = _token(lib, request["label"])
    match request["op"]:
        case "serial":
            return token.serial.decode()
        case "wrong_pin":
            return wrong_pin(token, request)
        case name:
            with token.open(rw=True, user_pin=request["user_pin"]) as session:
                return ON_SESSION[name](session, request)


def main() -> None:
    """Answer requests until stdin ends."""
    lib = pkcs11.lib(sys.argv[1])
    for line in sys.stdin:
        try:
            reply = {"result": answer(lib, json.loads(line))}
        except Exception as error:  # the test sees it as SoftHsmError
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
