/* Goes through most functions and faults of the module, for valgrind. TEST ONLY.
 *
 *   exercise MODULE TOKEN PIN
 * TOKEN is the folder of the only token in SOFTGM_PKCS11_DIR, with the profile "sansec", an SM2 key and a certificate.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11.h"

static CK_FUNCTION_LIST *p11;
static const char *token;
static CK_BYTE e[32] = {1, 2, 3};

static void expect_at(int line, CK_RV wanted, CK_RV code)
{
    if (code == wanted)
        return;
    fprintf(stderr, "line %d: 0x%lX instead of 0x%lX\n", line, code, wanted);
    exit(1);
}

#define EXPECT(wanted, call) expect_at(__LINE__, wanted, call)

static void put(const char *file, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", token, file);
    FILE *out = fopen(path, "w");
    if (out == NULL || fputs(text, out) < 0 || fclose(out) != 0)
        exit(2);
}

static void take(const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", token, file);
    unlink(path);
}

static CK_OBJECT_HANDLE find(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class)
{
    CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof class};
    CK_OBJECT_HANDLE found = 0;
    CK_ULONG count;
    EXPECT(CKR_OK, p11->C_FindObjectsInit(session, &wanted, 1));
    EXPECT(CKR_OK, p11->C_FindObjects(session, &found, 1, &count));
    EXPECT(CKR_OK, p11->C_FindObjectsFinal(session));
    EXPECT(1, count);
    return found;
}

static void lists(CK_SLOT_ID slot)
{
    static const char *const faults[] = {"", "length * 18446744073709551615\n", "oversize *\n", "overrun * 1\n"};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        CK_ULONG many[256 + 1], count; /* one more than the module is told, for "overrun" */
        CK_MECHANISM_INFO info;
        put("faults", faults[i]);
        EXPECT(CKR_OK, p11->C_GetMechanismList(slot, NULL, &count));
        count = 256;
        EXPECT(CKR_OK, p11->C_GetMechanismList(slot, many, &count));
        count = 256;
        EXPECT(CKR_OK, p11->C_GetSlotList(0, many, &count));
        EXPECT(CKR_OK, p11->C_GetMechanismInfo(slot, 0x80008104, &info));
    }
    take("faults");
}

static void texts(CK_SLOT_ID slot)
{
    static const char *const faults[] = {"", "text * nul\n", "text * blank\n", "text * gbk\n", "unterminated *\n"};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        CK_INFO info;
        CK_SLOT_INFO slot_info;
        CK_TOKEN_INFO token_info;
        put("faults", faults[i]);
        EXPECT(CKR_OK, p11->C_GetInfo(&info));
        EXPECT(CKR_OK, p11->C_GetSlotInfo(slot, &slot_info));
        EXPECT(CKR_OK, p11->C_GetTokenInfo(slot, &token_info));
    }
    take("faults");
}

static void attributes(CK_SESSION_HANDLE session)
{
    static const CK_ATTRIBUTE_TYPE types[] = {CKA_VALUE,     CKA_KEY_TYPE, CKA_SENSITIVE, CKA_EXTRACTABLE,
                                              CKA_EC_POINT,  CKA_CLASS,    CKA_LOCAL,     CKA_KEY_GEN_MECHANISM,
                                              CKA_VENDOR_X,  CKA_EC_PARAMS};
    static const char *const faults[] = {"", "length * 5\n", "oversize *\n", "overrun * 1\n", "raw_point *\n",
                                         "substitute * token.conf\n", "substitute * none\n"};
    CK_OBJECT_HANDLE objects[] = {find(session, CKO_PRIVATE_KEY), find(session, CKO_PUBLIC_KEY),
                                  find(session, CKO_CERTIFICATE)};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        put("faults", faults[i]);
        for (size_t j = 0; j < 3; j++)
            for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
                CK_BYTE value[2048 + 1];
                CK_ATTRIBUTE asked = {types[k], NULL, 0};
                p11->C_GetAttributeValue(session, objects[j], &asked, 1);
                asked = (CK_ATTRIBUTE){types[k], value, 2048};
                p11->C_GetAttributeValue(session, objects[j], &asked, 1);
                asked = (CK_ATTRIBUTE){types[k], value, 2};
                p11->C_GetAttributeValue(session, objects[j], &asked, 1);
            }
    }
    take("faults");
}

