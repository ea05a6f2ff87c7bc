/* The part of PKCS#11 2.40 that the module needs: records, constants and the function list. TEST ONLY.
 *
 * Records are naturally aligned, as on every system but Windows. See ../README.md.
 */
#ifndef SOFTGM_PKCS11_H
#define SOFTGM_PKCS11_H

typedef unsigned char CK_BYTE, CK_BBOOL;
typedef unsigned long CK_ULONG, CK_RV, CK_FLAGS, CK_SLOT_ID, CK_SESSION_HANDLE, CK_OBJECT_HANDLE;
typedef unsigned long CK_MECHANISM_TYPE, CK_ATTRIBUTE_TYPE, CK_KEY_TYPE, CK_OBJECT_CLASS, CK_USER_TYPE;

#define CK_UNAVAILABLE_INFORMATION (~0UL)

typedef struct {
    CK_BYTE major, minor;
} CK_VERSION;

typedef struct {
    CK_VERSION cryptokiVersion;
    CK_BYTE manufacturerID[32];
    CK_FLAGS flags;
    CK_BYTE libraryDescription[32];
    CK_VERSION libraryVersion;
} CK_INFO;

typedef struct {
    CK_BYTE slotDescription[64];
    CK_BYTE manufacturerID[32];
    CK_FLAGS flags;
    CK_VERSION hardwareVersion, firmwareVersion;
} CK_SLOT_INFO;

typedef struct {
    CK_BYTE label[32];
    CK_BYTE manufacturerID[32];
    CK_BYTE model[16];
    CK_BYTE serialNumber[16];
    CK_FLAGS flags;
    CK_ULONG ulMaxSessionCount, ulSessionCount, ulMaxRwSessionCount, ulRwSessionCount;
    CK_ULONG ulMaxPinLen, ulMinPinLen;
    CK_ULONG ulTotalPublicMemory, ulFreePublicMemory, ulTotalPrivateMemory, ulFreePrivateMemory;
    CK_VERSION hardwareVersion, firmwareVersion;
    CK_BYTE utcTime[16];
} CK_TOKEN_INFO;

typedef struct {
    CK_SLOT_ID slotID;
    CK_ULONG state;
    CK_FLAGS flags;
    CK_ULONG ulDeviceError;
} CK_SESSION_INFO;

typedef struct {
    CK_ATTRIBUTE_TYPE type;
    void *pValue;
    CK_ULONG ulValueLen;
} CK_ATTRIBUTE;

typedef struct {
    CK_MECHANISM_TYPE mechanism;
    void *pParameter;
    CK_ULONG ulParameterLen;
} CK_MECHANISM;

typedef struct {
    CK_ULONG ulMinKeySize, ulMaxKeySize;
    CK_FLAGS flags;
} CK_MECHANISM_INFO;

typedef struct {
    void *CreateMutex, *DestroyMutex, *LockMutex, *UnlockMutex;
    CK_FLAGS flags;
    void *pReserved;
} CK_C_INITIALIZE_ARGS;

enum {
    CKF_TOKEN_PRESENT = 0x1,   /* slots */
    CKF_REMOVABLE_DEVICE = 0x2,
    CKF_DONT_BLOCK = 0x1,      /* C_WaitForSlotEvent */
    CKF_OS_LOCKING_OK = 0x2,   /* C_Initialize */
    CKF_RW_SESSION = 0x2,      /* sessions */
    CKF_PROTECTED_AUTHENTICATION_PATH = 0x100, /* tokens */
    CKF_TOKEN_INITIALIZED = 0x400,
    CKF_USER_PIN_COUNT_LOW = 0x10000,
    CKF_USER_PIN_FINAL_TRY = 0x20000,
    CKF_USER_PIN_LOCKED = 0x40000,
    CKF_SO_PIN_COUNT_LOW = 0x100000,
    CKF_SO_PIN_FINAL_TRY = 0x200000,
    CKF_SO_PIN_LOCKED = 0x400000,
    CKF_SIGN = 0x800,          /* mechanisms */
    CKF_GENERATE_KEY_PAIR = 0x10000,
    CKF_EC_F_P = 0x100000,
    CKF_EC_NAMEDCURVE = 0x800000,
    CKF_EC_UNCOMPRESS = 0x1000000,
};

enum { CKU_SO, CKU_USER, CKU_CONTEXT_SPECIFIC };
enum { CKS_RW_SO_FUNCTIONS = 4 };
enum { CKO_DATA, CKO_CERTIFICATE, CKO_PUBLIC_KEY, CKO_PRIVATE_KEY };
enum { CKK_EC = 3 };
enum { CKM_EC_KEY_PAIR_GEN = 0x1040, CKM_ECDSA = 0x1041 };

