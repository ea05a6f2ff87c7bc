/* The interface of GM/T 0016 (SKF), as far as sealing needs it. TEST ONLY: see ../README.md.
 *
 * Sizes: ULONG has 32 bits everywhere, records are packed to the byte. Octet strings inside records are big-endian and
 * right-aligned in their field, integers are in host order.
 */
#ifndef SOFTSKF_SKF_H
#define SOFTSKF_SKF_H

#include <stdint.h>

typedef uint8_t BYTE;
typedef char CHAR;
typedef char *LPSTR;
typedef uint32_t ULONG;
typedef uint32_t DWORD;
typedef int32_t BOOL;
typedef void *HANDLE;
typedef HANDLE DEVHANDLE;
typedef HANDLE HAPPLICATION;
typedef HANDLE HCONTAINER;

#define SKF_API __attribute__((visibility("default")))

typedef struct {
    BYTE major, minor;
} VERSION;

/* The fields of DEVINFO, for the layouts that the field knows: see the fault "layout". */
#define DEVINFO_FIELDS(WORD)                                                                                           \
    VERSION Version;                                                                                                   \
    CHAR Manufacturer[64];                                                                                             \
    CHAR Issuer[64];                                                                                                   \
    CHAR Label[32];                                                                                                    \
    CHAR SerialNumber[32];                                                                                             \
    VERSION HWVersion;                                                                                                 \
    VERSION FirmwareVersion;                                                                                           \
    WORD AlgSymCap;                                                                                                    \
    WORD AlgAsymCap;                                                                                                   \
    WORD AlgHashCap;                                                                                                   \
    WORD DevAuthAlgId;                                                                                                 \
    WORD TotalSpace;                                                                                                   \
    WORD FreeSpace;                                                                                                    \
    WORD MaxECCBufferSize;                                                                                             \
    WORD MaxBufferSize;                                                                                                \
    BYTE Reserved[64];

#pragma pack(push, 1)

typedef struct {
    DEVINFO_FIELDS(ULONG)
} DEVINFO;

typedef struct {
    ULONG AlgID;
    ULONG BitLen;
    BYTE Modulus[256];
    BYTE PublicExponent[4];
} RSAPUBLICKEYBLOB;

typedef struct {
    ULONG BitLen;
    BYTE XCoordinate[64];
    BYTE YCoordinate[64];
} ECCPUBLICKEYBLOB;

typedef struct {
    BYTE r[64];
    BYTE s[64];
} ECCSIGNATUREBLOB;

typedef struct {
    CHAR FileName[32];
    ULONG FileSize;
    ULONG ReadRights;
    ULONG WriteRights;
} FILEATTRIBUTE;

#pragma pack(pop)

_Static_assert(sizeof(DEVINFO) == 294, "packed DEVINFO");
_Static_assert(sizeof(RSAPUBLICKEYBLOB) == 268, "packed RSAPUBLICKEYBLOB");
_Static_assert(sizeof(ECCPUBLICKEYBLOB) == 132, "packed ECCPUBLICKEYBLOB");
_Static_assert(sizeof(ECCSIGNATUREBLOB) == 128, "packed ECCSIGNATUREBLOB");
_Static_assert(sizeof(FILEATTRIBUTE) == 44, "packed FILEATTRIBUTE");

enum { ADMIN_TYPE = 0, USER_TYPE = 1 };
enum { DEV_ABSENT = 0, DEV_PRESENT = 1, DEV_UNKNOWN = 2 };
enum { EVENT_INSERTED = 1, EVENT_REMOVED = 2 };
enum { CONTAINER_EMPTY = 0, CONTAINER_RSA = 1, CONTAINER_ECC = 2 };
enum { RIGHT_NEVER = 0, RIGHT_ADMIN = 1, RIGHT_USER = 0x10, RIGHT_ANYONE = 0xFF };

enum { SGD_SM3 = 1, SGD_SHA1 = 2, SGD_SHA256 = 4, SGD_RSA = 0x00010000, SGD_SM4_ECB = 0x401 };
/* SGD_SM2_1 in vendors' headers and in GM/T 0006; see the fault "sm2_alg". */
enum { SGD_SM2_1_VENDOR = 0x00020100, SGD_SM2_1_GMT0006 = 0x00020200 };

