/* Devices: list, connect, facts, label, locks, authentication, random octets. TEST ONLY: see ../README.md. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "internal.h"

#define SETTINGS "device.conf"
#define DEFAULT_DEVICE_KEY "1234567812345678"

static ULONG enum_devices(Call *call, BOOL present, char *list, ULONG *size)
{
    size_t count, kept = 0;
    char **names = names_of(call->root, &count);
    for (size_t i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (join(path, call->root, names[i]) && (present ? plugged(path) : exists(path, SETTINGS))) {
            char *name = names[kept];
            names[kept++] = names[i];
            names[i] = name;
        }
    }
    ULONG code = give_names(call, names, kept, list, size);
    names_free(names, count);
    return code;
}

SKF_API ULONG SKF_EnumDev(BOOL present, LPSTR list, ULONG *size)
{
    CALL("SKF_EnumDev", NULL, NO_HANDLE, NULL, enum_devices(&call, present, list, size));
}

static ULONG connect_device(Call *call, const char *name, DEVHANDLE *out)
{
    if (name == NULL || out == NULL)
        return SAR_INVALIDPARAMERR;
    if (!plugged(call->device_path))
        return SAR_DEVICE_REMOVED;
    Handle *device = handle_new(DEVICE, NULL, name, call->device_path);
    if (device == NULL)
        return SAR_MEMORYERR;
    device->insertions = insertions_of(device->path);
    *out = device;
    return SAR_OK;
}

SKF_API ULONG SKF_ConnectDev(LPSTR name, DEVHANDLE *out)
{
    CALL("SKF_ConnectDev", NULL, NO_HANDLE, name, connect_device(&call, name, out));
}

SKF_API ULONG SKF_DisConnectDev(DEVHANDLE handle)
{
    Call call;
    ULONG code = call_begin(&call, "SKF_DisConnectDev", handle, DEVICE, NULL);
    /* The handle of a device that is gone can still be closed. */
    if (call.handle != NULL && (call.run || code == SAR_DEVICE_REMOVED)) {
        handle_end(call.handle);
        code = SAR_OK;
    }
    return call_end(&call, code);
}

static ULONG device_state(Call *call, const char *name, ULONG *state)
{
    if (name == NULL || state == NULL)
        return SAR_INVALIDPARAMERR;
    *state = plugged(call->device_path) ? DEV_PRESENT : exists(call->device_path, SETTINGS) ? DEV_ABSENT : DEV_UNKNOWN;
    return SAR_OK;
}

SKF_API ULONG SKF_GetDevState(LPSTR name, ULONG *state)
{
    CALL("SKF_GetDevState", NULL, NO_HANDLE, name, device_state(&call, name, state));
}

/* ---- facts ---- */

static void text_field(Call *call, CHAR *field, size_t room, const char *key, const char *otherwise, bool whole)
{
    char value[VALUE_ROOM];
    if (!setting(call->device_path, SETTINGS, key, value))
        snprintf(value, sizeof value, "%s", otherwise);
    size_t length = strlen(value);
    memset(field, whole ? 'x' : 0, room);
    memcpy(field, value, length < room ? length : room);
}

static ULONG space_used(const Call *call)
{
    size_t applications, files, size;
    ULONG used = 0;
    char folder[PATH_MAX], path[PATH_MAX];
    if (!join(folder, call->device_path, "applications"))
        return 0;
    char **names = names_of(folder, &applications);
    for (size_t i = 0; i < applications; i++) {
        if (!join(path, folder, names[i]) || strlen(path) + 7 > PATH_MAX)
            continue;
        strcat(path, "/files");
        char **listed = names_of(path, &files);
        for (size_t j = 0; j < files; j++) {
            free(read_file(path, listed[j], &size));
            used += (ULONG)size;
        }
        names_free(listed, files);
    }
    names_free(names, applications);
    return used;
}

ULONG space_free(const Call *call)
{
    ULONG all = (ULONG)number(call->device_path, SETTINGS, "space", 65536), used = space_used(call);
    return used < all ? all - used : 0;
}