enum {
    CKA_CLASS = 0x0,
    CKA_VALUE = 0x11,
    CKA_KEY_TYPE = 0x100,
    CKA_SENSITIVE = 0x103,
    CKA_EXTRACTABLE = 0x162,
    CKA_LOCAL = 0x163,
    CKA_NEVER_EXTRACTABLE = 0x164,
    CKA_ALWAYS_SENSITIVE = 0x165,
    CKA_KEY_GEN_MECHANISM = 0x166,
    CKA_EC_PARAMS = 0x180,
    CKA_EC_POINT = 0x181,
};
#define CKA_VENDOR_X 0x80000002UL /* coordinates of a public key, as one card header has them */
#define CKA_VENDOR_Y 0x80000003UL

enum {
    CKR_OK = 0x0,
    CKR_HOST_MEMORY = 0x2,
    CKR_SLOT_ID_INVALID = 0x3,
    CKR_GENERAL_ERROR = 0x5,
    CKR_FUNCTION_FAILED = 0x6,
    CKR_ARGUMENTS_BAD = 0x7,
    CKR_NO_EVENT = 0x8,
    CKR_CANT_LOCK = 0xA,
    CKR_ATTRIBUTE_SENSITIVE = 0x11,
    CKR_ATTRIBUTE_TYPE_INVALID = 0x12,
    CKR_DATA_LEN_RANGE = 0x21,
    CKR_DEVICE_REMOVED = 0x32,
    CKR_FUNCTION_NOT_SUPPORTED = 0x54,
    CKR_KEY_TYPE_INCONSISTENT = 0x63,
    CKR_KEY_FUNCTION_NOT_PERMITTED = 0x68,
    CKR_KEY_UNEXTRACTABLE = 0x6A,
    CKR_MECHANISM_INVALID = 0x70,
    CKR_MECHANISM_PARAM_INVALID = 0x71,
    CKR_OPERATION_ACTIVE = 0x90,
    CKR_OPERATION_NOT_INITIALIZED = 0x91,
    CKR_PIN_INCORRECT = 0xA0,
    CKR_PIN_LOCKED = 0xA4,
    CKR_SESSION_COUNT = 0xB1,
    CKR_SESSION_HANDLE_INVALID = 0xB3,
    CKR_TEMPLATE_INCONSISTENT = 0xD1,
    CKR_TOKEN_NOT_PRESENT = 0xE0,
    CKR_BUFFER_TOO_SMALL = 0x150,
    CKR_CRYPTOKI_NOT_INITIALIZED = 0x190,
    CKR_CRYPTOKI_ALREADY_INITIALIZED = 0x191,
};

typedef struct CK_FUNCTION_LIST CK_FUNCTION_LIST;

