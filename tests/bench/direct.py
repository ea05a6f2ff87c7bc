"""The limit to compare with: python-pkcs11 in one process and one thread, session and key handle kept.

Run as ``python -m bench.direct MODULE TOKEN PIN_FILE OBJECT_ID KIND SECONDS``: prints one line of JSON. The PIN comes
from a file, because command lines are there for everybody to read.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import pkcs11

DIGEST = hashlib.sha256(b"benchmark").digest()
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420") + DIGEST


def main() -> None:
    """Sign for so many seconds."""
    module, label, pin_file, object_id, kind, seconds = sys.argv[1:]
    token = pkcs11.lib(module).get_token(token_label=label)
    with token.open(user_pin=Path(pin_file).read_text().strip()) as session:
        key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, id=bytes.fromhex(object_id))
        data, mechanism = (
            (DIGEST_INFO, pkcs11.Mechanism.RSA_PKCS) if kind.startswith("rsa") else (DIGEST, pkcs11.Mechanism.ECDSA)
        )
        times = []
        start = before = time.perf_counter()
        while before - start < float(seconds):
            key.sign(data, mechanism=mechanism)
            now = time.perf_counter()
            times.append(now - before)
            before = now
    print(json.dumps({"seconds": before - start, "times": times}))


if __name__ == "__main__":
    main()