static void device_info(Call *call, DEVINFO *info)
{
    static const VERSION one = {1, 0};
    bool whole = fault(call, "unterminated") != NULL;
    memset(info, 0, sizeof *info);
    info->Version = info->HWVersion = info->FirmwareVersion = one;
    text_field(call, info->Manufacturer, sizeof info->Manufacturer, "manufacturer", "Soft SKF (test only)", whole);
    text_field(call, info->Issuer, sizeof info->Issuer, "issuer", "Soft SKF (test only)", whole);
    text_field(call, info->Label, sizeof info->Label, "label", "", whole);
    text_field(call, info->SerialNumber, sizeof info->SerialNumber, "serial", "", whole);
    info->AlgSymCap = SGD_SM4_ECB;
    info->AlgAsymCap = SGD_RSA | SGD_SM2_1_VENDOR | SGD_SM2_1_GMT0006;
    info->AlgHashCap = SGD_SM3 | SGD_SHA1 | SGD_SHA256;
    info->DevAuthAlgId = SGD_SM4_ECB;
    info->TotalSpace = (ULONG)number(call->device_path, SETTINGS, "space", 65536);
    info->FreeSpace = space_free(call);
    info->MaxECCBufferSize = 256;
    info->MaxBufferSize = (ULONG)number(call->device_path, SETTINGS, "max_buffer", 4096);
}

/* Writes the record as another compiler's settings would lay it out. */
#define RELAID(name, type, attributes)                                                                                 \
    typedef struct attributes {                                                                                        \
        DEVINFO_FIELDS(type)                                                                                           \
    } name;                                                                                                            \
    static void write_##name(const DEVINFO *from, void *to)                                                            \
    {                                                                                                                  \
        name laid;                                                                                                     \
        memset(&laid, 0, sizeof laid);                                                                                 \
        memcpy(&laid, from, offsetof(DEVINFO, AlgSymCap)); /* only octets up to here: no layout moves them */          \
        laid.AlgSymCap = from->AlgSymCap;                                                                              \
        laid.AlgAsymCap = from->AlgAsymCap;                                                                            \
        laid.AlgHashCap = from->AlgHashCap;                                                                            \
        laid.DevAuthAlgId = from->DevAuthAlgId;                                                                        \
        laid.TotalSpace = from->TotalSpace;                                                                            \
        laid.FreeSpace = from->FreeSpace;                                                                              \
        laid.MaxECCBufferSize = from->MaxECCBufferSize;                                                                \
        laid.MaxBufferSize = from->MaxBufferSize;                                                                      \
        memcpy(to, &laid, sizeof laid);                                                                                \
    }

RELAID(natural, ULONG, )
RELAID(packed64, uint64_t, __attribute__((packed)))
RELAID(natural64, uint64_t, )
_Static_assert(sizeof(natural) == 296 && sizeof(packed64) == 326 && sizeof(natural64) == 328, "layouts of DEVINFO");

static ULONG give_info(Call *call, void *out)
{
    DEVINFO info;
    if (out == NULL)
        return SAR_INVALIDPARAMERR;
    device_info(call, &info);
    const char *layout = fault(call, "layout");
    if (layout == NULL)
        memcpy(out, &info, sizeof info);
    else if (strcmp(layout, "natural") == 0)
        write_natural(&info, out);
    else if (strcmp(layout, "packed64") == 0)
        write_packed64(&info, out);
    else if (strcmp(layout, "natural64") == 0)
        write_natural64(&info, out);
    else
        memcpy(out, &info, sizeof info / 2); /* "short" */
    return SAR_OK;
}

SKF_API ULONG SKF_GetDevInfo(DEVHANDLE handle, DEVINFO *info)
{
    CALL("SKF_GetDevInfo", handle, DEVICE, NULL, give_info(&call, info));
}

