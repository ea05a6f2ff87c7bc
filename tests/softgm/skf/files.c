/* Files of an application: their octets in "files/", their rights in "rights.conf". TEST ONLY: see ../README.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "internal.h"

#define NAME_LONGEST 32
#define RIGHTS_FILE "rights.conf"

typedef enum { READ, WRITE } Access;

static bool folder_of(const Call *call, char folder[PATH_MAX])
{
    return join(folder, call->application->path, "files");
}

static bool name_ok(const char *name)
{
    return name_is_safe(name, NAME_LONGEST) && strpbrk(name, "=\n") == NULL;
}

/* The rights of a file, kept as "read.NAME" and "write.NAME" of one settings file. */
static void rights_key(char key[NAME_LONGEST + 8], Access access, const char *name)
{
    snprintf(key, NAME_LONGEST + 8, "%s.%s", access == READ ? "read" : "write", name);
}

static ULONG rights(const Call *call, Access access, const char *name)
{
    char key[NAME_LONGEST + 8];
    rights_key(key, access, name);
    return (ULONG)number(call->application->path, RIGHTS_FILE, key, RIGHT_ANYONE);
}

static bool set_rights(const Call *call, Access access, const char *name, ULONG value)
{
    char key[NAME_LONGEST + 8], text[16];
    rights_key(key, access, name);
    snprintf(text, sizeof text, "0x%x", (unsigned)value);
    return set_setting(call->application->path, RIGHTS_FILE, key, text);
}

static ULONG may_create(const Call *call)
{
    const Handle *application = call->application;
    return right_met(application, (ULONG)number(application->path, "application.conf", "create_files", RIGHT_USER));
}

static ULONG enum_files(Call *call, char *list, ULONG *size)
{
    char folder[PATH_MAX];
    size_t count;
    if (!folder_of(call, folder))
        return SAR_FAIL;
    char **names = names_of(folder, &count);
    ULONG code = give_names(call, names, count, list, size);
    names_free(names, count);
    return code;
}

SKF_API ULONG SKF_EnumFiles(HAPPLICATION handle, LPSTR list, ULONG *size)
{
    CALL("SKF_EnumFiles", handle, APPLICATION, NULL, enum_files(&call, list, size));
}

static ULONG create_file(Call *call, const char *name, ULONG size, ULONG read_rights, ULONG write_rights)
{
    char folder[PATH_MAX];
    if (name == NULL)
        return SAR_INVALIDPARAMERR;
    if (!name_ok(name) || !folder_of(call, folder))
        return SAR_NAMELENERR;
    ULONG code = may_create(call);
    if (code != SAR_OK)
        return code;
    if (exists(folder, name))
        return SAR_FILE_ALREADY_EXIST;
    if (size > space_free(call))
        return SAR_NO_ROOM;
    BYTE *zeros = calloc(1, (size_t)size + 1);
    if (zeros == NULL)
        return SAR_MEMORYERR;
    bool done = set_rights(call, READ, name, read_rights) && set_rights(call, WRITE, name, write_rights) &&
                write_file(folder, name, zeros, size);
    free(zeros);
    return done ? SAR_OK : SAR_WRITEFILEERR;
}

SKF_API ULONG SKF_CreateFile(HAPPLICATION handle, LPSTR name, ULONG size, ULONG read_rights, ULONG write_rights)
{
    CALL("SKF_CreateFile", handle, APPLICATION, NULL, create_file(&call, name, size, read_rights, write_rights));
}

/* Opens a file for a call: its octets, or NULL and the code to answer. Whether it may be read is left to the caller. */
static BYTE *load(Call *call, const char *name, char folder[PATH_MAX], size_t *size, ULONG *code)
{
    *code = name == NULL ? SAR_INVALIDPARAMERR : !name_ok(name) || !folder_of(call, folder) ? SAR_NAMELENERR : SAR_OK;
    BYTE *data = *code == SAR_OK ? read_file(folder, name, size) : NULL;
    if (*code == SAR_OK && data == NULL)
        *code = SAR_FILE_NOT_EXIST;
    return data;
}