static void signatures(CK_SESSION_HANDLE session)
{
    static const char *const kinds[] = {"",    "zero", "ones",       "flip",   "hash", "other_key", "ecdsa",
                                        "der", "raw",  "nonminimal", "with_z", "no_z", "short_r"};
    static const CK_MECHANISM_TYPE numbers[] = {0x80008104, 0x80008105, 0x80008100, 0x80008103};
    CK_OBJECT_HANDLE key = find(session, CKO_PRIVATE_KEY);
    CK_BYTE signature[80];
    CK_ULONG size;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (size_t j = 0; j < 4; j++) {
            if (strcmp(kinds[i], "short_r") == 0 && j > 0)
                break; /* some hundred signatures: once is enough */
            char line[64];
            CK_MECHANISM mechanism = {numbers[j], NULL, 0};
            snprintf(line, sizeof line, "delay * 0\nsignature C_Sign %s times=1\n", kinds[i]);
            put("faults", line);
            EXPECT(CKR_OK, p11->C_SignInit(session, &mechanism, key));
            EXPECT(CKR_OK, p11->C_Sign(session, e, sizeof e, NULL, &size));
            size = sizeof signature;
            EXPECT(CKR_OK, p11->C_Sign(session, e, sizeof e, signature, &size));
        }
    take("faults");
    CK_MECHANISM mechanism = {0x80008102, NULL, 0}, ecdsa = {CKM_ECDSA, NULL, 0}, e_alone = {0x80008105, NULL, 0};
    EXPECT(CKR_OK, p11->C_SignInit(session, &mechanism, key));
    EXPECT(CKR_OPERATION_ACTIVE, p11->C_SignInit(session, &mechanism, key));
    EXPECT(CKR_OK, p11->C_SignUpdate(session, e, 7));
    EXPECT(CKR_OK, p11->C_SignUpdate(session, e, 9));
    size = sizeof signature;
    EXPECT(CKR_OK, p11->C_SignFinal(session, signature, &size));
    EXPECT(CKR_OK, p11->C_SignInit(session, &ecdsa, key));
    size = sizeof signature;
    EXPECT(CKR_OK, p11->C_Sign(session, e, sizeof e, signature, &size));
    EXPECT(CKR_OK, p11->C_SignInit(session, &e_alone, key));
    EXPECT(CKR_DATA_LEN_RANGE, p11->C_Sign(session, e, 31, signature, &size));
    EXPECT(CKR_OK, p11->C_SignInit(session, &e_alone, key)); /* left open: ends with the session */
}

static void keys(CK_SESSION_HANDLE session)
{
    CK_KEY_TYPE type = 0x80000004;
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_BBOOL no = 0;
    CK_OBJECT_HANDLE public, private, copy;
    CK_MECHANISM generation = {0x80008001, NULL, 0};
    CK_ATTRIBUTE session_key[] = {{CKA_KEY_TYPE, &type, sizeof type}, {0x1, &no, sizeof no}};
    CK_ATTRIBUTE made[] = {{CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type},
                           {CKA_VALUE, e, sizeof e}};
    CK_ATTRIBUTE hidden = {CKA_EXTRACTABLE, &no, sizeof no};
    EXPECT(CKR_OK, p11->C_GenerateKeyPair(session, &generation, session_key, 2, session_key, 2, &public, &private));
    EXPECT(CKR_OK, p11->C_DestroyObject(session, private));
    EXPECT(CKR_OK, p11->C_DestroyObject(session, public));
    EXPECT(CKR_OK, p11->C_CreateObject(session, made, 3, &private));
    EXPECT(CKR_OK, p11->C_CopyObject(session, private, &hidden, 1, &copy));
    EXPECT(CKR_OK, p11->C_DestroyObject(session, private));
    EXPECT(CKR_OK, p11->C_DestroyObject(session, copy));
}

