/* What the PKCS#11 module adds to the shared sources. TEST ONLY: see ../README.md. */
#ifndef SOFTGM_PKCS11_OWN_H
#define SOFTGM_PKCS11_OWN_H

#define FAULTS_VARIABLE "SOFTGM_PKCS11_FAULTS"
#define CODE_OK 0
#define CODE_REMOVED 0x32 /* CKR_DEVICE_REMOVED */

typedef struct Session Session;
typedef struct Token Token;
typedef struct Profile Profile;

#define OWN_CALL_FIELDS                                                                                                \
    Session *session;                                                                                                  \
    Token *token;                                                                                                      \
    const Profile *profile;

#endif