static ULONG set_label(Call *call, const char *label)
{
    if (label == NULL || strchr(label, '\n') != NULL)
        return SAR_INVALIDPARAMERR;
    if (strlen(label) > 31)
        return SAR_NAMELENERR;
    return set_setting(call->device_path, SETTINGS, "label", label) ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG SKF_SetLabel(DEVHANDLE handle, LPSTR label)
{
    CALL("SKF_SetLabel", handle, DEVICE, NULL, set_label(&call, label));
}

/* ---- exclusive use: between handles, in this process and others; other calls do not heed it ---- */

static ULONG lock_device(Call *call, ULONG milliseconds)
{
    static const struct timespec step = {.tv_nsec = 5000000};
    char path[PATH_MAX];
    if (call->handle->exclusive >= 0)
        return SAR_OK;
    int file = join(path, call->device_path, ".exclusive") ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (file < 0)
        return SAR_FAIL;
    for (ULONG waited = 0; flock(file, LOCK_EX | LOCK_NB) != 0; waited += 5) {
        if (waited >= milliseconds && milliseconds != 0xFFFFFFFFu) {
            close(file);
            return SAR_TIMEOUTERR;
        }
        nanosleep(&step, NULL);
    }
    call->handle->exclusive = file;
    return SAR_OK;
}

SKF_API ULONG SKF_LockDev(DEVHANDLE handle, ULONG milliseconds)
{
    CALL("SKF_LockDev", handle, DEVICE, NULL, lock_device(&call, milliseconds));
}

static ULONG unlock_device(Call *call)
{
    if (call->handle->exclusive >= 0)
        close(call->handle->exclusive);
    call->handle->exclusive = -1;
    return SAR_OK;
}

SKF_API ULONG SKF_UnlockDev(DEVHANDLE handle)
{
    CALL("SKF_UnlockDev", handle, DEVICE, NULL, unlock_device(&call));
}

SKF_API ULONG SKF_Transmit(DEVHANDLE handle, BYTE *command, ULONG size, BYTE *out, ULONG *room)
{
    (void)command, (void)size, (void)out, (void)room;
    CALL("SKF_Transmit", handle, DEVICE, NULL, SAR_NOTSUPPORTYETERR);
}

/* ---- random octets and the authentication of the device ---- */

static ULONG gen_random(Call *call, BYTE *out, ULONG size)
{
    if (out == NULL || size > INT_MAX)
        return SAR_INVALIDPARAMERR;
    if (RAND_bytes(out, (int)size) != 1)
        return SAR_GENRANDERR;
    call->handle->challenged = size == sizeof call->handle->challenge;
    if (call->handle->challenged)
        memcpy(call->handle->challenge, out, size);
    return SAR_OK;
}

SKF_API ULONG SKF_GenRandom(DEVHANDLE handle, BYTE *out, ULONG size)
{
    CALL("SKF_GenRandom", handle, DEVICE, NULL, gen_random(&call, out, size));
}

static ULONG device_auth(Call *call, const BYTE *answer, ULONG size)
{
    char key[VALUE_ROOM];
    BYTE plain[16] = {0}, expected[16];
    int length;
    if (answer == NULL)
        return SAR_INVALIDPARAMERR;
    if (size != sizeof expected)
        return SAR_INDATALENERR;
    if (!call->handle->challenged)
        return SAR_FAIL;
    call->handle->challenged = false;
    if (!setting(call->device_path, SETTINGS, "device_key", key))
        strcpy(key, DEFAULT_DEVICE_KEY);
    memcpy(plain, call->handle->challenge, sizeof call->handle->challenge);
    EVP_CIPHER *sm4 = EVP_CIPHER_fetch(NULL, "SM4-ECB", NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    bool done = strlen(key) == 16 && EVP_EncryptInit_ex2(context, sm4, (const BYTE *)key, NULL, NULL) == 1 &&
                EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
                EVP_EncryptUpdate(context, expected, &length, plain, sizeof plain) == 1;
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(sm4);
    if (!done || CRYPTO_memcmp(answer, expected, sizeof expected) != 0)
        return SAR_FAIL;
    state_set(call->handle, STATE_DEVICE);
    return SAR_OK;
}

SKF_API ULONG SKF_DevAuth(DEVHANDLE handle, BYTE *answer, ULONG size)
{
    CALL("SKF_DevAuth", handle, DEVICE, NULL, device_auth(&call, answer, size));
}

static ULONG change_device_key(Call *call, const BYTE *key, ULONG size)
{
    char text[17] = {0};
    if (key == NULL || size != 16 || memchr(key, '\n', 16) != NULL || memchr(key, '\0', 16) != NULL)
        return SAR_INVALIDPARAMERR; /* the key is kept as text */
    if (!state_has(call->handle, STATE_DEVICE))
        return SAR_DEVICE_NOT_AUTHED;
    memcpy(text, key, 16);
    return set_setting(call->device_path, SETTINGS, "device_key", text) ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG SKF_ChangeDevAuthKey(DEVHANDLE handle, BYTE *key, ULONG size)
{
    CALL("SKF_ChangeDevAuthKey", handle, DEVICE, NULL, change_device_key(&call, key, size));
}
