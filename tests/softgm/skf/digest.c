/* Digests in the device; with a public key and an ID, Z comes first (GM/T 0009). TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define ID_LONGEST 8191 /* its length in bits is written in two octets */

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
    if (with_z ? !sm3_start_with_z(digest->digest, key->XCoordinate + 32, key->YCoordinate + 32, id, size)
               : !digest_start(digest->digest, name)) {
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
