/* Containers: a folder with sign.key, exchange.key (PEM), sign.crt, exchange.crt (DER). TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"

#define FOLDER "containers"
#define NAME_LONGEST 64

static bool path_of(const Call *call, const char *name, char path[PATH_MAX])
{
    char folder[PATH_MAX];
    return name != NULL && name_is_safe(name, NAME_LONGEST) && join(folder, call->application->path, FOLDER) &&
           join(path, folder, name);
}

static ULONG enum_containers(Call *call, char *list, ULONG *size)
{
    char folder[PATH_MAX];
    size_t count;
    if (!join(folder, call->application->path, FOLDER))
        return SAR_FAIL;
    char **names = names_of(folder, &count);
    ULONG code = give_names(call, names, count, list, size);
    names_free(names, count);
    return code;
}

SKF_API ULONG SKF_EnumContainer(HAPPLICATION handle, LPSTR list, ULONG *size)
{
    CALL("SKF_EnumContainer", handle, APPLICATION, NULL, enum_containers(&call, list, size));
}

static ULONG open_container(Call *call, const char *name, bool create, HCONTAINER *out)
{
    char path[PATH_MAX];
    if (out == NULL || name == NULL)
        return SAR_INVALIDPARAMERR;
    if (!path_of(call, name, path))
        return SAR_NAMELENERR;
    if (create && !state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    if (exists(path, ".") == create)
        return create ? SAR_CONTAINER_EXISTS : SAR_CONTAINER_NOT_EXISTS;
    if (create && mkdir(path, 0700) != 0)
        return SAR_WRITEFILEERR;
    Handle *container = handle_new(CONTAINER, call->application, name, path);
    if (container == NULL)
        return SAR_MEMORYERR;
    *out = container;
    return SAR_OK;
}

SKF_API ULONG SKF_OpenContainer(HAPPLICATION handle, LPSTR name, HCONTAINER *out)
{
    CALL("SKF_OpenContainer", handle, APPLICATION, NULL, open_container(&call, name, false, out));
}

SKF_API ULONG SKF_CreateContainer(HAPPLICATION handle, LPSTR name, HCONTAINER *out)
{
    CALL("SKF_CreateContainer", handle, APPLICATION, NULL, open_container(&call, name, true, out));
}

static ULONG delete_container(Call *call, const char *name)
{
    char path[PATH_MAX];
    if (!path_of(call, name, path))
        return SAR_NAMELENERR;
    if (!state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    if (!exists(path, "."))
        return SAR_CONTAINER_NOT_EXISTS;
    return remove_tree(path) ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG SKF_DeleteContainer(HAPPLICATION handle, LPSTR name)
{
    CALL("SKF_DeleteContainer", handle, APPLICATION, NULL, delete_container(&call, name));
}

static ULONG close_container(Call *call)
{
    handle_end(call->handle);
    return SAR_OK;
}

SKF_API ULONG SKF_CloseContainer(HCONTAINER handle)
{
    CALL("SKF_CloseContainer", handle, CONTAINER, NULL, close_container(&call));
}

static ULONG container_type(Call *call, ULONG *type)
{
    static const ULONG types[] = {[KEY_NONE] = CONTAINER_EMPTY, [KEY_RSA] = CONTAINER_RSA, [KEY_SM2] = CONTAINER_ECC};
    if (type == NULL)
        return SAR_INVALIDPARAMERR;
    EVP_PKEY *key = container_key(call->container, true);
    *type = types[key_kind(key != NULL ? key : container_key(call->container, false))];
    return SAR_OK;
}

SKF_API ULONG SKF_GetContainerType(HCONTAINER handle, ULONG *type)
{
    CALL("SKF_GetContainerType", handle, CONTAINER, NULL, container_type(&call, type));
}

static ULONG import_certificate(Call *call, BOOL sign, const BYTE *der, ULONG size)
{
    if (der == NULL || size == 0)
        return SAR_INVALIDPARAMERR;
    if (!state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    return write_file(call->container->path, sign ? "sign.crt" : "exchange.crt", der, size) ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG SKF_ImportCertificate(HCONTAINER handle, BOOL sign, BYTE *der, ULONG size)
{
    CALL("SKF_ImportCertificate", handle, CONTAINER, NULL, import_certificate(&call, sign, der, size));
}

static ULONG export_certificate(Call *call, BOOL sign, BYTE *out, ULONG *room)
{
    size_t size;
    BYTE *der = read_file(call->container->path, sign ? "sign.crt" : "exchange.crt", &size);
    ULONG code = der == NULL ? SAR_CERTNOTFOUNTERR : give(call, der, size, out, room);
    free(der);
    return code;
}

SKF_API ULONG SKF_ExportCertificate(HCONTAINER handle, BOOL sign, BYTE *out, ULONG *room)
{
    CALL("SKF_ExportCertificate", handle, CONTAINER, NULL, export_certificate(&call, sign, out, room));
}
