/* Results of which the caller may ask the size first: NULL buffer, then the buffer. TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static ULONG put(Call *call, const void *data, size_t size, BYTE *out, ULONG *room)
{
    const char *argument;
    size_t fits = *room < size ? *room : size;
    if ((argument = fault(call, "length")) != NULL) {
        if (out != NULL && size > 0)
            memcpy(out, data, fits);
        *room = (ULONG)strtoul(argument, NULL, 0);
        return SAR_OK;
    }
    if (out == NULL) {
        *room = (ULONG)size;
        return SAR_OK;
    }
    if ((argument = fault(call, "oversize")) != NULL) {
        if (size > 0)
            memcpy(out, data, fits);
        *room += *argument == '\0' ? 16 : (ULONG)strtoul(argument, NULL, 0);
        return SAR_OK;
    }
    if ((argument = fault(call, "overrun")) != NULL) {
        size_t more = *argument == '\0' ? 1 : strtoul(argument, NULL, 0);
        if (size > 0)
            memcpy(out, data, fits);
        memset(out + *room, 0xEE, more);
        *room += (ULONG)more;
        return SAR_OK;
    }
    if (*room < size) {
        *room = (ULONG)size;
        return SAR_BUFFER_TOO_SMALL;
    }
    if (size > 0)
        memcpy(out, data, size);
    *room = (ULONG)size;
    return SAR_OK;
}

ULONG give(Call *call, const void *data, size_t size, void *out, ULONG *room)
{
    const char *file;
    if (room == NULL)
        return SAR_INVALIDPARAMERR;
    if ((file = fault(call, "substitute")) == NULL)
        return put(call, data, size, out, room);
    BYTE *other = read_file(call->device_path, file, &size);
    ULONG code = other == NULL ? SAR_FILEERR : put(call, other, size, out, room);
    free(other);
    return code;
}

ULONG give_names(Call *call, char **names, size_t count, void *out, ULONG *room)
{
    size_t size = 0, used = 0;
    const char *argument = fault(call, "empty");
    if (argument != NULL) {
        static const char nuls[2];
        size = *argument == '\0' ? 0 : strtoul(argument, NULL, 0);
        return give(call, nuls, size < 2 ? size : 2, out, room);
    }
    for (size_t i = 0; i < count; i++)
        size += strlen(names[i]) + 1;
    char *list = calloc(1, size + 2);
    if (list == NULL)
        return SAR_MEMORYERR;
    for (size_t i = 0; i < count; i++) {
        strcpy(list + used, names[i]);
        used += strlen(names[i]) + 1;
    }
    if (fault(call, "unterminated") != NULL && size > 0)
        size -= 1;
    else if (fault(call, "single_nul") == NULL)
        size += count == 0 ? 2 : 1;
    ULONG code = give(call, list, size, out, room);
    free(list);
    return code;
}
