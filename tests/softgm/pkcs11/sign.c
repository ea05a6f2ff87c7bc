/* Signatures. TEST ONLY: see ../README.md.
 *
 * A mechanism of the profile runs beside CKM_ECDSA of SoftHSM with the same key, whose result is thrown away: so it is
 * SoftHSM that says whether the key may sign, the user is logged in, or the PIN is needed again.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define RAW_OCTETS (2 * SM2_OCTETS)
#define DER_OCTETS 72 /* at most */
#define REAL_ROOM 2048

static const BYTE DEFAULT_ID[] = "1234567812345678";

static CK_RV sign_init(Call *call, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE object)
{
    Session *session = call->session;
    CK_MECHANISM plain = {CKM_ECDSA, NULL, 0};
    const Mechanism *own = mechanism == NULL ? NULL : profile_mechanism(call->profile, mechanism->mechanism);
    if (own == NULL) {
        CK_RV code = REAL(*call)->C_SignInit(session->real, mechanism, object);
        if (code == CKR_OK)
            sign_end(session);
        return code;
    }
    if (session->signing != NULL)
        return CKR_OPERATION_ACTIVE;
    if (!(own->use & (SIGNS_E | SIGNS_SM3)))
        return CKR_MECHANISM_INVALID;
    if (mechanism->pParameter != NULL || mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    CK_RV code = REAL(*call)->C_SignInit(session->real, &plain, object);
    if (code != CKR_OK)
        return code;
    session->key = sm2_kind(session, object) == SM2_PRIVATE ? sm2_key(session, object, session->x, session->y) : NULL;
    if (session->key == NULL) {
        BYTE e[E_OCTETS] = {0}, result[REAL_ROOM];
        CK_ULONG size = sizeof result;
        code = sm2_kind(session, object) == SM2_PRIVATE ? CKR_KEY_FUNCTION_NOT_PERMITTED : CKR_KEY_TYPE_INCONSISTENT;
        REAL(*call)->C_Sign(session->real, e, sizeof e, result, &size); /* ends what was begun */
        return code;
    }
    session->signing = own;
    return CKR_OK;
}

CK_RV C_SignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    SESSION_CALL("C_SignInit", session, sign_init(&call, mechanism, key));
}

/* ---- results ---- */

static bool lengths_lie(const Call *call)
{
    return fault_waits(call, "length") || fault_waits(call, "oversize") || fault_waits(call, "overrun") ||
           fault_waits(call, "substitute");
}

/* True if the caller only asks the size, or gave too little room: *code is the answer, and the operation goes on. */
static bool asks_size(Call *call, size_t size, const void *out, CK_ULONG *room, CK_RV *code)
{
    static const BYTE nothing[REAL_ROOM];
    if (out != NULL && (*room >= size || lengths_lie(call)))
        return false;
    *code = give(call, nothing, size, 1, NULL, room);
    if (*code == CKR_OK && out != NULL)
        *code = CKR_BUFFER_TOO_SMALL;
    return true;
}

/* ---- SM2 ---- */

static bool is(const char *kind, const char *wanted)
{
    return strcmp(kind, wanted) == 0;
}

/* The 32 octets that are signed. */
static bool find_e(const Session *session, const char *kind, const BYTE *data, size_t size, BYTE e[E_OCTETS])
{
    unsigned use = session->signing->use;
    bool with_z = ((use & WITH_Z) || is(kind, "with_z")) && !is(kind, "no_z");
    if ((use & SIGNS_E) && !with_z) {
        memcpy(e, data, E_OCTETS);
        return true;
    }
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool done = (with_z ? sm3_start_with_z(context, session->x, session->y, DEFAULT_ID, sizeof DEFAULT_ID - 1)
                        : digest_start(context, "SM3")) &&
                EVP_DigestUpdate(context, data, size) == 1 && EVP_DigestFinal_ex(context, e, NULL) == 1;
    EVP_MD_CTX_free(context);
    return done;
}

/* An INTEGER with two zero octets too many; returns its end. */
static BYTE *long_integer(BYTE *out, const BYTE number[SM2_OCTETS])
{
    *out++ = 0x02;
    *out++ = SM2_OCTETS + 2;
    *out++ = 0;
    *out++ = 0;
    memcpy(out, number, SM2_OCTETS);
    return out + SM2_OCTETS;
}

/* Writes r and s in the form of the mechanism, or in that of a fault. */
static size_t encode(const Session *session, const char *kind, const Sm2Signature *signature, BYTE out[DER_ROOM])
{
    if (is(kind, "nonminimal")) {
        out[0] = 0x30;
        out[1] = 2 * (SM2_OCTETS + 4);
        return (size_t)(long_integer(long_integer(out + 2, signature->r), signature->s) - out);
    }
    if (((session->signing->use & AS_DER) && !is(kind, "raw")) || is(kind, "der"))
        return sm2_der(signature, out);
    bool short_r = is(kind, "short_r"), short_s = is(kind, "short_s"); /* the zero octet in front is left out */
    size_t first = SM2_OCTETS - short_r, second = SM2_OCTETS - short_s;
    memcpy(out, signature->r + short_r, first);
    memcpy(out + first, signature->s + short_s, second);
    return first + second;
}