static void *wait_for_event(void *slot)
{
    CK_SLOT_ID seen;
    EXPECT(CKR_OK, p11->C_WaitForSlotEvent(0, &seen, NULL));
    EXPECT(*(CK_SLOT_ID *)slot, seen);
    EXPECT(CKR_OK, p11->C_WaitForSlotEvent(0, &seen, NULL));
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_WaitForSlotEvent(0, &seen, NULL));
    return NULL;
}

int main(int count, char **arguments)
{
    CK_C_INITIALIZE_ARGS locking = {.flags = CKF_OS_LOCKING_OK};
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session, second;
    CK_ULONG slots = 1, size = 80;
    CK_BYTE signature[80];
    pthread_t waiting;
    CK_RV (*get)(CK_FUNCTION_LIST **);

    if (count != 4)
        return 2;
    token = arguments[2];
    void *module = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (module == NULL)
        return 2;
    *(void **)&get = dlsym(module, "C_GetFunctionList");
    EXPECT(CKR_OK, get(&p11));
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetSlotList(1, NULL, &slots));
    EXPECT(CKR_OK, p11->C_Initialize(&locking));
    EXPECT(CKR_OK, p11->C_GetSlotList(1, &slot, &slots));
    EXPECT(CKR_OK, p11->C_OpenSession(slot, 6, NULL, NULL, &session));
    CK_BYTE *pin = (CK_BYTE *)arguments[3];
    EXPECT(CKR_PIN_INCORRECT, p11->C_Login(session, CKU_USER, pin, 4));
    EXPECT(CKR_OK, p11->C_Login(session, CKU_USER, pin, strlen(arguments[3])));
    EXPECT(CKR_OK, p11->C_SetPIN(session, pin, strlen(arguments[3]), pin, strlen(arguments[3])));
    lists(slot);
    texts(slot);
    attributes(session);
    keys(session);
    signatures(session);
    EXPECT(CKR_OK, p11->C_CloseSession(session));
    EXPECT(CKR_OK, p11->C_OpenSession(slot, 6, NULL, NULL, &session));
    EXPECT(CKR_OK, p11->C_OpenSession(slot, 6, NULL, NULL, &second));
    EXPECT(CKR_OK, p11->C_Login(second, CKU_USER, pin, strlen(arguments[3])));
    EXPECT(CKR_OK, p11->C_FindObjectsInit(second, NULL, 0)); /* left open */

    pthread_create(&waiting, NULL, wait_for_event, &slot);
    usleep(300000);
    put("faults", "unplug C_Sign\n");
    EXPECT(CKR_DEVICE_REMOVED, p11->C_Sign(session, e, sizeof e, signature, &size));
    take("faults");
    EXPECT(CKR_DEVICE_REMOVED, p11->C_Logout(session));
    EXPECT(CKR_TOKEN_NOT_PRESENT, p11->C_CloseAllSessions(slot));
    EXPECT(CKR_DEVICE_REMOVED, p11->C_CloseSession(session));
    usleep(500000);
    put("insertions", "count=1\n");
    take("removed");
    usleep(500000);
    EXPECT(CKR_SESSION_HANDLE_INVALID, p11->C_Logout(second));
    EXPECT(CKR_OK, p11->C_OpenSession(slot, 6, NULL, NULL, &session));
    EXPECT(CKR_OK, p11->C_Finalize(NULL));
    pthread_join(waiting, NULL);
    EXPECT(CKR_OK, p11->C_Initialize(NULL));
    EXPECT(CKR_OK, p11->C_Finalize(NULL));
    puts("softgm-pkcs11: every answer as expected");
    return 0;
}
