/* Tokens. Each has a folder, and in this process an instance of SoftHSM of its own. TEST ONLY: see ../README.md.
 *
 * SoftHSM looks for tokens only while it is initialised. So that tokens can come and go, and so that a program may use
 * SoftHSM itself beside this module, each token gets a private copy of the library, loaded from a file in memory: the
 * dynamic linker knows libraries by their file.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define SOFTHSM_VARIABLE "SOFTHSM2_CONF"

static const char *const places[] = {
    "/usr/lib/softhsm", /* Debian, Ubuntu */
    "/usr/lib/x86_64-linux-gnu/softhsm",
    "/usr/lib/aarch64-linux-gnu/softhsm",
    "/usr/lib64/pkcs11", /* Fedora, RHEL */
    "/usr/lib64/softhsm",
    "/usr/lib64",
    "/usr/lib",
    "/usr/lib/pkcs11",
    "/usr/local/lib/softhsm",
};

Token *tokens;
static CK_SLOT_ID slots; /* the last number given */

bool root_folder(char root[PATH_MAX])
{
    const char *set = getenv("SOFTGM_PKCS11_DIR");
    return set != NULL && *set != '\0' && snprintf(root, PATH_MAX, "%s", set) < PATH_MAX;
}

bool plugged(const char *path)
{
    return exists(path, SOFTHSM_SETTINGS) && !exists(path, "removed");
}

unsigned long insertions_of(const char *path)
{
    return number(path, "insertions", "count", 0);
}

void tokens_scan(const char *root)
{
    size_t count;
    char **names = names_of(root, &count);
    for (size_t i = 0; i < count; i++) {
        Token **link = &tokens, *token;
        char path[PATH_MAX];
        if (!name_is_safe(names[i], NAME_ROOM - 1) || !join(path, root, names[i]) || !exists(path, SOFTHSM_SETTINGS))
            continue;
        while (*link != NULL && strcmp((*link)->path, path) != 0)
            link = &(*link)->next;
        if (*link != NULL || (token = calloc(1, sizeof *token)) == NULL)
            continue;
        memcpy(token->name, names[i], strlen(names[i]) + 1);
        memcpy(token->path, path, strlen(path) + 1);
        token->slot = ++slots;
        token->insertions = insertions_of(path);
        token->file = -1;
        *link = token;
    }
    names_free(names, count);
}

Token *token_of(CK_SLOT_ID slot)
{
    Token *token = tokens;
    while (token != NULL && token->slot != slot)
        token = token->next;
    return token;
}

/* ---- SoftHSM ---- */

/* Copies SoftHSM into a file in memory. */
static int copy_softhsm(void)
{
    const char *named = getenv("SOFTGM_PKCS11_MODULE");
    size_t size = 0, have = 0;
    ssize_t put = 1;
    BYTE *data = named != NULL && *named != '\0' ? read_file("/", named, &size) : NULL;
    for (size_t i = 0; named == NULL && data == NULL && i < sizeof places / sizeof *places; i++)
        data = read_file(places[i], "libsofthsm2.so", &size);
    int file = data == NULL ? -1 : memfd_create("softhsm2", MFD_CLOEXEC);
    while (file >= 0 && have < size && (put = write(file, data + have, size - have)) > 0)
        have += (size_t)put;
    free(data);
    if (file >= 0 && put <= 0) {
        close(file);
        file = -1;
    }
    if (file < 0)
        fputs("softgm: SoftHSM2 was not found; install it or set SOFTGM_PKCS11_MODULE\n", stderr);
    return file;
}

/* Initialises an instance. SoftHSM takes its settings from a file that only the environment can name. */
static bool initialise(const Token *token)
{
    char conf[PATH_MAX];
    CK_C_INITIALIZE_ARGS arguments = {.flags = CKF_OS_LOCKING_OK};
    const char *set = getenv(SOFTHSM_VARIABLE);
    char *before = set == NULL ? NULL : strdup(set);
    bool done = join(conf, token->path, SOFTHSM_SETTINGS) && setenv(SOFTHSM_VARIABLE, conf, 1) == 0 &&
                token->real->C_Initialize(&arguments) == CKR_OK;
    if (before != NULL)
        setenv(SOFTHSM_VARIABLE, before, 1);
    else
        unsetenv(SOFTHSM_VARIABLE);
    free(before);
    return done;
}

/* Finds the slot with the token: SoftHSM has another one, for the next token. */
static bool find_slot(Token *token)
{
    CK_SLOT_ID found[8];
    CK_ULONG count = sizeof found / sizeof *found;
    CK_TOKEN_INFO info;
    if (token->real->C_GetSlotList(1, found, &count) != CKR_OK || count == 0)
        return false;
    token->real_slot = found[0];
    for (CK_ULONG i = 0; i < count; i++)
        if (token->real->C_GetTokenInfo(found[i], &info) == CKR_OK && (info.flags & CKF_TOKEN_INITIALIZED))
            token->real_slot = found[i];
    return true;
}

static void unload(Token *token)
{
    if (token->real != NULL)
        token->real->C_Finalize(NULL);
    if (token->library != NULL)
        dlclose(token->library);
    if (token->file >= 0)
        close(token->file);
    token->real = NULL;
    token->library = NULL;
    token->file = -1;
}

bool token_load(Token *token)
{
    char name[64];
    CK_RV (*get)(CK_FUNCTION_LIST **) = NULL;
    if (token->real != NULL)
        return true;
    if ((token->file = copy_softhsm()) < 0)
        return false;
    snprintf(name, sizeof name, "/proc/self/fd/%d", token->file);
    token->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (token->library == NULL)
        fprintf(stderr, "softgm: %s\n", dlerror());
    else
        *(void **)&get = dlsym(token->library, "C_GetFunctionList");
    bool done = get != NULL && get(&token->real) == CKR_OK && initialise(token) && find_slot(token);
    if (!done)
        unload(token);
    return done;
}

bool token_present(Token *token)
{
    unsigned long insertions = insertions_of(token->path);
    bool there = plugged(token->path);
    if (!there || insertions != token->insertions) {
        sessions_kill(token);
        unload(token);
        token->insertions = insertions;
    }
    return there;
}

void tokens_forget(void)
{
    while (tokens != NULL) {
        Token *next = tokens->next;
        sessions_free(tokens);
        unload(tokens);
        free(tokens);
        tokens = next;
    }
    slots = 0;
}
