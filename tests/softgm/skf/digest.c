/* Digests in the device; with a public key and an ID, Z comes first (GM/T 0009). TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define ID_LONGEST 8191 /* its length in bits is written in two octets */

/* a, b and the base point of the SM2 curve (GB/T 32918.5), as they go into Z. */
static const BYTE CURVE[] = {
    0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFC,
    0x28, 0xE9, 0xFA, 0x9E, 0x9D, 0x9F, 0x5E, 0x34, 0x4D, 0x5A, 0x9E, 0x4B, 0xCF, 0x65, 0x09, 0xA7,
    0xF3, 0x97, 0x89, 0xF5, 0x15, 0xAB, 0x8F, 0x92, 0xDD, 0xBC, 0xBD, 0x41, 0x4D, 0x94, 0x0E, 0x93,
    0x32, 0xC4, 0xAE, 0x2C, 0x1F, 0x19, 0x81, 0x19, 0x5F, 0x99, 0x04, 0x46, 0x6A, 0x39, 0xC9, 0x94,
    0x8F, 0xE3, 0x0B, 0xBF, 0xF2, 0x66, 0x0B, 0xE1, 0x71, 0x5A, 0x45, 0x89, 0x33, 0x4C, 0x74, 0xC7,
    0xBC, 0x37, 0x36, 0xA2, 0xF4, 0xF6, 0x77, 0x9C, 0x59, 0xBD, 0xCE, 0xE3, 0x6B, 0x69, 0x21, 0x53,
    0xD0, 0xA9, 0x87, 0x7C, 0xC6, 0x2A, 0x47, 0x40, 0x02, 0xDF, 0x32, 0xE5, 0x21, 0x39, 0xF0, 0xA0,
};

static bool start(EVP_MD_CTX *context, const char *name)
{
    EVP_MD *digest = EVP_MD_fetch(NULL, name, NULL);
    bool done = digest != NULL && EVP_DigestInit_ex2(context, digest, NULL) == 1;
    EVP_MD_free(digest);
    return done;
}

/* Leaves the context started, with Z in it. */
static bool start_with_z(EVP_MD_CTX *context, const ECCPUBLICKEYBLOB *key, const BYTE *id, ULONG size)
{
    const BYTE bits[] = {(BYTE)(size * 8 >> 8), (BYTE)(size * 8)};
    BYTE z[32];
    return start(context, "SM3") && EVP_DigestUpdate(context, bits, sizeof bits) == 1 &&
           EVP_DigestUpdate(context, id, size) == 1 && EVP_DigestUpdate(context, CURVE, sizeof CURVE) == 1 &&
           EVP_DigestUpdate(context, key->XCoordinate + 32, 32) == 1 &&
           EVP_DigestUpdate(context, key->YCoordinate + 32, 32) == 1 && EVP_DigestFinal_ex(context, z, NULL) == 1 &&
           start(context, "SM3") && EVP_DigestUpdate(context, z, sizeof z) == 1;
}

static ULONG digest_init(Call *call, ULONG algorithm, const ECCPUBLICKEYBLOB *key, const BYTE *id, ULONG size,
                         HANDLE *out)
{
    const char *name = algorithm == SGD_SM3      ? "SM3"
                       : algorithm == SGD_SHA1   ? "SHA1"
                       : algorithm == SGD_SHA256 ? "SHA256"
                                                 : NULL;
    bool with_z = key != NULL && size > 0;
    if (out == NULL || (with_z && (id == NULL || size > ID_LONGEST || algorithm != SGD_SM3)))
        return SAR_INVALIDPARAMERR;
    if (name == NULL)
        return SAR_NOTSUPPORTYETERR;
    Handle *digest = handle_new(DIGEST, call->handle, "", call->handle->path);
    if (digest == NULL)
        return SAR_MEMORYERR;
    digest->digest = EVP_MD_CTX_new();
    if (with_z ? !start_with_z(digest->digest, key, id, size) : !start(digest->digest, name)) {
        handle_end(digest);
        return SAR_HASHERR;
    }
    *out = digest;
    return SAR_OK;
}

SKF_API ULONG SKF_DigestInit(DEVHANDLE handle, ULONG algorithm, ECCPUBLICKEYBLOB *key, BYTE *id, ULONG size,
                             HANDLE *out)
{
    CALL("SKF_DigestInit", handle, DEVICE, NULL, digest_init(&call, algorithm, key, id, size, out));
}

static ULONG update(Call *call, const BYTE *data, ULONG size)
{
    if (data == NULL && size > 0)
        return SAR_INVALIDPARAMERR;
    return EVP_DigestUpdate(call->handle->digest, data, size) == 1 ? SAR_OK : SAR_HASHERR;
}

SKF_API ULONG SKF_DigestUpdate(HANDLE handle, BYTE *data, ULONG size)
{
    CALL("SKF_DigestUpdate", handle, DIGEST, NULL, update(&call, data, size));
}

/* The digest ends only when the caller's buffer holds it: asking the size, or too little room, changes nothing. */
static ULONG final(Call *call, BYTE *out, ULONG *room)
{
    BYTE value[EVP_MAX_MD_SIZE] = {0};
    size_t size = (size_t)EVP_MD_CTX_get_size(call->handle->digest);
    if (out == NULL || room == NULL || *room < size)
        return give(call, value, size, out, room);
    if (EVP_DigestFinal_ex(call->handle->digest, value, NULL) != 1)
        return SAR_HASHERR;
    return give(call, value, size, out, room);
}

SKF_API ULONG SKF_DigestFinal(HANDLE handle, BYTE *out, ULONG *room)
{
    CALL("SKF_DigestFinal", handle, DIGEST, NULL, final(&call, out, room));
}

static ULONG digest_at_once(Call *call, const BYTE *data, ULONG size, BYTE *out, ULONG *room)
{
    bool asks_size = out == NULL || room == NULL || *room < (ULONG)EVP_MD_CTX_get_size(call->handle->digest);
    ULONG code = asks_size ? SAR_OK : update(call, data, size);
    return code == SAR_OK ? final(call, out, room) : code;
}

SKF_API ULONG SKF_Digest(HANDLE handle, BYTE *data, ULONG size, BYTE *out, ULONG *room)
{
    CALL("SKF_Digest", handle, DIGEST, NULL, digest_at_once(&call, data, size, out, room));
}

static ULONG close_digest(Call *call)
{
    handle_end(call->handle);
    return SAR_OK;
}

SKF_API ULONG SKF_CloseHandle(HANDLE handle)
{
    CALL("SKF_CloseHandle", handle, DIGEST, NULL, close_digest(&call));
}