#define SAR_OK 0x00000000u
#define SAR_FAIL 0x0A000001u
#define SAR_NOTSUPPORTYETERR 0x0A000003u
#define SAR_FILEERR 0x0A000004u
#define SAR_INVALIDHANDLEERR 0x0A000005u
#define SAR_INVALIDPARAMERR 0x0A000006u
#define SAR_WRITEFILEERR 0x0A000008u
#define SAR_NAMELENERR 0x0A000009u
#define SAR_MODULUSLENERR 0x0A00000Bu
#define SAR_NOTINITIALIZEERR 0x0A00000Cu
#define SAR_MEMORYERR 0x0A00000Eu
#define SAR_TIMEOUTERR 0x0A00000Fu
#define SAR_INDATALENERR 0x0A000010u
#define SAR_GENRANDERR 0x0A000012u
#define SAR_HASHERR 0x0A000014u
#define SAR_GENRSAKEYERR 0x0A000015u
#define SAR_RSAMODULUSLENERR 0x0A000016u
#define SAR_HASHNOTEQUALERR 0x0A00001Au
#define SAR_KEYNOTFOUNTERR 0x0A00001Bu
#define SAR_CERTNOTFOUNTERR 0x0A00001Cu
#define SAR_BUFFER_TOO_SMALL 0x0A000020u
#define SAR_KEYINFOTYPEERR 0x0A000021u
#define SAR_NOT_EVENTERR 0x0A000022u
#define SAR_DEVICE_REMOVED 0x0A000023u
#define SAR_PIN_INCORRECT 0x0A000024u
#define SAR_PIN_LOCKED 0x0A000025u
#define SAR_PIN_LEN_RANGE 0x0A000027u
#define SAR_USER_TYPE_INVALID 0x0A00002Au
#define SAR_APPLICATION_NAME_INVALID 0x0A00002Bu
#define SAR_APPLICATION_EXISTS 0x0A00002Cu
#define SAR_USER_NOT_LOGGED_IN 0x0A00002Du
#define SAR_APPLICATION_NOT_EXISTS 0x0A00002Eu
#define SAR_FILE_ALREADY_EXIST 0x0A00002Fu
#define SAR_NO_ROOM 0x0A000030u
#define SAR_FILE_NOT_EXIST 0x0A000031u
/* Above 32 vendors diverge; these are the values of one of them (Wisec). */
#define SAR_CONTAINER_NOT_EXISTS 0x0A000036u
#define SAR_CONTAINER_EXISTS 0x0A000037u
#define SAR_DEVICE_NOT_AUTHED 0x0A00003Bu

SKF_API ULONG SKF_EnumDev(BOOL present, LPSTR list, ULONG *size);
SKF_API ULONG SKF_ConnectDev(LPSTR name, DEVHANDLE *out);
SKF_API ULONG SKF_DisConnectDev(DEVHANDLE handle);
SKF_API ULONG SKF_GetDevState(LPSTR name, ULONG *state);
SKF_API ULONG SKF_GetDevInfo(DEVHANDLE handle, DEVINFO *info);
SKF_API ULONG SKF_SetLabel(DEVHANDLE handle, LPSTR label);
SKF_API ULONG SKF_LockDev(DEVHANDLE handle, ULONG milliseconds);
SKF_API ULONG SKF_UnlockDev(DEVHANDLE handle);
SKF_API ULONG SKF_Transmit(DEVHANDLE handle, BYTE *command, ULONG size, BYTE *out, ULONG *room);
SKF_API ULONG SKF_GenRandom(DEVHANDLE handle, BYTE *out, ULONG size);
SKF_API ULONG SKF_DevAuth(DEVHANDLE handle, BYTE *answer, ULONG size);
SKF_API ULONG SKF_ChangeDevAuthKey(DEVHANDLE handle, BYTE *key, ULONG size);

SKF_API ULONG SKF_WaitForDevEvent(LPSTR name, ULONG *room, ULONG *event);
SKF_API ULONG SKF_CancelWaitForDevEvent(void);

SKF_API ULONG SKF_EnumApplication(DEVHANDLE handle, LPSTR list, ULONG *size);
SKF_API ULONG SKF_OpenApplication(DEVHANDLE handle, LPSTR name, HAPPLICATION *out);
SKF_API ULONG SKF_CreateApplication(DEVHANDLE handle, LPSTR name, LPSTR admin_pin, DWORD admin_tries, LPSTR user_pin,
                                    DWORD user_tries, DWORD rights, HAPPLICATION *out);
SKF_API ULONG SKF_DeleteApplication(DEVHANDLE handle, LPSTR name);
SKF_API ULONG SKF_CloseApplication(HAPPLICATION handle);

