/* Functions that are SoftHSM's as they are. TEST ONLY: see ../README.md. */
#include "internal.h"

#define PASS(name, parameters, ...)                                                                                    \
    CK_RV name parameters                                                                                              \
    {                                                                                                                  \
        SESSION_CALL(#name, session, REAL(call)->name(call.session->real __VA_OPT__(, ) __VA_ARGS__));                 \
    }
#define PASS_IN_OUT(name)                                                                                              \
    PASS(name, (CK_SESSION_HANDLE session, CK_BYTE * data, CK_ULONG size, CK_BYTE * out, CK_ULONG * room), data, size, \
         out, room)
#define PASS_IN(name) PASS(name, (CK_SESSION_HANDLE session, CK_BYTE * data, CK_ULONG size), data, size)
#define PASS_OUT(name) PASS(name, (CK_SESSION_HANDLE session, CK_BYTE * out, CK_ULONG * room), out, room)
#define PASS_KEY(name)                                                                                                 \
    PASS(name, (CK_SESSION_HANDLE session, CK_MECHANISM * mechanism, CK_OBJECT_HANDLE key), mechanism, key)
#define PASS_SESSION(name) PASS(name, (CK_SESSION_HANDLE session))

PASS_SESSION(C_Logout)
PASS_SESSION(C_GetFunctionStatus)
PASS_SESSION(C_CancelFunction)
PASS_OUT(C_GetOperationState)
PASS(C_SetOperationState,
     (CK_SESSION_HANDLE session, CK_BYTE *state, CK_ULONG size, CK_OBJECT_HANDLE first, CK_OBJECT_HANDLE second), state,
     size, first, second)

PASS(C_DestroyObject, (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object), object)
PASS(C_GetObjectSize, (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ULONG *size), object, size)
PASS(C_SetAttributeValue,
     (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes, CK_ULONG count), object, attributes,
     count)

PASS_KEY(C_EncryptInit)
PASS_IN_OUT(C_Encrypt)
PASS_IN_OUT(C_EncryptUpdate)
PASS_OUT(C_EncryptFinal)
PASS_KEY(C_DecryptInit)
PASS_IN_OUT(C_Decrypt)
PASS_IN_OUT(C_DecryptUpdate)
PASS_OUT(C_DecryptFinal)

PASS(C_DigestInit, (CK_SESSION_HANDLE session, CK_MECHANISM *mechanism), mechanism)
PASS_IN_OUT(C_Digest)
PASS_IN(C_DigestUpdate)
PASS(C_DigestKey, (CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key), key)
PASS_OUT(C_DigestFinal)

PASS_KEY(C_SignRecoverInit)
PASS_IN_OUT(C_SignRecover)
PASS_KEY(C_VerifyInit)
PASS(C_Verify, (CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG size, CK_BYTE *signature, CK_ULONG length), data,
     size, signature, length)
PASS_IN(C_VerifyUpdate)
PASS_IN(C_VerifyFinal)
PASS_KEY(C_VerifyRecoverInit)
PASS_IN_OUT(C_VerifyRecover)

PASS_IN_OUT(C_DigestEncryptUpdate)
PASS_IN_OUT(C_DecryptDigestUpdate)
PASS_IN_OUT(C_SignEncryptUpdate)
PASS_IN_OUT(C_DecryptVerifyUpdate)

PASS(C_GenerateKey,
     (CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *attributes, CK_ULONG count,
      CK_OBJECT_HANDLE *key),
     mechanism, attributes, count, key)
PASS(C_UnwrapKey,
     (CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE unwrapping, CK_BYTE *wrapped, CK_ULONG size,
      CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *key),
     mechanism, unwrapping, wrapped, size, attributes, count, key)
PASS(C_DeriveKey,
     (CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE base, CK_ATTRIBUTE *attributes,
      CK_ULONG count, CK_OBJECT_HANDLE *key),
     mechanism, base, attributes, count, key)

PASS_IN(C_SeedRandom)
PASS_IN(C_GenerateRandom)
