/* PINs and their counters. A try is counted down on disk before the PIN is looked at. TEST ONLY: see ../README.md.
 *
 * The PIN lies in the clear in "pin-user" and "pin-admin": these are test tokens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

#define PIN_SHORTEST 6
#define PIN_LONGEST 32

static const char *file_of(ULONG type)
{
    return type == ADMIN_TYPE ? "pin-admin" : "pin-user";
}

static unsigned state_of_type(ULONG type)
{
    return type == ADMIN_TYPE ? STATE_ADMIN : STATE_USER;
}

bool pin_length_ok(const char *pin)
{
    size_t length = strlen(pin);
    return length >= PIN_SHORTEST && length <= PIN_LONGEST && strchr(pin, '\n') == NULL;
}

static bool pin_write(const char *path, ULONG type, const char *pin, ULONG max, ULONG left, bool factory)
{
    char text[128];
    int length = snprintf(text, sizeof text, "pin=%s\nmax=%u\nleft=%u\nfactory=%d\n", pin, (unsigned)max,
                          (unsigned)left, factory);
    return write_file(path, file_of(type), text, (size_t)length);
}

bool pin_create(const char *application_path, ULONG type, const char *pin, ULONG tries, bool factory)
{
    return pin_write(application_path, type, pin, tries, tries, factory);
}

/* Reports the tries left, unless a fault wants another number ("retries none": nothing is written). */
static void report(Call *call, ULONG left, ULONG *out)
{
    const char *other = fault(call, "retries");
    if (out == NULL || (other != NULL && strcmp(other, "none") == 0))
        return;
    *out = other == NULL ? left : (ULONG)strtoul(other, NULL, 0);
}

/* Spends one try on a PIN; what is left is put into *left. The folder is locked by the caller. */
static ULONG spend(Call *call, ULONG type, const char *pin, ULONG *left)
{
    const Handle *application = call->application;
    char right[VALUE_ROOM];
    if (!setting(application->path, file_of(type), "pin", right))
        return SAR_FILEERR;
    ULONG max = (ULONG)number(application->path, file_of(type), "max", 0);
    bool factory = number(application->path, file_of(type), "factory", 0) != 0;
    *left = (ULONG)number(application->path, file_of(type), "left", 0);
    if (*left == 0)
        return SAR_PIN_LOCKED;
    *left -= 1;
    if (!pin_write(application->path, type, right, max, *left, factory))
        return SAR_WRITEFILEERR;
    if (strcmp(pin, right) != 0 || fault(call, "wrong_pin") != NULL) {
        state_clear(application, state_of_type(type));
        return SAR_PIN_INCORRECT;
    }
    *left = max;
    return pin_write(application->path, type, right, max, *left, factory) ? SAR_OK : SAR_WRITEFILEERR;
}

/* Checks a PIN of one type; if it is right, sets a new PIN of another (new_pin not NULL). */
static ULONG use_pin(Call *call, ULONG type, const char *pin, ULONG new_type, const char *new_pin, ULONG *retries)
{
    ULONG left = 0;
    if (type > USER_TYPE)
        return SAR_USER_TYPE_INVALID;
    if (pin == NULL)
        return SAR_INVALIDPARAMERR;
    if (!pin_length_ok(pin) || (new_pin != NULL && !pin_length_ok(new_pin)))
        return SAR_PIN_LEN_RANGE;
    int lock = lock_folder(call->application->path);
    ULONG code = spend(call, type, pin, &left);
    if (code == SAR_OK && new_pin != NULL) {
        ULONG max = (ULONG)number(call->application->path, file_of(new_type), "max", 0);
        if (!pin_write(call->application->path, new_type, new_pin, max, max, false))
            code = SAR_WRITEFILEERR;
    }
    if (lock >= 0)
        close(lock);
    if (code == SAR_OK || code == SAR_PIN_INCORRECT || code == SAR_PIN_LOCKED)
        report(call, left, retries);
    return code;
}

static ULONG verify_pin(Call *call, ULONG type, const char *pin, ULONG *retries)
{
    ULONG code = use_pin(call, type, pin, type, NULL, retries);
    if (code == SAR_OK)
        state_set(call->application, state_of_type(type));
    return code;
}

SKF_API ULONG SKF_VerifyPIN(HAPPLICATION handle, ULONG type, LPSTR pin, ULONG *retries)
{
    CALL("SKF_VerifyPIN", handle, APPLICATION, NULL, verify_pin(&call, type, pin, retries));
}

SKF_API ULONG SKF_ChangePIN(HAPPLICATION handle, ULONG type, LPSTR old_pin, LPSTR new_pin, ULONG *retries)
{
    CALL("SKF_ChangePIN", handle, APPLICATION, NULL,
         new_pin == NULL ? SAR_INVALIDPARAMERR : use_pin(&call, type, old_pin, type, new_pin, retries));
}

SKF_API ULONG SKF_UnblockPIN(HAPPLICATION handle, LPSTR admin_pin, LPSTR new_pin, ULONG *retries)
{
    CALL("SKF_UnblockPIN", handle, APPLICATION, NULL,
         new_pin == NULL ? SAR_INVALIDPARAMERR : use_pin(&call, ADMIN_TYPE, admin_pin, USER_TYPE, new_pin, retries));
}

static ULONG pin_info(Call *call, ULONG type, ULONG *max, ULONG *left, BOOL *factory)
{
    const char *path = call->application->path;
    if (type > USER_TYPE)
        return SAR_USER_TYPE_INVALID;
    if (max == NULL || left == NULL || factory == NULL)
        return SAR_INVALIDPARAMERR;
    *max = (ULONG)number(path, file_of(type), "max", 0);
    report(call, (ULONG)number(path, file_of(type), "left", 0), left);
    int64_t whole = (int64_t)number(path, file_of(type), "factory", 0);
    memcpy(factory, &whole, fault(call, "wide_bool") != NULL ? sizeof whole : sizeof *factory);
    return SAR_OK;
}

SKF_API ULONG SKF_GetPINInfo(HAPPLICATION handle, ULONG type, ULONG *max, ULONG *left, BOOL *factory)
{
    CALL("SKF_GetPINInfo", handle, APPLICATION, NULL, pin_info(&call, type, max, left, factory));
}

static ULONG clear_state(Call *call)
{
    state_clear(call->application, STATE_ADMIN | STATE_USER);
    return SAR_OK;
}

SKF_API ULONG SKF_ClearSecureState(HAPPLICATION handle)
{
    CALL("SKF_ClearSecureState", handle, APPLICATION, NULL, clear_state(&call));
}
