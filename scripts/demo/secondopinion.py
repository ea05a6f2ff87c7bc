"""A second opinion on a sealed document: the OpenSSL command line checks its seal signature, with nothing of ours."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import zipfile
from pathlib import Path

from openssl_parts import openssl, parsed
from sealagent.pki import oids

__all__ = ["check_with_openssl"]

VALUE = re.compile(r".*/Sign_([0-9]+)/SignedValue\.dat")
"""Where the agent puts SES_Signature (GB/T 33190 clause 18.2.2 leaves the place to who signs)."""

SM2 = "-rawin -digest sm3 -pkeyopt distid:1234567812345678"
"""SM2 with SM3 and the default ID (GM/T 0009)."""


def check_with_openssl(document: bytes, folder: Path) -> list[str]:
    """Cut the newest SES_Signature out of a sealed OFD and have OpenSSL verify it (GB/T 38540-2020 clause 7.3).

    :param folder: gets ``tosign.der``, ``signature.der`` and ``public.pem``.
    :return: the command that said yes, as one can type it in ``folder``, and what it said.
    :raises subprocess.CalledProcessError: OpenSSL does not accept the signature.
    """
    with zipfile.ZipFile(io.BytesIO(document)) as package:
        numbered = {int(found[1]): name for name in package.namelist() if (found := VALUE.fullmatch(name))}
        to_sign, certificate, algorithm, signature = parsed(package.read(numbered[max(numbered)])).children
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tosign.der").write_bytes(to_sign.whole)
    (folder / "signature.der").write_bytes(signature.bits)
    public = openssl("x509", "-inform", "DER", "-pubkey", "-noout", data=certificate.content)
    (folder / "public.pem").write_bytes(public)
    if oids.SM2_WITH_SM3 in algorithm.text or "SM2" in algorithm.text:
        command = f"openssl pkeyutl -verify -pubin -inkey public.pem {SM2} -in tosign.der -sigfile signature.der"
    else:
        command = "openssl dgst -sha256 -verify public.pem -signature signature.der tosign.der"
    done = subprocess.run(shlex.split(command), cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return [command, done.stdout.strip()]
