/* Files, settings, locks. Every write goes to another name first and is renamed. TEST ONLY: see ../README.md. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

bool join(char *out, const char *folder, const char *name)
{
    int length = snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return length > 0 && length < PATH_MAX;
}

bool exists(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return join(path, folder, name) && access(path, F_OK) == 0;
}

bool name_is_safe(const char *name, size_t longest)
{
    return *name != '\0' && *name != '.' && strlen(name) <= longest && strchr(name, '/') == NULL;
}

BYTE *read_file(const char *folder, const char *name, size_t *size)
{
    char path[PATH_MAX];
    struct stat facts;
    if (!join(path, folder, name))
        return NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return NULL;
    BYTE *data = NULL;
    if (fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) && (data = malloc((size_t)facts.st_size + 1)) != NULL) {
        size_t have = 0, all = (size_t)facts.st_size;
        ssize_t got;
        while (have < all && (got = read(file, data + have, all - have)) > 0)
            have += (size_t)got;
        data[have] = '\0';
        *size = have;
    }
    close(file);
    return data;
}

bool write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[PATH_MAX], draft[PATH_MAX];
    int length = snprintf(draft, sizeof draft, "%s/.draft.%ld.XXXXXX", folder, (long)getpid());
    if (!join(path, folder, name) || length >= PATH_MAX)
        return false;
    int file = mkostemp(draft, O_CLOEXEC);
    if (file < 0)
        return false;
    size_t have = 0;
    ssize_t put = 1;
    while (have < size && (put = write(file, (const BYTE *)data + have, size - have)) > 0)
        have += (size_t)put;
    bool done = close(file) == 0 && put > 0 && rename(draft, path) == 0;
    if (!done)
        unlink(draft);
    return done;
}

bool remove_file(const char *folder, const char *name)
{
    char path[PATH_MAX];
    return join(path, folder, name) && unlink(path) == 0;
}

bool remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;
    if (folder == NULL)
        return unlink(path) == 0;
    while ((entry = readdir(folder)) != NULL) {
        char below[PATH_MAX];
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && join(below, path, entry->d_name))
            remove_tree(below);
    }
    closedir(folder);
    return rmdir(path) == 0;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_octets(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

char **names_of(const char *folder, size_t *count)
{
    struct dirent **entries = NULL;
    int found = scandir(folder, &entries, is_visible, by_octets);
    char **names = calloc(found > 0 ? (size_t)found : 1, sizeof *names);
    *count = 0;
    for (int i = 0; i < found; i++) {
        if (names != NULL && (names[*count] = strdup(entries[i]->d_name)) != NULL)
            ++*count;
        free(entries[i]);
    }
    free(entries);
    return names;
}

void names_free(char **names, size_t count)
{
    while (names != NULL && count > 0)
        free(names[--count]);
    free(names);
}

/* Finds the line "key=..." in settings; *end is behind its last octet. */
static char *find_line(char *text, const char *key, char **end)
{
    size_t length = strlen(key);
    for (char *line = text; *line != '\0'; line = *end + (**end == '\n')) {
        *end = line + strcspn(line, "\n");
        if (strncmp(line, key, length) == 0 && line[length] == '=')
            return line;
    }
    return NULL;
}

bool setting(const char *folder, const char *file, const char *key, char value[VALUE_ROOM])
{
    size_t size;
    char *end, *line, *text = (char *)read_file(folder, file, &size);
    bool found = text != NULL && (line = find_line(text, key, &end)) != NULL;
    if (found) {
        char *start = line + strlen(key) + 1;
        snprintf(value, VALUE_ROOM, "%.*s", (int)(end - start), start);
    }
    free(text);
    return found;
}

unsigned long number(const char *folder, const char *file, const char *key, unsigned long otherwise)
{
    char value[VALUE_ROOM];
    return setting(folder, file, key, value) ? strtoul(value, NULL, 0) : otherwise;
}

bool set_setting(const char *folder, const char *file, const char *key, const char *value)
{
    size_t size = 0;
    char *end, *changed = NULL, *text = (char *)read_file(folder, file, &size);
    char *line = text == NULL ? NULL : find_line(text, key, &end);
    int length;
    if (line == NULL)
        length = asprintf(&changed, "%s%s=%s\n", text == NULL ? "" : text, key, value);
    else
        length = asprintf(&changed, "%.*s%s=%s%s", (int)(line - text), text, key, value, *end == '\0' ? "\n" : end);
    bool done = length >= 0 && write_file(folder, file, changed, (size_t)length);
    if (length >= 0)
        free(changed);
    free(text);
    return done;
}

int lock_folder(const char *folder)
{
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor >= 0 && flock(descriptor, LOCK_EX) != 0) {
        close(descriptor);
        return -1;
    }
    return descriptor;
}
