/* Results of which the caller may ask the size first: NULL buffer, then the buffer. TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

ULONG give(Call *call, const void *data, size_t size, void *out, ULONG *room)
{
    if (room == NULL)
        return SAR_INVALIDPARAMERR;
    size_t octets = *room;
    Given given = give_items(call, data, size, 1, out, &octets);
    *room = (ULONG)octets;
    return given == GIVEN ? SAR_OK : given == TOO_SMALL ? SAR_BUFFER_TOO_SMALL : SAR_FILEERR;
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