SKF_API ULONG SKF_VerifyPIN(HAPPLICATION handle, ULONG type, LPSTR pin, ULONG *retries);
SKF_API ULONG SKF_ChangePIN(HAPPLICATION handle, ULONG type, LPSTR old_pin, LPSTR new_pin, ULONG *retries);
SKF_API ULONG SKF_UnblockPIN(HAPPLICATION handle, LPSTR admin_pin, LPSTR new_pin, ULONG *retries);
SKF_API ULONG SKF_GetPINInfo(HAPPLICATION handle, ULONG type, ULONG *max, ULONG *left, BOOL *factory);
SKF_API ULONG SKF_ClearSecureState(HAPPLICATION handle);

SKF_API ULONG SKF_EnumFiles(HAPPLICATION handle, LPSTR list, ULONG *size);
SKF_API ULONG SKF_CreateFile(HAPPLICATION handle, LPSTR name, ULONG size, ULONG read_rights, ULONG write_rights);
SKF_API ULONG SKF_GetFileInfo(HAPPLICATION handle, LPSTR name, FILEATTRIBUTE *info);
SKF_API ULONG SKF_ReadFile(HAPPLICATION handle, LPSTR name, ULONG offset, ULONG size, BYTE *out, ULONG *room);
SKF_API ULONG SKF_WriteFile(HAPPLICATION handle, LPSTR name, ULONG offset, BYTE *part, ULONG size);
SKF_API ULONG SKF_DeleteFile(HAPPLICATION handle, LPSTR name);

SKF_API ULONG SKF_EnumContainer(HAPPLICATION handle, LPSTR list, ULONG *size);
SKF_API ULONG SKF_OpenContainer(HAPPLICATION handle, LPSTR name, HCONTAINER *out);
SKF_API ULONG SKF_CreateContainer(HAPPLICATION handle, LPSTR name, HCONTAINER *out);
SKF_API ULONG SKF_DeleteContainer(HAPPLICATION handle, LPSTR name);
SKF_API ULONG SKF_CloseContainer(HCONTAINER handle);
SKF_API ULONG SKF_GetContainerType(HCONTAINER handle, ULONG *type);
SKF_API ULONG SKF_ImportCertificate(HCONTAINER handle, BOOL sign, BYTE *der, ULONG size);
SKF_API ULONG SKF_ExportCertificate(HCONTAINER handle, BOOL sign, BYTE *out, ULONG *room);

SKF_API ULONG SKF_GenECCKeyPair(HCONTAINER handle, ULONG algorithm, ECCPUBLICKEYBLOB *blob);
SKF_API ULONG SKF_GenRSAKeyPair(HCONTAINER handle, ULONG bits, RSAPUBLICKEYBLOB *blob);
SKF_API ULONG SKF_ExportPublicKey(HCONTAINER handle, BOOL sign, BYTE *out, ULONG *room);

SKF_API ULONG SKF_ECCSignData(HCONTAINER handle, BYTE *digest, ULONG size, ECCSIGNATUREBLOB *out);
SKF_API ULONG SKF_ECCVerify(DEVHANDLE handle, ECCPUBLICKEYBLOB *key, BYTE *digest, ULONG size,
                            ECCSIGNATUREBLOB *signature);
SKF_API ULONG SKF_ExtECCVerify(DEVHANDLE handle, ECCPUBLICKEYBLOB *key, BYTE *digest, ULONG size,
                               ECCSIGNATUREBLOB *signature);
SKF_API ULONG SKF_RSASignData(HCONTAINER handle, BYTE *data, ULONG size, BYTE *out, ULONG *room);
SKF_API ULONG SKF_RSAVerify(DEVHANDLE handle, RSAPUBLICKEYBLOB *key, BYTE *data, ULONG size, BYTE *signature,
                            ULONG length);

SKF_API ULONG SKF_DigestInit(DEVHANDLE handle, ULONG algorithm, ECCPUBLICKEYBLOB *key, BYTE *id, ULONG size,
                             HANDLE *out);
SKF_API ULONG SKF_DigestUpdate(HANDLE handle, BYTE *data, ULONG size);
SKF_API ULONG SKF_DigestFinal(HANDLE handle, BYTE *out, ULONG *room);
SKF_API ULONG SKF_Digest(HANDLE handle, BYTE *data, ULONG size, BYTE *out, ULONG *room);
SKF_API ULONG SKF_CloseHandle(HANDLE handle);

SKF_API ULONG EPS_ReadESealData(HAPPLICATION handle, ULONG key_index, ULONG algorithm, BYTE *out, ULONG *room,
                                ULONG flags);
SKF_API ULONG EPS_WriteESealData(HAPPLICATION handle, BYTE *seal, ULONG size, ULONG flags);

#endif
