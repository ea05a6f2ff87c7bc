"""Names of PKCS#11 2.40 (pkcs11t.h, pkcs11f.h): for people who read a report."""

from __future__ import annotations

from collections.abc import Mapping

import pkcs11

from sealdrivers.pkcs11.errors import CKR_NAMES

__all__ = ["FUNCTIONS", "MECHANISM_FLAGS", "SLOT_FLAGS", "TOKEN_FLAGS", "flag_names", "mechanism_name", "value_name"]

FUNCTIONS: tuple[str, ...] = (
    *("C_Initialize", "C_Finalize", "C_GetInfo", "C_GetFunctionList", "C_GetSlotList", "C_GetSlotInfo"),
    *("C_GetTokenInfo", "C_GetMechanismList", "C_GetMechanismInfo", "C_InitToken", "C_InitPIN", "C_SetPIN"),
    *("C_OpenSession", "C_CloseSession", "C_CloseAllSessions", "C_GetSessionInfo", "C_GetOperationState"),
    *("C_SetOperationState", "C_Login", "C_Logout", "C_CreateObject", "C_CopyObject", "C_DestroyObject"),
    *("C_GetObjectSize", "C_GetAttributeValue", "C_SetAttributeValue", "C_FindObjectsInit", "C_FindObjects"),
    *("C_FindObjectsFinal", "C_EncryptInit", "C_Encrypt", "C_EncryptUpdate", "C_EncryptFinal", "C_DecryptInit"),
    *("C_Decrypt", "C_DecryptUpdate", "C_DecryptFinal", "C_DigestInit", "C_Digest", "C_DigestUpdate", "C_DigestKey"),
    *("C_DigestFinal", "C_SignInit", "C_Sign", "C_SignUpdate", "C_SignFinal", "C_SignRecoverInit", "C_SignRecover"),
    *("C_VerifyInit", "C_Verify", "C_VerifyUpdate", "C_VerifyFinal", "C_VerifyRecoverInit", "C_VerifyRecover"),
    *("C_DigestEncryptUpdate", "C_DecryptDigestUpdate", "C_SignEncryptUpdate", "C_DecryptVerifyUpdate"),
    *("C_GenerateKey", "C_GenerateKeyPair", "C_WrapKey", "C_UnwrapKey", "C_DeriveKey", "C_SeedRandom"),
    *("C_GenerateRandom", "C_GetFunctionStatus", "C_CancelFunction", "C_WaitForSlotEvent"),
)
"""Entries of CK_FUNCTION_LIST, in its order."""

SLOT_FLAGS: Mapping[int, str] = {0x1: "TOKEN_PRESENT", 0x2: "REMOVABLE_DEVICE", 0x4: "HW_SLOT"}

TOKEN_FLAGS: Mapping[int, str] = {
    0x1: "RNG",
    0x2: "WRITE_PROTECTED",
    0x4: "LOGIN_REQUIRED",
    0x8: "USER_PIN_INITIALIZED",
    0x20: "RESTORE_KEY_NOT_NEEDED",
    0x40: "CLOCK_ON_TOKEN",
    0x100: "PROTECTED_AUTHENTICATION_PATH",
    0x200: "DUAL_CRYPTO_OPERATIONS",
    0x400: "TOKEN_INITIALIZED",
    0x800: "SECONDARY_AUTHENTICATION",
    0x10000: "USER_PIN_COUNT_LOW",
    0x20000: "USER_PIN_FINAL_TRY",
    0x40000: "USER_PIN_LOCKED",
    0x80000: "USER_PIN_TO_BE_CHANGED",
    0x100000: "SO_PIN_COUNT_LOW",
    0x200000: "SO_PIN_FINAL_TRY",
    0x400000: "SO_PIN_LOCKED",
    0x800000: "SO_PIN_TO_BE_CHANGED",
    0x1000000: "ERROR_STATE",
}

MECHANISM_FLAGS: Mapping[int, str] = {
    0x1: "HW",
    0x100: "ENCRYPT",
    0x200: "DECRYPT",
    0x400: "DIGEST",
    0x800: "SIGN",
    0x1000: "SIGN_RECOVER",
    0x2000: "VERIFY",
    0x4000: "VERIFY_RECOVER",
    0x8000: "GENERATE",
    0x10000: "GENERATE_KEY_PAIR",
    0x20000: "WRAP",
    0x40000: "UNWRAP",
    0x80000: "DERIVE",
    0x100000: "EC_F_P",
    0x200000: "EC_F_2M",
    0x400000: "EC_ECPARAMETERS",
    0x800000: "EC_NAMEDCURVE",
    0x1000000: "EC_UNCOMPRESS",
    0x2000000: "EC_COMPRESS",
    0x80000000: "EXTENSION",
}


def flag_names(flags: int, names: Mapping[int, str]) -> list[str]:
    """Return the names of flags, without their prefix CKF_; unknown ones as numbers."""
    known = [name for bit, name in names.items() if flags & bit]
    rest = flags & ~sum(names)
    return [*known, *([f"0x{rest:X}"] if rest else [])]


def mechanism_name(number: int, vendors: Mapping[int, str]) -> str:
    """Return a mechanism's name: the vendor's, where its profile has one, else the standard's; empty: none."""
    if number in vendors:
        return vendors[number]
    try:
        return f"CKM_{pkcs11.Mechanism(number).name}"
    except ValueError:
        return ""


def value_name(code: int) -> str:
    """Return the name of a CKR value, or its number."""
    return CKR_NAMES.get(code, f"CKR 0x{code:X}")
