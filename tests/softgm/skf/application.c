/* Applications of a device. TEST ONLY: see ../README.md. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"

#define FOLDER "applications"

/* The path of an application; false if the name cannot be one. */
static bool path_of(const Call *call, const char *name, char path[PATH_MAX])
{
    char folder[PATH_MAX];
    return name != NULL && name_is_safe(name, NAME_ROOM - 1) && join(folder, call->device_path, FOLDER) &&
           join(path, folder, name);
}

static ULONG enum_applications(Call *call, char *list, ULONG *size)
{
    char folder[PATH_MAX];
    size_t count;
    if (!join(folder, call->device_path, FOLDER))
        return SAR_FAIL;
    char **names = names_of(folder, &count);
    ULONG code = give_names(call, names, count, list, size);
    names_free(names, count);
    return code;
}

SKF_API ULONG SKF_EnumApplication(DEVHANDLE handle, LPSTR list, ULONG *size)
{
    CALL("SKF_EnumApplication", handle, DEVICE, NULL, enum_applications(&call, list, size));
}

static ULONG open_handle(Call *call, const char *name, const char *path, HAPPLICATION *out)
{
    Handle *application = handle_new(APPLICATION, call->handle, name, path);
    if (application == NULL)
        return SAR_MEMORYERR;
    *out = application;
    return SAR_OK;
}

static ULONG open_application(Call *call, const char *name, HAPPLICATION *out)
{
    char path[PATH_MAX];
    if (out == NULL)
        return SAR_INVALIDPARAMERR;
    if (!path_of(call, name, path))
        return SAR_APPLICATION_NAME_INVALID;
    return exists(path, ".") ? open_handle(call, name, path, out) : SAR_APPLICATION_NOT_EXISTS;
}

SKF_API ULONG SKF_OpenApplication(DEVHANDLE handle, LPSTR name, HAPPLICATION *out)
{
    CALL("SKF_OpenApplication", handle, DEVICE, NULL, open_application(&call, name, out));
}

static ULONG create_application(Call *call, const char *name, const char *const pins[2], const DWORD tries[2],
                                DWORD rights, HAPPLICATION *out)
{
    char path[PATH_MAX], below[PATH_MAX], value[16];
    static const char *const folders[] = {"containers", "files"};
    if (pins[ADMIN_TYPE] == NULL || pins[USER_TYPE] == NULL || out == NULL || tries[0] == 0 || tries[1] == 0)
        return SAR_INVALIDPARAMERR;
    if (!path_of(call, name, path))
        return SAR_APPLICATION_NAME_INVALID;
    if (!pin_length_ok(pins[ADMIN_TYPE]) || !pin_length_ok(pins[USER_TYPE]))
        return SAR_PIN_LEN_RANGE;
    if (!state_has(call->handle, STATE_DEVICE))
        return SAR_DEVICE_NOT_AUTHED;
    if (exists(path, "."))
        return SAR_APPLICATION_EXISTS;
    if (join(below, call->device_path, FOLDER))
        mkdir(below, 0700);
    bool made = mkdir(path, 0700) == 0;
    for (int i = 0; made && i < 2; i++)
        made = join(below, path, folders[i]) && mkdir(below, 0700) == 0;
    snprintf(value, sizeof value, "0x%x", (unsigned)rights);
    made = made && pin_create(path, ADMIN_TYPE, pins[ADMIN_TYPE], tries[ADMIN_TYPE], false) &&
           pin_create(path, USER_TYPE, pins[USER_TYPE], tries[USER_TYPE], false) &&
           set_setting(path, "application.conf", "create_files", value);
    if (!made) {
        remove_tree(path);
        return SAR_WRITEFILEERR;
    }
    return open_handle(call, name, path, out);
}

SKF_API ULONG SKF_CreateApplication(DEVHANDLE handle, LPSTR name, LPSTR admin_pin, DWORD admin_tries, LPSTR user_pin,
                                    DWORD user_tries, DWORD rights, HAPPLICATION *out)
{
    const char *const pins[] = {[ADMIN_TYPE] = admin_pin, [USER_TYPE] = user_pin};
    const DWORD tries[] = {[ADMIN_TYPE] = admin_tries, [USER_TYPE] = user_tries};
    CALL("SKF_CreateApplication", handle, DEVICE, NULL, create_application(&call, name, pins, tries, rights, out));
}

static ULONG delete_application(Call *call, const char *name)
{
    char path[PATH_MAX];
    if (!path_of(call, name, path))
        return SAR_APPLICATION_NAME_INVALID;
    if (!state_has(call->handle, STATE_DEVICE))
        return SAR_DEVICE_NOT_AUTHED;
    if (!exists(path, "."))
        return SAR_APPLICATION_NOT_EXISTS;
    return remove_tree(path) ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG SKF_DeleteApplication(DEVHANDLE handle, LPSTR name)
{
    CALL("SKF_DeleteApplication", handle, DEVICE, NULL, delete_application(&call, name));
}

static ULONG close_application(Call *call)
{
    handle_end(call->handle);
    return SAR_OK;
}

SKF_API ULONG SKF_CloseApplication(HAPPLICATION handle)
{
    CALL("SKF_CloseApplication", handle, APPLICATION, NULL, close_application(&call));
}
