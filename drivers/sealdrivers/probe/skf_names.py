"""Functions of GM/T 0016-2012 (clause 7) that the driver does not call: for the list of what a library exports."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sealdrivers.skf import abi

__all__ = ["EXTENSIONS", "OTHERS", "standard_functions", "words_of"]

# Octets on the stack of a 32-bit process, in words of four; BLOCKCIPHERPARAM goes by value and has eleven.
OTHERS: Final[dict[str, int]] = {
    "SKF_SetLabel": 2,
    "SKF_LockDev": 2,
    "SKF_UnlockDev": 1,
    "SKF_Transmit": 5,
    "SKF_DevAuth": 3,
    "SKF_ChangeDevAuthKey": 3,
    "SKF_CreateApplication": 8,
    "SKF_DeleteApplication": 2,
    "SKF_GenRandom": 3,
    "SKF_GenExtRSAKey": 3,
    "SKF_ImportRSAKeyPair": 6,
    "SKF_RSAVerify": 6,
    "SKF_RSAExportSessionKey": 6,
    "SKF_ExtRSAPubKeyOperation": 6,
    "SKF_ExtRSAPriKeyOperation": 6,
    "SKF_ImportECCKeyPair": 2,
    "SKF_ECCVerify": 5,
    "SKF_ECCExportSessionKey": 5,
    "SKF_ExtECCEncrypt": 5,
    "SKF_ExtECCDecrypt": 5,
    "SKF_ExtECCSign": 5,
    "SKF_ExtECCVerify": 5,
    "SKF_GenerateAgreementDataWithECC": 6,
    "SKF_GenerateAgreementDataAndKeyWithECC": 10,
    "SKF_GenerateKeyWithECC": 6,
    "SKF_ImportSessionKey": 5,
    "SKF_SetSymmKey": 4,
    "SKF_EncryptInit": 12,
    "SKF_Encrypt": 5,
    "SKF_EncryptUpdate": 5,
    "SKF_EncryptFinal": 3,
    "SKF_DecryptInit": 12,
    "SKF_Decrypt": 5,
    "SKF_DecryptUpdate": 5,
    "SKF_DecryptFinal": 3,
    "SKF_DigestInit": 6,
    "SKF_Digest": 5,
    "SKF_DigestUpdate": 3,
    "SKF_DigestFinal": 3,
    "SKF_MacInit": 3,
    "SKF_Mac": 5,
    "SKF_MacUpdate": 3,
    "SKF_MacFinal": 3,
    "SKF_CloseHandle": 1,
}

EXTENSIONS: Final = (
    *("EPS_ReadESealData", "EPS_WriteESealData", "EPS_ImportSymmKey", "EPS_Encrypt", "EPS_Decrypt", "EPS_Mac"),
    *("SKF_ECCDecrypt", "SKF_IsVerifyPIN", "SKF_BeginTransaction", "SKF_EndTransaction"),
    *("SKF_ECCSignDataInteractive", "SKF_GetContainerInfo"),
)
"""What products are known to add."""


def standard_functions() -> Iterator[str]:
    """Return the names of the functions of the standard."""
    yield from (name for name in abi.PROTOTYPES if name.startswith("SKF_"))
    yield from OTHERS


def words_of(name: str) -> int:
    """Return how many words of four octets a function takes on the stack; 0: not known."""
    return len(abi.PROTOTYPES[name]) if name in abi.PROTOTYPES else OTHERS.get(name, 0)