static ULONG file_info(Call *call, const char *name, FILEATTRIBUTE *info)
{
    char folder[PATH_MAX];
    size_t size;
    ULONG code;
    if (info == NULL)
        return SAR_INVALIDPARAMERR;
    BYTE *data = load(call, name, folder, &size, &code);
    if (code == SAR_OK) {
        memset(info, 0, sizeof *info);
        memset(info->FileName, fault(call, "unterminated") == NULL ? 0 : 'x', sizeof info->FileName);
        memcpy(info->FileName, name, strlen(name));
        info->FileSize = (ULONG)size;
        info->ReadRights = rights(call, READ, name);
        info->WriteRights = rights(call, WRITE, name);
        const char *claimed = fault(call, "file_size");
        if (claimed != NULL)
            info->FileSize = (ULONG)strtoul(claimed, NULL, 0);
    }
    free(data);
    return code;
}

SKF_API ULONG SKF_GetFileInfo(HAPPLICATION handle, LPSTR name, FILEATTRIBUTE *info)
{
    CALL("SKF_GetFileInfo", handle, APPLICATION, NULL, file_info(&call, name, info));
}

/* The most octets that one ReadFile or WriteFile carries: MaxBufferSize of DEVINFO, where the device insists on it. */
static bool too_much(const Call *call, ULONG size)
{
    return number(call->device_path, "device.conf", "insist_on_max_buffer", 0) != 0 &&
           size > number(call->device_path, "device.conf", "max_buffer", 4096);
}

static ULONG read_part(Call *call, const char *name, ULONG offset, ULONG size, BYTE *out, ULONG *room)
{
    char folder[PATH_MAX];
    size_t all;
    ULONG code;
    BYTE *data = load(call, name, folder, &all, &code);
    if (code == SAR_OK)
        code = right_met(call->application, rights(call, READ, name));
    if (code == SAR_OK && (offset > all || too_much(call, size)))
        code = offset > all ? SAR_INVALIDPARAMERR : SAR_INDATALENERR;
    if (code == SAR_OK)
        code = give(call, data + offset, size < all - offset ? size : all - offset, out, room);
    free(data);
    return code;
}

SKF_API ULONG SKF_ReadFile(HAPPLICATION handle, LPSTR name, ULONG offset, ULONG size, BYTE *out, ULONG *room)
{
    CALL("SKF_ReadFile", handle, APPLICATION, NULL, read_part(&call, name, offset, size, out, room));
}

static ULONG write_part(Call *call, const char *name, ULONG offset, const BYTE *part, ULONG size)
{
    char folder[PATH_MAX];
    size_t all;
    ULONG code;
    BYTE *data = load(call, name, folder, &all, &code);
    if (code == SAR_OK)
        code = part == NULL ? SAR_INVALIDPARAMERR : right_met(call->application, rights(call, WRITE, name));
    if (code == SAR_OK && (offset > all || size > all - offset || too_much(call, size)))
        code = SAR_INDATALENERR; /* a file never grows */
    if (code == SAR_OK) {
        memcpy(data + offset, part, size);
        code = write_file(folder, name, data, all) ? SAR_OK : SAR_WRITEFILEERR;
    }
    free(data);
    return code;
}

SKF_API ULONG SKF_WriteFile(HAPPLICATION handle, LPSTR name, ULONG offset, BYTE *part, ULONG size)
{
    CALL("SKF_WriteFile", handle, APPLICATION, NULL, write_part(&call, name, offset, part, size));
}

static ULONG delete_file(Call *call, const char *name)
{
    char folder[PATH_MAX];
    size_t size;
    ULONG code;
    free(load(call, name, folder, &size, &code));
    if (code == SAR_OK)
        code = may_create(call);
    if (code == SAR_OK && !remove_file(folder, name))
        code = SAR_WRITEFILEERR;
    return code;
}

SKF_API ULONG SKF_DeleteFile(HAPPLICATION handle, LPSTR name)
{
    CALL("SKF_DeleteFile", handle, APPLICATION, NULL, delete_file(&call, name));
}
