/* What the soft libraries share: files, faults, results by size, SM2. TEST ONLY: see ../README.md.
 *
 * Each library compiles these sources for itself, with an "own.h" of its own beside its sources. That header names
 *   OWN_CALL_FIELDS    what the library knows of a call beyond the fields of Call below
 *   FAULTS_VARIABLE    the environment variable with faults for everything
 *   CODE_OK, CODE_REMOVED    its answers for success, and for a device that is gone
 */
#ifndef SOFTGM_COMMON_H
#define SOFTGM_COMMON_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include <openssl/evp.h>

#include "own.h"

typedef unsigned char BYTE;

#define VALUE_ROOM 512 /* one value of a settings file, one argument of a fault */
#define FAULTS_MAX 16  /* faults that meet in one call */

/* ---- store.c: files and settings ---- */

/* Joins two parts of a path into PATH_MAX octets; false if they do not fit. */
bool join(char *out, const char *folder, const char *name);
bool exists(const char *folder, const char *name);
/* True if a name from outside may name a file: not empty, at most `longest` octets, no '/', no leading '.'. */
bool name_is_safe(const char *name, size_t longest);
/* Reads a whole file into malloc'ed memory with a NUL behind it; NULL if it cannot. */
BYTE *read_file(const char *folder, const char *name, size_t *size);
/* Writes a whole file under another name and renames it. */
bool write_file(const char *folder, const char *name, const void *data, size_t size);
bool remove_file(const char *folder, const char *name);
bool remove_tree(const char *path);
/* Lists the names in a folder, sorted, without those that begin with a dot; free with names_free. */
char **names_of(const char *folder, size_t *count);
void names_free(char **names, size_t count);
/* Settings files hold lines "key=value". */
bool setting(const char *folder, const char *file, const char *key, char value[VALUE_ROOM]);
unsigned long number(const char *folder, const char *file, const char *key, unsigned long otherwise);
bool set_setting(const char *folder, const char *file, const char *key, const char *value);
/* Locks a folder against other processes; returns a descriptor to close, or -1. */
int lock_folder(const char *folder);

/* ---- one call of an exported function ---- */

typedef enum { FROM_ENVIRONMENT, FROM_ROOT, FROM_DEVICE } Source;

typedef struct {
    char name[24];
    char argument[VALUE_ROOM];
    bool late;
    bool counted;
    Source source;
    int line;
} Fault;

typedef struct {
    const char *function;
    bool run; /* the function itself is to act: its handles are good and no fault took its place */
    char root[PATH_MAX];        /* the folder of devices; empty if there is none */
    char device_path[PATH_MAX]; /* empty if the call has no device */
    Fault faults[FAULTS_MAX];
    int fault_count;
    OWN_CALL_FIELDS
} Call;

/* ---- faults.c ---- */

void faults_load(Call *call);
/* The argument of a fault set for this call ("" if it has none), or NULL; counts it down if it has `times`. */
const char *fault(Call *call, const char *name);
/* True if fault() would find one: nothing is counted down. */
bool fault_waits(const Call *call, const char *name);
/* Lets the faults of every function act (delay, hang, crash, unplug, return, no_output). True: they took over, and
 * the call ends with *code. */
bool faults_act(Call *call, bool late, unsigned long *code);

/* ---- output.c: results of which the caller asks the size first ---- */

typedef enum { GIVEN, TOO_SMALL, NO_SUCH_FILE } Given;

/* Hands out `count` items of `unit` octets. *room: how many the buffer holds, then how many there are. The faults
 * length, oversize, overrun and substitute act here. */
Given give_items(Call *call, const void *data, size_t count, size_t unit, void *out, size_t *room);

/* ---- sm2.c ---- */

#define E_OCTETS 32
#define DER_ROOM 80 /* DER of two 256-bit numbers, and some */

typedef struct {
    BYTE r[32], s[32]; /* big-endian */
} Sm2Signature;

/* Signs e as it is. */
bool sm2_sign(EVP_PKEY *key, const BYTE e[E_OCTETS], Sm2Signature *out);
/* Signs in a way that is wrong or unusual: "" (right), zero, ones, flip, hash, other_key, ecdsa, short_r, short_s. False
 * for any other kind. */
bool sm2_sign_as(const char *kind, EVP_PKEY *key, const BYTE e[E_OCTETS], Sm2Signature *out);
/* DER of ECDSA-Sig-Value; returns its octets, or 0. */
size_t sm2_der(const Sm2Signature *signature, BYTE der[DER_ROOM]);
/* Starts SM3 (or another digest by name). */
bool digest_start(EVP_MD_CTX *context, const char *name);
/* Starts SM3 with Z of an ID and a public key (32 octets each) in it. */
bool sm3_start_with_z(EVP_MD_CTX *context, const BYTE *x, const BYTE *y, const BYTE *id, size_t size);

#endif
