"""The binary interface of SKF (GM/T 0016-2012 clauses 6 and 7), as far as sealing needs it: declarations only.

ULONG, BOOL and every other integer have 32 bits, records are packed to the octet, handles are opaque pointers. Pointers
to octets are declared ``void *``: names and PINs are octet strings whose encoding the library alone knows.
"""

from __future__ import annotations

from ctypes import c_int32, c_uint32, c_void_p
from typing import Any, Final

__all__ = ["PROTOTYPES", "REQUIRED", "decorated_names"]

OK: Final = 0

ADMIN: Final = 0
USER: Final = 1
"""Kinds of PIN."""

ANYONE: Final = 0xFF
USER_RIGHT: Final = 0x10
"""Rights of a file: who may read or write it."""

CONTAINER_EMPTY: Final = 0

SM2_1_VENDOR: Final = 0x00020100
SM2_1_GMT0006: Final = 0x00020200
"""SGD_SM2_1, SM2 for signing: as vendors' headers have it, and as GM/T 0006 has it."""

PACKED_DEVINFO: Final = 294
NATURAL_DEVINFO: Final = 296
"""Octets of DEVINFO: by the standard, and in libraries that let the compiler align it."""

ECC_PUBLIC_KEY_BLOB: Final = 132
RSA_PUBLIC_KEY_BLOB: Final = 268
ECC_SIGNATURE_BLOB: Final = 128
FILE_ATTRIBUTE: Final = 44
"""Octets of the other records; none of them has a gap in either layout."""

# EPS_ReadESealData, an extension of one line of products (drivers of BJCA and HNCA)
EPS_MAINTENANCE_KEY: Final = 0xA2
EPS_SM4_ECB: Final = 0x401

_P = c_void_p
_U = c_uint32
_B = c_int32

PROTOTYPES: dict[str, tuple[Any, ...]] = {
    # Each returns ULONG. The pointers behind a buffer's are in/out lengths.
    "SKF_WaitForDevEvent": (_P, _P, _P),
    "SKF_CancelWaitForDevEvent": (),
    "SKF_EnumDev": (_B, _P, _P),
    "SKF_ConnectDev": (_P, _P),
    "SKF_DisConnectDev": (_P,),
    "SKF_GetDevInfo": (_P, _P),
    "SKF_GetDevState": (_P, _P),
    "SKF_EnumApplication": (_P, _P, _P),
    "SKF_OpenApplication": (_P, _P, _P),
    "SKF_CloseApplication": (_P,),
    "SKF_EnumContainer": (_P, _P, _P),
    "SKF_OpenContainer": (_P, _P, _P),
    "SKF_CloseContainer": (_P,),
    "SKF_CreateContainer": (_P, _P, _P),
    "SKF_DeleteContainer": (_P, _P),
    "SKF_GetContainerType": (_P, _P),
    "SKF_ExportPublicKey": (_P, _B, _P, _P),
    "SKF_ExportCertificate": (_P, _B, _P, _P),
    "SKF_ImportCertificate": (_P, _B, _P, _U),
    "SKF_GetPINInfo": (_P, _U, _P, _P, _P),
    "SKF_VerifyPIN": (_P, _U, _P, _P),
    "SKF_ChangePIN": (_P, _U, _P, _P, _P),
    "SKF_UnblockPIN": (_P, _P, _P, _P),
    "SKF_ClearSecureState": (_P,),
    "SKF_GenECCKeyPair": (_P, _U, _P),
    "SKF_GenRSAKeyPair": (_P, _U, _P),
    "SKF_ECCSignData": (_P, _P, _U, _P),
    "SKF_RSASignData": (_P, _P, _U, _P, _P),
    "SKF_EnumFiles": (_P, _P, _P),
    "SKF_GetFileInfo": (_P, _P, _P),
    "SKF_ReadFile": (_P, _P, _U, _U, _P, _P),
    "SKF_CreateFile": (_P, _P, _U, _U, _U),
    "SKF_WriteFile": (_P, _P, _U, _P, _U),
    "SKF_DeleteFile": (_P, _P),
    "EPS_ReadESealData": (_P, _U, _U, _P, _P, _U),
}
"""Parameters of each function."""

REQUIRED: Final = (
    "SKF_EnumDev",
    "SKF_ConnectDev",
    "SKF_DisConnectDev",
    "SKF_GetDevInfo",
    "SKF_EnumApplication",
    "SKF_OpenApplication",
    "SKF_CloseApplication",
    "SKF_EnumContainer",
    "SKF_OpenContainer",
    "SKF_CloseContainer",
    "SKF_ExportPublicKey",
    "SKF_ExportCertificate",
    "SKF_VerifyPIN",
    "SKF_ECCSignData",
)
"""Without these a library is no SKF library; what else it lacks, it does not offer."""


def decorated_names(name: str) -> tuple[str, ...]:
    """Return the names a function may be exported under: some 32-bit Windows libraries keep the compiler's decoration.

    The number is that of octets on the stack of a 32-bit process, four for each parameter.
    """
    octets = 4 * len(PROTOTYPES[name])
    return name, f"_{name}", f"{name}@{octets}", f"_{name}@{octets}"
