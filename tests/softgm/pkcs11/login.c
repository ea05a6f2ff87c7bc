/* Sessions and PINs. SoftHSM counts no tries; they are counted here, in the token's folder. TEST ONLY.
 *
 * A try is counted down on disk before the PIN is looked at. See ../README.md.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static CK_RV open_session(Call *call, CK_FLAGS flags, CK_SESSION_HANDLE *out)
{
    CK_SESSION_HANDLE real;
    if (out == NULL)
        return CKR_ARGUMENTS_BAD;
    if (sessions_count(call->token) > 0 && fault(call, "single_session") != NULL)
        return CKR_SESSION_COUNT;
    CK_RV code = REAL(*call)->C_OpenSession(call->token->real_slot, flags, NULL, NULL, &real);
    if (code != CKR_OK)
        return code;
    Session *session = session_new(call->token, real);
    if (session == NULL)
        return CKR_HOST_MEMORY;
    *out = session->handle;
    return CKR_OK;
}

/* `application` and `notify` are not handed on: SoftHSM never calls back. */
CK_RV C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, void *notify, CK_SESSION_HANDLE *out)
{
    (void)application, (void)notify;
    SLOT_CALL("C_OpenSession", slot, open_session(&call, flags, out));
}

static CK_RV close_session(Call *call)
{
    CK_RV code = REAL(*call)->C_CloseSession(call->session->real);
    session_free(call->session);
    call->session = NULL;
    return code;
}

CK_RV C_CloseSession(CK_SESSION_HANDLE handle)
{
    Call call;
    CK_RV code = begin_session(&call, "C_CloseSession", handle);
    if (call.run)
        code = close_session(&call);
    else if (call.session != NULL && call.session->dead)
        session_free(call.session); /* its token is gone: only the number is left to forget */
    return call_end(&call, code);
}

static CK_RV close_all(Call *call)
{
    sessions_free(call->token);
    return REAL(*call)->C_CloseAllSessions(call->token->real_slot);
}

CK_RV C_CloseAllSessions(CK_SLOT_ID slot)
{
    SLOT_CALL("C_CloseAllSessions", slot, close_all(&call));
}

static CK_RV session_info(Call *call, CK_SESSION_INFO *out)
{
    CK_RV code = REAL(*call)->C_GetSessionInfo(call->session->real, out);
    if (code == CKR_OK)
        out->slotID = call->token->slot;
    return code;
}

CK_RV C_GetSessionInfo(CK_SESSION_HANDLE session, CK_SESSION_INFO *out)
{
    SESSION_CALL("C_GetSessionInfo", session, session_info(&call, out));
}

/* ---- PINs ---- */

typedef struct {
    const char *left, *max, *pin;
} Counter;

static const Counter user = {"user_left", "user_max", "user_pin"}, so = {"so_left", "so_max", "so_pin"};

static unsigned long tries(const Token *token, const Counter *counter, bool all)
{
    unsigned long max = number(token->path, SETTINGS, counter->max, TRIES);
    return all ? max : number(token->path, SETTINGS, counter->left, max);
}

static bool set_tries(const Token *token, const Counter *counter, unsigned long left)
{
    char text[24];
    snprintf(text, sizeof text, "%lu", left);
    return set_setting(token->path, SETTINGS, counter->left, text);
}

/* A PIN on its way to SoftHSM. On a token with a PIN pad, NULL means the PIN that the folder holds. */
typedef struct {
    BYTE entered[VALUE_ROOM];
    BYTE *octets;
    CK_ULONG size;
} Pin;

static void take_pin(const Token *token, const Counter *counter, CK_BYTE *pin, CK_ULONG size, Pin *out)
{
    out->octets = pin;
    out->size = size;
    if (pin != NULL || number(token->path, SETTINGS, "protected", 0) == 0 ||
        !setting(token->path, SETTINGS, counter->pin, (char *)out->entered))
        return;
    out->octets = out->entered;
    out->size = strlen((char *)out->entered);
}

/* Spends a try on a PIN. new_pin not NULL: if it is right, it is changed. */
static CK_RV spend(Call *call, const Counter *counter, CK_USER_TYPE type, Pin *pin, const Pin *new_pin)
{
    bool wrong = fault(call, "wrong_pin") != NULL; /* before the lock: counting a fault down takes it too */
    int lock = lock_folder(call->token->path);
    unsigned long left = tries(call->token, counter, false);
    CK_RV code = CKR_OK;
    if (left == 0)
        code = CKR_PIN_LOCKED;
    else if (!set_tries(call->token, counter, left - 1))
        code = CKR_GENERAL_ERROR;
    else if (wrong)
        code = CKR_PIN_INCORRECT;
    else {
        code = new_pin == NULL ? REAL(*call)->C_Login(call->session->real, type, pin->octets, pin->size)
                               : REAL(*call)->C_SetPIN(call->session->real, pin->octets, pin->size, new_pin->octets,
                                                       new_pin->size);
        if (code != CKR_PIN_INCORRECT) /* right, or not looked at: already logged in, a new PIN too short */
            set_tries(call->token, counter, code == CKR_OK ? tries(call->token, counter, true) : left);
    }
    if (lock >= 0)
        close(lock);
    return code;
}

static CK_RV login(Call *call, CK_USER_TYPE type, CK_BYTE *octets, CK_ULONG size)
{
    Pin pin;
    const Counter *counter = type == CKU_SO ? &so : &user;
    take_pin(call->token, counter, octets, size, &pin);
    if (pin.octets == NULL)
        return CKR_ARGUMENTS_BAD;
    return spend(call, counter, type, &pin, NULL);
}

CK_RV C_Login(CK_SESSION_HANDLE session, CK_USER_TYPE type, CK_BYTE *pin, CK_ULONG size)
{
    SESSION_CALL("C_Login", session, login(&call, type, pin, size));
}

static CK_RV set_pin(Call *call, CK_BYTE *old, CK_ULONG old_size, CK_BYTE *fresh, CK_ULONG fresh_size)
{
    CK_SESSION_INFO info;
    Pin pin, new_pin = {.octets = fresh, .size = fresh_size};
    bool is_so =
        REAL(*call)->C_GetSessionInfo(call->session->real, &info) == CKR_OK && info.state == CKS_RW_SO_FUNCTIONS;
    const Counter *counter = is_so ? &so : &user;
    take_pin(call->token, counter, old, old_size, &pin);
    if (pin.octets == NULL || fresh == NULL)
        return CKR_ARGUMENTS_BAD;
    return spend(call, counter, 0, &pin, &new_pin);
}

CK_RV C_SetPIN(CK_SESSION_HANDLE session, CK_BYTE *old, CK_ULONG old_size, CK_BYTE *fresh, CK_ULONG fresh_size)
{
    SESSION_CALL("C_SetPIN", session, set_pin(&call, old, old_size, fresh, fresh_size));
}

/* The administrator sets the user's PIN, which unlocks it. */
static CK_RV init_pin(Call *call, CK_BYTE *pin, CK_ULONG size)
{
    CK_RV code = REAL(*call)->C_InitPIN(call->session->real, pin, size);
    if (code == CKR_OK && !set_tries(call->token, &user, tries(call->token, &user, true)))
        code = CKR_GENERAL_ERROR;
    return code;
}

CK_RV C_InitPIN(CK_SESSION_HANDLE session, CK_BYTE *pin, CK_ULONG size)
{
    SESSION_CALL("C_InitPIN", session, init_pin(&call, pin, size));
}
