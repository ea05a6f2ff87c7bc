/* Results of which the caller may ask the size first: NULL buffer, then the buffer. TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include "common.h"

static void copy(void *out, const void *data, size_t octets)
{
    if (out != NULL && octets > 0)
        memcpy(out, data, octets);
}

static Given put(Call *call, const void *data, size_t count, size_t unit, void *out, size_t *room)
{
    const char *argument;
    size_t fits = *room < count ? *room : count;
    if ((argument = fault(call, "length")) != NULL) {
        copy(out, data, fits * unit);
        *room = strtoul(argument, NULL, 0);
        return GIVEN;
    }
    if (out == NULL) {
        *room = count;
        return GIVEN;
    }
    if ((argument = fault(call, "oversize")) != NULL) {
        copy(out, data, fits * unit);
        *room += *argument == '\0' ? 16 : strtoul(argument, NULL, 0);
        return GIVEN;
    }
    if ((argument = fault(call, "overrun")) != NULL) {
        size_t more = *argument == '\0' ? 1 : strtoul(argument, NULL, 0);
        copy(out, data, fits * unit);
        memset((BYTE *)out + *room * unit, 0xEE, more * unit);
        *room += more;
        return GIVEN;
    }
    bool too_small = *room < count;
    if (!too_small)
        copy(out, data, count * unit);
    *room = count;
    return too_small ? TOO_SMALL : GIVEN;
}

Given give_items(Call *call, const void *data, size_t count, size_t unit, void *out, size_t *room)
{
    const char *file = fault(call, "substitute");
    if (file == NULL)
        return put(call, data, count, unit, out, room);
    size_t size;
    BYTE *other = read_file(call->device_path, file, &size);
    Given given = other == NULL ? NO_SUCH_FILE : put(call, other, size / unit, unit, out, room);
    free(other);
    return given;
}
