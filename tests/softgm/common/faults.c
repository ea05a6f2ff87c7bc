/* Faults that a tester asks for. The table in ../README.md names each with its effect. TEST ONLY.
 *
 * A fault is one line "NAME FUNCTION [ARGUMENT] [times=N] [late]", FUNCTION may be "*". They are read before each call
 * from the environment variable of the library (FAULTS_VARIABLE; lines separated by ';' there), from the file "faults" beside the
 * devices, and from the file "faults" of the device.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define FAULTS_FILE "faults"

/* Reads one line; false if it is none, or one for another function. */
static bool parse(char *line, const char *function, Fault *found)
{
    char *rest = NULL, *word = strtok_r(line, " \t\r", &rest);
    if (word == NULL || *word == '#')
        return false;
    snprintf(found->name, sizeof found->name, "%s", word);
    word = strtok_r(NULL, " \t\r", &rest);
    if (word == NULL || (strcmp(word, "*") != 0 && strcmp(word, function) != 0))
        return false;
    while ((word = strtok_r(NULL, " \t\r", &rest)) != NULL) {
        if (strcmp(word, "late") == 0)
            found->late = true;
        else if (strncmp(word, "times=", 6) == 0)
            found->counted = true;
        else
            snprintf(found->argument, sizeof found->argument, "%s", word);
    }
    return true;
}

static void load(Call *call, char *text, Source source, const char *separators)
{
    for (int number = 0; text != NULL && call->fault_count < FAULTS_MAX; number++) {
        char *line = strsep(&text, separators);
        Fault found = {.source = source, .line = number};
        if (parse(line, call->function, &found))
            call->faults[call->fault_count++] = found;
    }
}

void faults_load(Call *call)
{
    const char *folders[] = {call->root, call->device_path};
    const char *set = getenv(FAULTS_VARIABLE);
    char *text = set == NULL ? NULL : strdup(set);
    load(call, text, FROM_ENVIRONMENT, ";\n");
    free(text);
    for (int i = 0; i < 2; i++) {
        size_t size;
        if (*folders[i] == '\0')
            continue;
        text = (char *)read_file(folders[i], FAULTS_FILE, &size);
        load(call, text, i == 0 ? FROM_ROOT : FROM_DEVICE, "\n");
        free(text);
    }
}

/* Counts one line of a file of faults down; a line that reaches nothing is emptied, so that the others keep their
 * numbers for the calls that are running. False if its count was used up already, by another process. */
static bool count_down(const char *folder, int number)
{
    int lock = lock_folder(folder);
    size_t size = 0, length = 0;
    char *text = (char *)read_file(folder, FAULTS_FILE, &size), *rest = text, *changed = NULL;
    FILE *out = open_memstream(&changed, &length);
    bool counted = false;
    for (int i = 0; rest != NULL && out != NULL; i++) {
        char *line = strsep(&rest, "\n"), *times = strstr(line, "times=");
        unsigned long left = times == NULL ? 0 : strtoul(times + 6, NULL, 10);
        if (i == number && left > 0) {
            counted = true;
            if (left > 1)
                fprintf(out, "%.*stimes=%lu%s", (int)(times - line), line, left - 1,
                        times + 6 + strspn(times + 6, "0123456789"));
        } else {
            fputs(line, out);
        }
        if (rest != NULL)
            fputc('\n', out);
    }
    if (out != NULL && fclose(out) == 0 && counted)
        counted = write_file(folder, FAULTS_FILE, changed, length);
    free(changed);
    free(text);
    if (lock >= 0)
        close(lock);
    return counted;
}

static bool take(Call *call, const Fault *found)
{
    if (!found->counted || found->source == FROM_ENVIRONMENT)
        return true;
    return count_down(found->source == FROM_ROOT ? call->root : call->device_path, found->line);
}

const char *fault(Call *call, const char *name)
{
    for (int i = 0; i < call->fault_count; i++)
        if (strcmp(call->faults[i].name, name) == 0 && take(call, &call->faults[i]))
            return call->faults[i].argument;
    return NULL;
}

bool fault_waits(const Call *call, const char *name)
{
    for (int i = 0; i < call->fault_count; i++)
        if (strcmp(call->faults[i].name, name) == 0)
            return true;
    return false;
}

static void wait_seconds(const char *argument)
{
    double seconds = strtod(argument, NULL);
    struct timespec left = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&left, &left) != 0)
        continue;
}

static void crash(const char *how)
{
    if (strcmp(how, "exit") == 0)
        _exit(3);
    if (strcmp(how, "abort") == 0)
        abort();
    static int *volatile nowhere;
    *nowhere = 0;
}

bool faults_act(Call *call, bool late, unsigned long *code)
{
    for (int i = 0; i < call->fault_count; i++) {
        Fault *found = &call->faults[i];
        static const char *const names[] = {"delay", "hang", "crash", "unplug", "return", "no_output"};
        int which = 0;
        while (which < 6 && strcmp(found->name, names[which]) != 0)
            which++;
        if (which == 6 || found->late != late || !take(call, found))
            continue;
        switch (which) {
        case 0:
            wait_seconds(found->argument);
            break;
        case 1:
            for (;;)
                pause();
        case 2:
            crash(found->argument);
            break;
        case 3:
            wait_seconds(found->argument);
            if (*call->device_path != '\0')
                write_file(call->device_path, "removed", "", 0);
            *code = CODE_REMOVED;
            return true;
        case 4:
            *code = strtoul(found->argument, NULL, 0);
            return true;
        default:
            *code = CODE_OK;
            return true;
        }
    }
    return false;
}
