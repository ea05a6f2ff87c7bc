/* Waiting for insertion and removal. The folders are looked at ten times a second. TEST ONLY: see ../README.md.
 *
 * What was last reported is kept, so nothing that happens between two calls is lost; C_Initialize takes what is there.
 * A quick removal and insertion between two looks is one event.
 */
#include <time.h>

#include "internal.h"

/* Looks at the folders once. True: *slot has changed. */
static bool look(const Call *call, CK_SLOT_ID *slot)
{
    tokens_scan(call->root);
    for (Token *token = tokens; token != NULL; token = token->next) {
        bool there = plugged(token->path);
        unsigned long insertions = insertions_of(token->path);
        if (there == token->seen && (!there || insertions == token->seen_insertions))
            continue;
        token->seen = there;
        token->seen_insertions = insertions;
        *slot = token->slot;
        return true;
    }
    return false;
}

static CK_RV wait_event(Call *call, CK_FLAGS flags, CK_SLOT_ID *slot, const void *reserved)
{
    static const struct timespec step = {.tv_nsec = 100000000};
    unsigned long life = module_life();
    if (slot == NULL || reserved != NULL)
        return CKR_ARGUMENTS_BAD;
    bool keep = fault(call, "holds_lock") != NULL;
    while (!look(call, slot)) {
        if (flags & CKF_DONT_BLOCK)
            return CKR_NO_EVENT;
        if (!keep)
            module_unlock();
        nanosleep(&step, NULL);
        if (!keep)
            module_lock();
        if (module_life() != life)
            return CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    return CKR_OK;
}

CK_RV C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
    CALL(begin(&call, "C_WaitForSlotEvent"), wait_event(&call, flags, slot, reserved));
}
