/* What the files of the library share. TEST ONLY: see ../README.md. */
#ifndef SOFTSKF_INTERNAL_H
#define SOFTSKF_INTERNAL_H

#include <sys/types.h>
#include <time.h>

#include "common.h"
#include "skf.h"

#define NAME_ROOM 129 /* the longest name any SKF header allows, and its NUL */

/* ---- handles.c: handles, the state of the device, the frame around each call ---- */

typedef enum { NO_HANDLE, DEVICE, APPLICATION, CONTAINER, DIGEST } Kind;

struct Handle {
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
};

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
