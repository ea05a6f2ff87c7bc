/* Handles, the secure state of devices, and the frame around each exported function. TEST ONLY: see ../README.md. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

typedef struct State {
    struct State *next;
    char path[PATH_MAX];
    unsigned long insertions;
    unsigned bits;
} State;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Handle *handles;
static State *states;

void library_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void library_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

/* ---- handles ---- */

Handle *handle_new(Kind kind, Handle *parent, const char *name, const char *path)
{
    Handle *handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return NULL;
    handle->kind = kind;
    handle->parent = parent;
    handle->exclusive = -1;
    snprintf(handle->name, sizeof handle->name, "%s", name);
    snprintf(handle->path, sizeof handle->path, "%s", path);
    handle->next = handles;
    handles = handle;
    return handle;
}

static Handle *child_of(const Handle *parent)
{
    Handle *child = handles;
    while (child != NULL && child->parent != parent)
        child = child->next;
    return child;
}

void handle_end(Handle *handle)
{
    Handle *child, **link = &handles;
    while ((child = child_of(handle)) != NULL)
        handle_end(child);
    while (*link != handle)
        link = &(*link)->next;
    *link = handle->next;
    for (int i = 0; i < 2; i++)
        EVP_PKEY_free(handle->cached[i].key);
    EVP_MD_CTX_free(handle->digest);
    if (handle->exclusive >= 0)
        close(handle->exclusive);
    free(handle);
}

/* Only a pointer that is in the list is ever followed. */
static Handle *known(HANDLE value, Kind kind)
{
    Handle *handle = handles;
    while (handle != NULL && handle != value)
        handle = handle->next;
    return handle != NULL && handle->kind == kind ? handle : NULL;
}

__attribute__((destructor)) static void end_all(void)
{
    if (pthread_mutex_trylock(&mutex) != 0)
        return; /* a call still runs or hangs in another thread */
    while (handles != NULL) {
        Handle *top = handles;
        while (top->parent != NULL)
            top = top->parent;
        handle_end(top);
    }
    while (states != NULL) {
        State *next = states->next;
        free(states);
        states = next;
    }
    pthread_mutex_unlock(&mutex);
}

/* ---- devices ---- */

bool root_folder(char root[PATH_MAX])
{
    const char *set = getenv("SOFTSKF_DIR");
    return set != NULL && *set != '\0' && snprintf(root, PATH_MAX, "%s", set) < PATH_MAX;
}

bool plugged(const char *device_path)
{
    return exists(device_path, "device.conf") && !exists(device_path, "removed");
}

unsigned long insertions_of(const char *device_path)
{
    return number(device_path, "insertions", "count", 0);
}

static Handle *device_of(Handle *handle)
{
    while (handle->parent != NULL)
        handle = handle->parent;
    return handle;
}

/* ---- secure state ---- */

static State *state_of(const Handle *handle)
{
    State *state = states;
    unsigned long insertions = device_of((Handle *)handle)->insertions;
    while (state != NULL && (strcmp(state->path, handle->path) != 0 || state->insertions != insertions))
        state = state->next;
    return state;
}

bool state_has(const Handle *handle, unsigned bit)
{
    State *state = state_of(handle);
    return state != NULL && (state->bits & bit) != 0;
}

void state_set(const Handle *handle, unsigned bit)
{
    State *state = state_of(handle);
    if (state == NULL && (state = calloc(1, sizeof *state)) != NULL) {
        snprintf(state->path, sizeof state->path, "%s", handle->path);
        state->insertions = device_of((Handle *)handle)->insertions;
        state->next = states;
        states = state;
    }
    if (state != NULL)
        state->bits |= bit;
}

void state_clear(const Handle *handle, unsigned bits)
{
    State *state = state_of(handle);
    if (state != NULL)
        state->bits &= ~bits;
}

/* Forgets what a device has let this process do: it was seen unplugged. */
static void forget_device(const char *path)
{
    size_t length = strlen(path);
    for (State *state = states; state != NULL; state = state->next)
        if (strncmp(state->path, path, length) == 0 && (state->path[length] == '/' || state->path[length] == '\0'))
            state->bits = 0;
}

ULONG right_met(const Handle *application, ULONG right)
{
    bool met = right == RIGHT_ANYONE || ((right & RIGHT_ADMIN) && state_has(application, STATE_ADMIN)) ||
               ((right & RIGHT_USER) && state_has(application, STATE_USER));
    return met ? SAR_OK : SAR_USER_NOT_LOGGED_IN;
}

/* ---- the frame of a call ---- */

ULONG call_begin(Call *call, const char *function, HANDLE handle, Kind kind, const char *name)
{
    unsigned long code = SAR_OK;
    library_lock();
    call->function = function;
    call->run = false;
    call->fault_count = 0;
    *call->device_path = '\0';
    call->handle = call->device = call->application = call->container = NULL;
    if (!root_folder(call->root))
        return SAR_NOTINITIALIZEERR;
    if (kind != NO_HANDLE) {
        if ((call->handle = known(handle, kind)) == NULL)
            return SAR_INVALIDHANDLEERR;
        call->container = kind == CONTAINER ? call->handle : NULL;
        call->application = kind == CONTAINER ? call->handle->parent : kind == APPLICATION ? call->handle : NULL;
        call->device = device_of(call->handle);
        memcpy(call->device_path, call->device->path, sizeof call->device_path);
        if (!plugged(call->device_path)) {
            forget_device(call->device_path);
            call->device->insertions = ULONG_MAX; /* the handle stays dead after the device is back */
        }
        if (insertions_of(call->device_path) != call->device->insertions)
            return SAR_DEVICE_REMOVED;
    } else if (name != NULL) {
        if (!name_is_safe(name, NAME_ROOM - 1) || !join(call->device_path, call->root, name))
            return SAR_INVALIDPARAMERR;
    }
    faults_load(call);
    call->run = !faults_act(call, false, &code);
    return (ULONG)code;
}

ULONG call_end(Call *call, ULONG code)
{
    unsigned long answer = code;
    if (call->run)
        faults_act(call, true, &answer);
    library_unlock();
    return (ULONG)answer;
}
