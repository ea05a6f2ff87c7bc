/* What the files of the module share. TEST ONLY: see ../README.md. */
#ifndef SOFTGM_PKCS11_INTERNAL_H
#define SOFTGM_PKCS11_INTERNAL_H

#include "common.h"
#include "pkcs11.h"

#define NAME_ROOM 129      /* the name of a token's folder, and its NUL */
#define SETTINGS "token.conf"
#define MODULE_SETTINGS "module.conf"
#define SOFTHSM_SETTINGS "softhsm2.conf"
#define SM2_OCTETS 32
#define TRIES 6 /* wrong PINs until one is locked, unless token.conf says otherwise */

extern const BYTE SM2_PARAMS[10]; /* CKA_EC_PARAMS of the SM2 curve */

/* ---- profiles.c ---- */

enum { GENERATES = 1, SIGNS_E = 2, SIGNS_SM3 = 4, WITH_Z = 8, AS_DER = 16 };

typedef struct {
    CK_MECHANISM_TYPE number;
    unsigned use;
} Mechanism;

#define MECHANISMS_MAX 8

struct Profile {
    const char *name;
    CK_KEY_TYPE key_type;
    Mechanism mechanisms[MECHANISMS_MAX]; /* up to the first without a use */
    bool private_point;                   /* the private key has CKA_EC_POINT */
    bool coordinates;                     /* CKA_VENDOR_X and _Y in place of CKA_EC_POINT */
};

/* The profile that the environment or module.conf names; NULL if there is none of that name. */
const Profile *profile_now(const char *root);
/* A mechanism of the profile, or NULL. */
const Mechanism *profile_mechanism(const Profile *profile, CK_MECHANISM_TYPE number);
/* The number of the mechanism that generates keys. */
CK_MECHANISM_TYPE profile_generation(const Profile *profile);

/* ---- tokens.c: one instance of SoftHSM for each token ---- */

struct Token {
    Token *next;
    char name[NAME_ROOM]; /* of its folder */
    char path[PATH_MAX];
    CK_SLOT_ID slot;
    unsigned long insertions; /* how often it was plugged in when its sessions began */
    CK_FUNCTION_LIST *real;       /* NULL until it is needed */
    void *library;
    int file;
    CK_SLOT_ID real_slot;
    bool seen; /* events: it was there when last reported */
    unsigned long seen_insertions;
};

extern Token *tokens;

bool root_folder(char root[PATH_MAX]);
/* Looks for folders of new tokens. */
void tokens_scan(const char *root);
void tokens_forget(void);
Token *token_of(CK_SLOT_ID slot);
/* True if the folder of a token is there and not marked as removed. */
bool plugged(const char *path);
unsigned long insertions_of(const char *path);
/* Sees whether the token is there. If it was pulled since, its sessions die and everyone is logged out. */
bool token_present(Token *token);
/* Loads SoftHSM for a token. */
bool token_load(Token *token);

/* ---- sessions.c ---- */

struct Session {
    Session *next;
    CK_SESSION_HANDLE handle;
    Token *token;
    CK_SESSION_HANDLE real; /* of SoftHSM */
    bool dead;              /* the token was pulled */
    /* a search */
    bool finding;
    CK_OBJECT_HANDLE *found;
    size_t found_count, found_at;
    /* a signature by a mechanism of the profile */
    const Mechanism *signing;
    EVP_PKEY *key;
    BYTE x[SM2_OCTETS], y[SM2_OCTETS];
    BYTE *data;
    size_t data_size;
};

Session *session_of(CK_SESSION_HANDLE handle);
Session *session_new(Token *token, CK_SESSION_HANDLE real);
void session_free(Session *session);
/* Marks those of a token as dead, or frees them; NULL: of all tokens. */
void sessions_kill(const Token *token);
void sessions_free(const Token *token);
size_t sessions_count(const Token *token);
void find_end(Session *session);
void sign_end(Session *session);

/* ---- module.c: the frame around each call ---- */

void module_lock(void);
void module_unlock(void);
/* Counts C_Initialize and C_Finalize: a waiting call sees that the module went away. 0: not initialised. */
unsigned long module_life(void);

/* Each takes the lock, finds what the call is about and lets faults act. */
CK_RV begin(Call *call, const char *function);
CK_RV begin_slot(Call *call, const char *function, CK_SLOT_ID slot, bool must_be_present);
CK_RV begin_session(Call *call, const char *function, CK_SESSION_HANDLE session);
CK_RV call_end(Call *call, CK_RV code);

/* The body of an exported function: `act` is evaluated inside the frame of a call that one of these began. */
#define CALL(beginning, act)                                                                                           \
    Call call;                                                                                                         \
    CK_RV code = beginning;                                                                                            \
    if (call.run)                                                                                                      \
        code = (act);                                                                                                  \
    return call_end(&call, code)
#define SESSION_CALL(function, session, act) CALL(begin_session(&call, function, session), act)
#define SLOT_CALL(function, slot, act) CALL(begin_slot(&call, function, slot, true), act)
#define REAL(call) (call).token->real

/* Hands out items of `unit` octets, see give_items. */
CK_RV give(Call *call, const void *data, size_t count, size_t unit, void *out, CK_ULONG *room);

/* ---- attributes.c ---- */

typedef enum { NOT_SM2, SM2_PUBLIC, SM2_PRIVATE } Sm2Kind;

Sm2Kind sm2_kind(const Session *session, CK_OBJECT_HANDLE object);
/* An attribute as SoftHSM has it; returns its octets, or 0 if there is none or it has more than `room`. */
size_t real_attribute(const Session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, void *value,
                      size_t room);
/* The private key with its public coordinates; NULL if SoftHSM does not give its value. */
EVP_PKEY *sm2_key(const Session *session, CK_OBJECT_HANDLE object, BYTE x[SM2_OCTETS], BYTE y[SM2_OCTETS]);
/* True if the module shows this attribute of SM2 keys otherwise than SoftHSM has it. */
bool is_shown(CK_ATTRIBUTE_TYPE type);
/* One attribute as the module shows it. */
CK_RV show(const Call *call, CK_OBJECT_HANDLE object, Sm2Kind kind, CK_ATTRIBUTE *attribute);

#endif