/* Ends the operation in SoftHSM, which has the last word. */
static CK_RV permitted(Call *call)
{
    BYTE e[E_OCTETS] = {0}, result[REAL_ROOM];
    CK_ULONG size = sizeof result;
    return REAL(*call)->C_Sign(call->session->real, e, sizeof e, result, &size);
}

static CK_RV sign_sm2(Call *call, const BYTE *data, size_t size, BYTE *out, CK_ULONG *room)
{
    static const char *const of_form[] = {"", "der", "raw", "nonminimal", "with_z", "no_z"};
    Session *session = call->session;
    Sm2Signature signature;
    BYTE e[E_OCTETS], encoded[DER_ROOM];
    CK_RV code = permitted(call);
    if (code == CKR_OK && (session->signing->use & SIGNS_E) && size != E_OCTETS)
        code = CKR_DATA_LEN_RANGE;
    if (code == CKR_OK) {
        const char *kind = fault(call, "signature"), *numbers;
        numbers = kind = kind == NULL ? "" : kind;
        for (size_t i = 0; i < sizeof of_form / sizeof *of_form; i++)
            if (is(kind, of_form[i]))
                numbers = "";
        size_t length = find_e(session, kind, data, size, e) && sm2_sign_as(numbers, session->key, e, &signature)
                            ? encode(session, kind, &signature, encoded)
                            : 0;
        code = length == 0 ? CKR_FUNCTION_FAILED : give(call, encoded, length, 1, out, room);
    }
    sign_end(session);
    return code;
}

/* ---- mechanisms of SoftHSM ---- */

static CK_RV sign_real(Call *call, BYTE *data, CK_ULONG size, BYTE *out, CK_ULONG *room)
{
    CK_SESSION_HANDLE session = call->session->real;
    BYTE result[REAL_ROOM] = {0}, changed[REAL_ROOM];
    CK_ULONG length = sizeof result, needed = 0;
    CK_RV code = REAL(*call)->C_Sign(session, data, size, NULL, &needed);
    if (code != CKR_OK || asks_size(call, needed, out, room, &code))
        return code;
    const char *kind = fault(call, "signature");
    kind = kind == NULL ? "" : kind;
    if (is(kind, "flip") && size > 0 && size <= sizeof changed) {
        memcpy(changed, data, size);
        changed[size - 1] ^= 1;
        data = changed;
    }
    code = REAL(*call)->C_Sign(session, data, size, result, &length);
    if (code != CKR_OK)
        return code;
    if (is(kind, "zero") || is(kind, "ones"))
        memset(result, *kind == 'z' ? 0 : 0xFF, length);
    bool cut = is(kind, "short");
    return give(call, result + cut, length - cut, 1, out, room);
}

static CK_RV sign(Call *call, BYTE *data, CK_ULONG size, BYTE *out, CK_ULONG *room)
{
    const Session *session = call->session;
    CK_RV code;
    if (room == NULL || (data == NULL && size > 0))
        return CKR_ARGUMENTS_BAD;
    if (session->signing == NULL)
        return sign_real(call, data, size, out, room);
    if (session->data != NULL)
        return CKR_OPERATION_ACTIVE; /* C_SignFinal is due */
    if (asks_size(call, session->signing->use & AS_DER ? DER_OCTETS : RAW_OCTETS, out, room, &code))
        return code;
    return sign_sm2(call, data, size, out, room);
}

CK_RV C_Sign(CK_SESSION_HANDLE session, CK_BYTE *data, CK_ULONG size, CK_BYTE *out, CK_ULONG *room)
{
    SESSION_CALL("C_Sign", session, sign(&call, data, size, out, room));
}

/* ---- in parts: the data is kept until C_SignFinal ---- */

static CK_RV sign_update(Call *call, BYTE *part, CK_ULONG size)
{
    Session *session = call->session;
    if (session->signing == NULL)
        return REAL(*call)->C_SignUpdate(session->real, part, size);
    if (session->signing->use & SIGNS_E) {
        permitted(call);
        sign_end(session);
        return CKR_FUNCTION_NOT_SUPPORTED;
    }
    BYTE *data = part == NULL && size > 0 ? NULL : realloc(session->data, session->data_size + size + 1);
    if (data == NULL)
        return CKR_ARGUMENTS_BAD;
    if (size > 0)
        memcpy(data + session->data_size, part, size);
    session->data = data;
    session->data_size += size;
    return CKR_OK;
}

CK_RV C_SignUpdate(CK_SESSION_HANDLE session, CK_BYTE *part, CK_ULONG size)
{
    SESSION_CALL("C_SignUpdate", session, sign_update(&call, part, size));
}

static CK_RV sign_final(Call *call, BYTE *out, CK_ULONG *room)
{
    const Session *session = call->session;
    CK_RV code;
    if (session->signing == NULL)
        return REAL(*call)->C_SignFinal(session->real, out, room);
    if (room == NULL || session->data == NULL)
        return room == NULL ? CKR_ARGUMENTS_BAD : CKR_OPERATION_NOT_INITIALIZED;
    if (asks_size(call, session->signing->use & AS_DER ? DER_OCTETS : RAW_OCTETS, out, room, &code))
        return code;
    return sign_sm2(call, session->data, session->data_size, out, room);
}

CK_RV C_SignFinal(CK_SESSION_HANDLE session, CK_BYTE *out, CK_ULONG *room)
{
    SESSION_CALL("C_SignFinal", session, sign_final(&call, out, room));
}
