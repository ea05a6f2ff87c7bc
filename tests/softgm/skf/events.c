/* Waiting for insertion and removal. The folder is looked at ten times a second. TEST ONLY: see ../README.md.
 *
 * What the library last reported is kept for the process, so nothing that happens between two waits is lost; the first
 * wait starts from what is there then. A quick removal and insertion between two looks shows as both events.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define LOOK_NANOSECONDS 100000000L

typedef struct Seen {
    struct Seen *next;
    char name[NAME_ROOM];
    unsigned long insertions;
} Seen;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cancelled = PTHREAD_COND_INITIALIZER;
static unsigned long cancellations;
static Seen *seen;
static bool looked;

static Seen **find(const char *name)
{
    Seen **link = &seen;
    while (*link != NULL && strcmp((*link)->name, name) != 0)
        link = &(*link)->next;
    return link;
}

static void add(const char *name, unsigned long insertions)
{
    Seen *device = calloc(1, sizeof *device);
    if (device == NULL)
        return;
    memcpy(device->name, name, strlen(name) + 1);
    device->insertions = insertions;
    device->next = seen;
    seen = device;
}

static void forget(Seen **link)
{
    Seen *gone = *link;
    *link = gone->next;
    free(gone);
}

/* Reports one event to the caller; it stays due if the name does not fit. */
static ULONG report(Call *call, const char *name, ULONG event, char *out, ULONG *room, ULONG *kind)
{
    ULONG code = give(call, name, strlen(name) + 1, out, room);
    *kind = event;
    return code;
}

/* Looks at the folder once. True: *code is the answer. */
static bool look(Call *call, char *out, ULONG *room, ULONG *kind, ULONG *code)
{
    size_t count;
    bool found = false;
    char path[PATH_MAX];
    for (Seen *device = seen; device != NULL; device = device->next) {
        if (join(path, call->root, device->name) && plugged(path) && insertions_of(path) == device->insertions)
            continue;
        *code = report(call, device->name, EVENT_REMOVED, out, room, kind);
        if (*code == SAR_OK && out != NULL)
            forget(find(device->name));
        return true;
    }
    char **names = names_of(call->root, &count);
    for (size_t i = 0; i < count && !found; i++) {
        if (strlen(names[i]) >= NAME_ROOM || !join(path, call->root, names[i]) || !plugged(path) ||
            *find(names[i]) != NULL)
            continue;
        found = looked;
        if (looked)
            *code = report(call, names[i], EVENT_INSERTED, out, room, kind);
        if (!looked || (*code == SAR_OK && out != NULL))
            add(names[i], insertions_of(path));
    }
    looked = true;
    names_free(names, count);
    return found;
}

static ULONG wait_event(Call *call, char *out, ULONG *room, ULONG *kind)
{
    ULONG code = SAR_OK;
    bool keep = fault(call, "holds_lock") != NULL;
    if (room == NULL || kind == NULL)
        return SAR_INVALIDPARAMERR;
    if (!keep)
        library_unlock();
    pthread_mutex_lock(&mutex);
    unsigned long before = cancellations;
    while (!look(call, out, room, kind, &code)) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK_NANOSECONDS;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_cond_timedwait(&cancelled, &mutex, &until);
        if (cancellations != before) {
            code = SAR_NOT_EVENTERR;
            break;
        }
    }
    pthread_mutex_unlock(&mutex);
    if (!keep)
        library_lock();
    return code;
}

SKF_API ULONG SKF_WaitForDevEvent(LPSTR name, ULONG *room, ULONG *event)
{
    CALL("SKF_WaitForDevEvent", NULL, NO_HANDLE, NULL, wait_event(&call, name, room, event));
}

/* Never waits for the library's lock. */
SKF_API ULONG SKF_CancelWaitForDevEvent(void)
{
    pthread_mutex_lock(&mutex);
    cancellations++;
    pthread_cond_broadcast(&cancelled);
    pthread_mutex_unlock(&mutex);
    return SAR_OK;
}

__attribute__((destructor)) static void forget_all(void)
{
    if (pthread_mutex_trylock(&mutex) != 0)
        return;
    while (seen != NULL)
        forget(&seen);
    pthread_mutex_unlock(&mutex);
}