/* Every function of version 2 in the order of CK_FUNCTION_LIST. F(name, parameters). */
#define IN_OUT (CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG *)
#define IN_ONLY (CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG)
#define OUT_ONLY (CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG *)
#define WITH_KEY (CK_SESSION_HANDLE, CK_MECHANISM *, CK_OBJECT_HANDLE)
#define SESSION_ONLY (CK_SESSION_HANDLE)
#define ON_OBJECT (CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG)
#define CK_FUNCTIONS(F)                                                                                                \
    F(C_Initialize, (void *))                                                                                          \
    F(C_Finalize, (void *))                                                                                            \
    F(C_GetInfo, (CK_INFO *))                                                                                          \
    F(C_GetFunctionList, (CK_FUNCTION_LIST **))                                                                  \
    F(C_GetSlotList, (CK_BBOOL, CK_SLOT_ID *, CK_ULONG *))                                                             \
    F(C_GetSlotInfo, (CK_SLOT_ID, CK_SLOT_INFO *))                                                                     \
    F(C_GetTokenInfo, (CK_SLOT_ID, CK_TOKEN_INFO *))                                                                   \
    F(C_GetMechanismList, (CK_SLOT_ID, CK_MECHANISM_TYPE *, CK_ULONG *))                                               \
    F(C_GetMechanismInfo, (CK_SLOT_ID, CK_MECHANISM_TYPE, CK_MECHANISM_INFO *))                                        \
    F(C_InitToken, (CK_SLOT_ID, CK_BYTE *, CK_ULONG, CK_BYTE *))                                                       \
    F(C_InitPIN, IN_ONLY)                                                                                              \
    F(C_SetPIN, (CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG))                                         \
    F(C_OpenSession, (CK_SLOT_ID, CK_FLAGS, void *, void *, CK_SESSION_HANDLE *))                                      \
    F(C_CloseSession, SESSION_ONLY)                                                                                    \
    F(C_CloseAllSessions, (CK_SLOT_ID))                                                                                \
    F(C_GetSessionInfo, (CK_SESSION_HANDLE, CK_SESSION_INFO *))                                                        \
    F(C_GetOperationState, OUT_ONLY)                                                                                   \
    F(C_SetOperationState, (CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE))               \
    F(C_Login, (CK_SESSION_HANDLE, CK_USER_TYPE, CK_BYTE *, CK_ULONG))                                                 \
    F(C_Logout, SESSION_ONLY)                                                                                          \
    F(C_CreateObject, (CK_SESSION_HANDLE, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *))                               \
    F(C_CopyObject, (CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *))               \
    F(C_DestroyObject, (CK_SESSION_HANDLE, CK_OBJECT_HANDLE))                                                          \
    F(C_GetObjectSize, (CK_SESSION_HANDLE, CK_OBJECT_HANDLE, CK_ULONG *))                                              \
    F(C_GetAttributeValue, ON_OBJECT)                                                                                  \
    F(C_SetAttributeValue, ON_OBJECT)                                                                                  \
    F(C_FindObjectsInit, (CK_SESSION_HANDLE, CK_ATTRIBUTE *, CK_ULONG))                                                \
    F(C_FindObjects, (CK_SESSION_HANDLE, CK_OBJECT_HANDLE *, CK_ULONG, CK_ULONG *))                                    \
    F(C_FindObjectsFinal, SESSION_ONLY)                                                                                \
    F(C_EncryptInit, WITH_KEY)                                                                                         \
    F(C_Encrypt, IN_OUT)                                                                                               \
    F(C_EncryptUpdate, IN_OUT)                                                                                         \
    F(C_EncryptFinal, OUT_ONLY)                                                                                        \
    F(C_DecryptInit, WITH_KEY)                                                                                         \
    F(C_Decrypt, IN_OUT)                                                                                               \
    F(C_DecryptUpdate, IN_OUT)                                                                                         \
    F(C_DecryptFinal, OUT_ONLY)                                                                                        \
    F(C_DigestInit, (CK_SESSION_HANDLE, CK_MECHANISM *))                                                               \
    F(C_Digest, IN_OUT)                                                                                                \
    F(C_DigestUpdate, IN_ONLY)                                                                                         \
    F(C_DigestKey, (CK_SESSION_HANDLE, CK_OBJECT_HANDLE))                                                              \
    F(C_DigestFinal, OUT_ONLY)                                                                                         \
    F(C_SignInit, WITH_KEY)                                                                                            \
    F(C_Sign, IN_OUT)                                                                                                  \
    F(C_SignUpdate, IN_ONLY)                                                                                           \
    F(C_SignFinal, OUT_ONLY)                                                                                           \
    F(C_SignRecoverInit, WITH_KEY)                                                                                     \
    F(C_SignRecover, IN_OUT)                                                                                           \
    F(C_VerifyInit, WITH_KEY)                                                                                          \
    F(C_Verify, (CK_SESSION_HANDLE, CK_BYTE *, CK_ULONG, CK_BYTE *, CK_ULONG))                                         \
    F(C_VerifyUpdate, IN_ONLY)                                                                                         \
    F(C_VerifyFinal, IN_ONLY)                                                                                          \
    F(C_VerifyRecoverInit, WITH_KEY)                                                                                   \
    F(C_VerifyRecover, IN_OUT)                                                                                         \
    F(C_DigestEncryptUpdate, IN_OUT)                                                                                   \
    F(C_DecryptDigestUpdate, IN_OUT)                                                                                   \
    F(C_SignEncryptUpdate, IN_OUT)                                                                                     \
    F(C_DecryptVerifyUpdate, IN_OUT)                                                                                   \
    F(C_GenerateKey, (CK_SESSION_HANDLE, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *))                \
    F(C_GenerateKeyPair, (CK_SESSION_HANDLE, CK_MECHANISM *, CK_ATTRIBUTE *, CK_ULONG, CK_ATTRIBUTE *, CK_ULONG,       \
                          CK_OBJECT_HANDLE *, CK_OBJECT_HANDLE *))                                                     \
    F(C_WrapKey, (CK_SESSION_HANDLE, CK_MECHANISM *, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE, CK_BYTE *, CK_ULONG *))       \
    F(C_UnwrapKey, (CK_SESSION_HANDLE, CK_MECHANISM *, CK_OBJECT_HANDLE, CK_BYTE *, CK_ULONG, CK_ATTRIBUTE *,          \
                    CK_ULONG, CK_OBJECT_HANDLE *))                                                                     \
    F(C_DeriveKey, (CK_SESSION_HANDLE, CK_MECHANISM *, CK_OBJECT_HANDLE, CK_ATTRIBUTE *, CK_ULONG, CK_OBJECT_HANDLE *)) \
    F(C_SeedRandom, IN_ONLY)                                                                                           \
    F(C_GenerateRandom, IN_ONLY)                                                                                       \
    F(C_GetFunctionStatus, SESSION_ONLY)                                                                               \
    F(C_CancelFunction, SESSION_ONLY)                                                                                  \
    F(C_WaitForSlotEvent, (CK_FLAGS, CK_SLOT_ID *, void *))

struct CK_FUNCTION_LIST {
    CK_VERSION version;
#define POINTER_TO(name, parameters) CK_RV(*name) parameters;
    CK_FUNCTIONS(POINTER_TO)
};

#define PROTOTYPE_OF(name, parameters) CK_RV name parameters;
CK_FUNCTIONS(PROTOTYPE_OF)

#endif
