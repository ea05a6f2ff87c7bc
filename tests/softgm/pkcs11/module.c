/* Loading and unloading the module, and the frame around each call. TEST ONLY: see ../README.md.
 *
 * One lock serialises all calls of a process; only C_WaitForSlotEvent waits without it.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned long lives; /* odd while the module is initialised */

void module_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void module_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

unsigned long module_life(void)
{
    return lives % 2 ? lives : 0;
}

/* ---- the frame ---- */

/* Takes the lock and finds the folder. */
static CK_RV enter(Call *call, const char *function)
{
    module_lock();
    call->function = function;
    call->run = false;
    call->fault_count = 0;
    *call->root = *call->device_path = '\0';
    call->session = NULL;
    call->token = NULL;
    if (!root_folder(call->root)) {
        fputs("softgm: SOFTGM_PKCS11_DIR names no folder of tokens\n", stderr);
        return CKR_GENERAL_ERROR;
    }
    call->profile = profile_now(call->root);
    if (call->profile == NULL) {
        fputs("softgm: there is no such profile\n", stderr);
        return CKR_GENERAL_ERROR;
    }
    return CKR_OK;
}

static CK_RV act(Call *call)
{
    CK_RV code = CKR_OK;
    faults_load(call);
    call->run = !faults_act(call, false, &code);
    return code;
}

CK_RV begin(Call *call, const char *function)
{
    CK_RV code = enter(call, function);
    if (code == CKR_OK && !module_life())
        code = CKR_CRYPTOKI_NOT_INITIALIZED;
    return code == CKR_OK ? act(call) : code;
}

static void take_token(Call *call, Token *token)
{
    call->token = token;
    memcpy(call->device_path, token->path, sizeof call->device_path);
}

CK_RV begin_slot(Call *call, const char *function, CK_SLOT_ID slot, bool must_be_present)
{
    CK_RV code = enter(call, function);
    if (code != CKR_OK)
        return code;
    if (!module_life())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    Token *token = token_of(slot);
    if (token == NULL)
        return CKR_SLOT_ID_INVALID;
    take_token(call, token);
    bool there = token_present(token);
    if (must_be_present && !there)
        return CKR_TOKEN_NOT_PRESENT;
    if (must_be_present && !token_load(token))
        return CKR_GENERAL_ERROR;
    return act(call);
}

CK_RV begin_session(Call *call, const char *function, CK_SESSION_HANDLE handle)
{
    CK_RV code = enter(call, function);
    if (code != CKR_OK)
        return code;
    if (!module_life())
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    call->session = session_of(handle);
    if (call->session == NULL)
        return CKR_SESSION_HANDLE_INVALID;
    take_token(call, call->session->token);
    bool there = token_present(call->token);
    if (call->session->dead)
        return there ? CKR_SESSION_HANDLE_INVALID : CKR_DEVICE_REMOVED;
    return act(call);
}

CK_RV call_end(Call *call, CK_RV code)
{
    if (call->run)
        faults_act(call, true, &code);
    module_unlock();
    return code;
}

CK_RV give(Call *call, const void *data, size_t count, size_t unit, void *out, CK_ULONG *room)
{
    if (room == NULL)
        return CKR_ARGUMENTS_BAD;
    Given given = give_items(call, data, count, unit, out, room);
    return given == GIVEN ? CKR_OK : given == TOO_SMALL ? CKR_BUFFER_TOO_SMALL : CKR_FUNCTION_FAILED;
}

/* ---- functions of the module as a whole ---- */

/* Writable, as SoftHSM's is: tests replace single functions in it. */
static CK_FUNCTION_LIST functions = {
    .version = {2, 40},
#define ENTRY_OF(name, parameters) .name = name,
    CK_FUNCTIONS(ENTRY_OF)
};

/* The only symbol of the module: with more of them, a program linked against it would lend them to SoftHSM. */
__attribute__((visibility("default"))) CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    if (list == NULL)
        return CKR_ARGUMENTS_BAD;
    *list = &functions;
    return CKR_OK;
}

static CK_RV initialise(Call *call, const CK_C_INITIALIZE_ARGS *arguments)
{
    if (module_life())
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (arguments != NULL) {
        int given = (arguments->CreateMutex != NULL) + (arguments->DestroyMutex != NULL) +
                    (arguments->LockMutex != NULL) + (arguments->UnlockMutex != NULL);
        if (arguments->pReserved != NULL || given % 4 != 0)
            return CKR_ARGUMENTS_BAD;
        if ((arguments->flags & CKF_OS_LOCKING_OK) && fault(call, "cant_lock") != NULL)
            return CKR_CANT_LOCK;
    }
    tokens_scan(call->root);
    for (Token *token = tokens; token != NULL; token = token->next) {
        token->seen = plugged(token->path);
        token->seen_insertions = token->insertions;
    }
    lives++;
    return CKR_OK;
}

CK_RV C_Initialize(void *arguments)
{
    Call call;
    CK_RV code = enter(&call, "C_Initialize");
    if (code == CKR_OK)
        code = act(&call);
    if (call.run)
        code = initialise(&call, arguments);
    return call_end(&call, code);
}

static CK_RV finalise(const void *reserved)
{
    if (reserved != NULL)
        return CKR_ARGUMENTS_BAD;
    tokens_forget();
    lives++;
    return CKR_OK;
}

CK_RV C_Finalize(void *reserved)
{
    CALL(begin(&call, "C_Finalize"), finalise(reserved));
}
