/* What the files of the library share. TEST ONLY: see ../README.md. */
#ifndef SOFTSKF_INTERNAL_H
#define SOFTSKF_INTERNAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include <openssl/evp.h>

#include "skf.h"

#define NAME_ROOM 129  /* the longest name any SKF header allows, and its NUL */
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

/* ---- handles.c: handles, the state of the device, the frame around each call ---- */

typedef enum { NO_HANDLE, DEVICE, APPLICATION, CONTAINER, DIGEST } Kind;

typedef struct Handle {
    struct Handle *next;
    struct Handle *parent; /* the application of a container, the device of an application or a digest */
    Kind kind;
    char name[NAME_ROOM];
    char path[PATH_MAX];
    unsigned long insertions; /* device: how often it was plugged in when it was connected */
    bool challenged;          /* device: the last GenRandom gave 8 octets */
    BYTE challenge[8];
    int exclusive; /* device: descriptor of the lock that LockDev holds, or -1 */
    struct {
        EVP_PKEY *key;
        ino_t inode;
        struct timespec changed;
    } cached[2]; /* container: encryption and signing key as last read */
    EVP_MD_CTX *digest;
} Handle;

typedef enum { FROM_ENVIRONMENT, FROM_ROOT, FROM_DEVICE } Source;

typedef struct {
    char name[24];
    char argument[VALUE_ROOM];
    bool late;
    bool counted;
    Source source;
    int line;
} Fault;

/* One call of an exported function. */
typedef struct {
    const char *function;
    bool run; /* the function itself is to act: its handles are good and no fault took its place */
    char root[PATH_MAX];
    char device_path[PATH_MAX]; /* empty if the call has no device */
    Handle *handle, *device, *application, *container;
    Fault faults[FAULTS_MAX];
    int fault_count;
} Call;

/* Begins a call: takes the library's lock, checks the handle and its kind, sees that the device is there, lets faults
 * act. `name` is that of the device for calls that have no handle, or NULL. */
ULONG call_begin(Call *call, const char *function, HANDLE handle, Kind kind, const char *name);
ULONG call_end(Call *call, ULONG code);

/* The body of an exported function: `act` is evaluated inside the frame of a call. */
#define CALL(function, handle, kind, device_name, act)                                                                 \
    Call call;                                                                                                         \
    ULONG code = call_begin(&call, function, handle, kind, device_name);                                               \
    if (call.run)                                                                                                      \
        code = (act);                                                                                                  \
    return call_end(&call, code)

void library_lock(void);
void library_unlock(void);

Handle *handle_new(Kind kind, Handle *parent, const char *name, const char *path);
/* Ends a handle and those below it. */
void handle_end(Handle *handle);
bool root_folder(char root[PATH_MAX]);
/* True if the folder of a device is there and not marked as removed. */
bool plugged(const char *device_path);
unsigned long insertions_of(const char *device_path);

/* What the device has let this process do since it was plugged in: logins of an application, authentication of a
 * device. Kept by path, so every handle of an application in this process sees the same. */
enum { STATE_ADMIN = 1, STATE_USER = 2, STATE_DEVICE = 4 };
bool state_has(const Handle *handle, unsigned bit);
void state_set(const Handle *handle, unsigned bit);
void state_clear(const Handle *handle, unsigned bits);
/* SAR_OK if the rights (RIGHT_...) of a file are met by the logins of its application. */
ULONG right_met(const Handle *application, ULONG right);

/* ---- faults.c ---- */

void faults_load(Call *call);
/* The argument of a fault set for this call ("" if it has none), or NULL; counts it down if it has `times`. */
const char *fault(Call *call, const char *name);
/* Lets the faults of every function act (delay, hang, crash, unplug, return, no_output). True: they took over, and
 * the call ends with *code. */
bool faults_act(Call *call, bool late, ULONG *code);

/* ---- output.c: results of which the caller asks the size first ---- */

ULONG give(Call *call, const void *data, size_t size, void *out, ULONG *room);
ULONG give_names(Call *call, char **names, size_t count, void *out, ULONG *room);

/* ---- device.c ---- */

/* Octets left for files on the device of a call. */
ULONG space_free(const Call *call);

/* ---- pins.c ---- */

bool pin_length_ok(const char *pin);
bool pin_create(const char *application_path, ULONG type, const char *pin, ULONG tries, bool factory);

/* ---- keys.c ---- */

typedef enum { KEY_NONE, KEY_RSA, KEY_SM2 } KeyKind;

/* The key of a container (sign: signing key, else encryption key), owned by the handle; NULL if there is none. */
EVP_PKEY *container_key(Handle *container, bool sign);
KeyKind key_kind(const EVP_PKEY *key);
bool key_save(Handle *container, EVP_PKEY *key);
bool ecc_blob(const EVP_PKEY *key, ECCPUBLICKEYBLOB *blob);
bool rsa_blob(const EVP_PKEY *key, RSAPUBLICKEYBLOB *blob);
/* A public key from a record; NULL if the record is malformed. */
EVP_PKEY *ecc_key(const ECCPUBLICKEYBLOB *blob);
EVP_PKEY *rsa_key(const RSAPUBLICKEYBLOB *blob);

#endif
