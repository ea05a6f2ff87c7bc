/* The seal kept in the device, an extension of some vendors (BJCA, HNCA). libsoftskf-plain.so is built without it.
 * TEST ONLY: see ../README.md.
 */
#include <stdlib.h>

#include "internal.h"

#define SEAL_FILE "seal"
#define SEAL_LONGEST (40 * 1024)
#define MAINTENANCE_KEY 0xA2 /* the key that protects the seal on its way */

/* Settings of the device: eps=0 switches the extension off. */
static ULONG allowed(const Call *call)
{
    if (number(call->device_path, "device.conf", "eps", 1) == 0)
        return SAR_NOTSUPPORTYETERR;
    return right_met(call->application, RIGHT_USER);
}

static ULONG read_seal(Call *call, ULONG key_index, ULONG algorithm, BYTE *out, ULONG *room, ULONG flags)
{
    size_t size;
    ULONG code = allowed(call);
    if (code != SAR_OK)
        return code;
    if (key_index != MAINTENANCE_KEY || algorithm != SGD_SM4_ECB || flags != 0)
        return SAR_INVALIDPARAMERR;
    BYTE *seal = read_file(call->application->path, SEAL_FILE, &size);
    code = seal == NULL ? SAR_FILE_NOT_EXIST : give(call, seal, size, out, room);
    free(seal);
    return code;
}

SKF_API ULONG EPS_ReadESealData(HAPPLICATION handle, ULONG key_index, ULONG algorithm, BYTE *out, ULONG *room,
                                ULONG flags)
{
    CALL("EPS_ReadESealData", handle, APPLICATION, NULL, read_seal(&call, key_index, algorithm, out, room, flags));
}

static ULONG write_seal(Call *call, const BYTE *seal, ULONG size, ULONG flags)
{
    ULONG code = allowed(call);
    if (code != SAR_OK)
        return code;
    if (seal == NULL || flags != 0)
        return SAR_INVALIDPARAMERR;
    if (size == 0 || size > SEAL_LONGEST)
        return SAR_INDATALENERR;
    return write_file(call->application->path, SEAL_FILE, seal, size) ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG EPS_WriteESealData(HAPPLICATION handle, BYTE *seal, ULONG size, ULONG flags)
{
    CALL("EPS_WriteESealData", handle, APPLICATION, NULL, write_seal(&call, seal, size, flags));
}
