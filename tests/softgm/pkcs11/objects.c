/* Objects made, copied, searched. TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* ---- templates ---- */

/* What makes a key on the SM2 curve readable for this module, and for no one else who goes through it. */
static CK_BBOOL yes = 1, no = 0;
static CK_KEY_TYPE ec = CKK_EC;

static bool is_protection(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_SENSITIVE || type == CKA_EXTRACTABLE;
}

static const CK_ATTRIBUTE *find(const CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ATTRIBUTE_TYPE type)
{
    for (CK_ULONG i = 0; i < count; i++)
        if (attributes[i].type == type)
            return &attributes[i];
    return NULL;
}

static bool has(const CK_ATTRIBUTE *attributes, CK_ULONG count, CK_ATTRIBUTE_TYPE type, const void *value, size_t size)
{
    const CK_ATTRIBUTE *found = find(attributes, count, type);
    return found != NULL && found->pValue != NULL && found->ulValueLen == size && memcmp(found->pValue, value, size) == 0;
}

/* Rewrites the template of an SM2 key for SoftHSM; the caller frees it. */
static CK_ATTRIBUTE *for_softhsm(const CK_ATTRIBUTE *attributes, CK_ULONG count, bool private, CK_ULONG *made)
{
    CK_ATTRIBUTE *out = calloc(count + 4, sizeof *out);
    CK_ULONG kept = 0;
    if (out == NULL)
        return NULL;
    for (CK_ULONG i = 0; i < count; i++)
        if (attributes[i].type != CKA_KEY_TYPE && attributes[i].type != CKA_EC_PARAMS &&
            !is_protection(attributes[i].type))
            out[kept++] = attributes[i];
    out[kept++] = (CK_ATTRIBUTE){CKA_KEY_TYPE, &ec, sizeof ec};
    if (private) {
        out[kept++] = (CK_ATTRIBUTE){CKA_SENSITIVE, &no, sizeof no};
        out[kept++] = (CK_ATTRIBUTE){CKA_EXTRACTABLE, &yes, sizeof yes};
    }
    *made = kept;
    return out;
}

static void add_curve(CK_ATTRIBUTE *attributes, CK_ULONG *count)
{
    attributes[(*count)++] = (CK_ATTRIBUTE){CKA_EC_PARAMS, (void *)SM2_PARAMS, sizeof SM2_PARAMS};
}

/* ---- making ---- */

static CK_RV create(Call *call, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    static const CK_ULONG private = CKO_PRIVATE_KEY, public = CKO_PUBLIC_KEY;
    const CK_KEY_TYPE *vendor = &call->profile->key_type;
    if (attributes == NULL || !(has(attributes, count, CKA_CLASS, &private, sizeof private) ||
                                has(attributes, count, CKA_CLASS, &public, sizeof public)) ||
        !(has(attributes, count, CKA_KEY_TYPE, vendor, sizeof *vendor) ||
          has(attributes, count, CKA_EC_PARAMS, SM2_PARAMS, sizeof SM2_PARAMS)))
        return REAL(*call)->C_CreateObject(call->session->real, attributes, count, out);
    CK_ULONG made;
    bool is_private = has(attributes, count, CKA_CLASS, &private, sizeof private);
    CK_ATTRIBUTE *rewritten = for_softhsm(attributes, count, is_private, &made);
    if (rewritten == NULL)
        return CKR_HOST_MEMORY;
    add_curve(rewritten, &made);
    CK_RV code = REAL(*call)->C_CreateObject(call->session->real, rewritten, made, out);
    free(rewritten);
    return code;
}

CK_RV C_CreateObject(CK_SESSION_HANDLE session, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    SESSION_CALL("C_CreateObject", session, create(&call, attributes, count, out));
}

static CK_RV copy(Call *call, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes, CK_ULONG count, CK_OBJECT_HANDLE *out)
{
    CK_ULONG kept = 0;
    CK_ATTRIBUTE *without = calloc(count + 1, sizeof *without);
    if (without == NULL)
        return CKR_HOST_MEMORY;
    bool sm2 = sm2_kind(call->session, object) != NOT_SM2;
    for (CK_ULONG i = 0; attributes != NULL && i < count; i++)
        if (!sm2 || !is_protection(attributes[i].type))
            without[kept++] = attributes[i];
    CK_RV code = REAL(*call)->C_CopyObject(call->session->real, object, without, kept, out);
    free(without);
    return code;
}

CK_RV C_CopyObject(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes, CK_ULONG count,
                   CK_OBJECT_HANDLE *out)
{
    SESSION_CALL("C_CopyObject", session, copy(&call, object, attributes, count, out));
}

typedef struct {
    CK_ATTRIBUTE *attributes;
    CK_ULONG count;
} Template;

static CK_RV generate(Call *call, CK_MECHANISM *mechanism, Template public, Template private,
                      CK_OBJECT_HANDLE *public_out, CK_OBJECT_HANDLE *private_out)
{
    CK_MECHANISM plain = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    const Mechanism *own = mechanism == NULL ? NULL : profile_mechanism(call->profile, mechanism->mechanism);
    const CK_ATTRIBUTE *curve = find(public.attributes, public.attributes == NULL ? 0 : public.count, CKA_EC_PARAMS);
    bool on_curve = curve != NULL && has(curve, 1, CKA_EC_PARAMS, SM2_PARAMS, sizeof SM2_PARAMS);
    if (own != NULL && !(own->use & GENERATES))
        return CKR_MECHANISM_INVALID;
    if (own != NULL && curve != NULL && !on_curve)
        return CKR_TEMPLATE_INCONSISTENT;
    if (own == NULL && !(on_curve && mechanism != NULL && mechanism->mechanism == CKM_EC_KEY_PAIR_GEN))
        return REAL(*call)->C_GenerateKeyPair(call->session->real, mechanism, public.attributes, public.count,
                                              private.attributes, private.count, public_out, private_out);
    if (public.attributes == NULL || private.attributes == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV code = CKR_HOST_MEMORY;
    CK_ULONG public_count, private_count;
    CK_ATTRIBUTE *first = for_softhsm(public.attributes, public.count, false, &public_count);
    CK_ATTRIBUTE *second = for_softhsm(private.attributes, private.count, true, &private_count);
    if (first != NULL && second != NULL) {
        add_curve(first, &public_count);
        code = REAL(*call)->C_GenerateKeyPair(call->session->real, &plain, first, public_count, second, private_count,
                                              public_out, private_out);
    }
    free(first);
    free(second);
    return code;
}

CK_RV C_GenerateKeyPair(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_ATTRIBUTE *public, CK_ULONG public_count,
                        CK_ATTRIBUTE *private, CK_ULONG private_count, CK_OBJECT_HANDLE *public_out,
                        CK_OBJECT_HANDLE *private_out)
{
    SESSION_CALL("C_GenerateKeyPair", session,
                 generate(&call, mechanism, (Template){public, public_count}, (Template){private, private_count},
                          public_out, private_out));
}

static CK_RV wrap(Call *call, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key, CK_BYTE *out,
                  CK_ULONG *room)
{
    if (sm2_kind(call->session, key) == SM2_PRIVATE)
        return CKR_KEY_UNEXTRACTABLE;
    return REAL(*call)->C_WrapKey(call->session->real, mechanism, wrapping, key, out, room);
}

CK_RV C_WrapKey(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE wrapping, CK_OBJECT_HANDLE key,
                CK_BYTE *out, CK_ULONG *room)
{
    SESSION_CALL("C_WrapKey", session, wrap(&call, mechanism, wrapping, key, out, room));
}

/* ---- searching: what SoftHSM finds is compared again as the module shows it ---- */

static bool matches(const Call *call, CK_OBJECT_HANDLE object, const CK_ATTRIBUTE *wanted, CK_ULONG count)
{
    Sm2Kind kind = sm2_kind(call->session, object);
    for (CK_ULONG i = 0; i < count; i++) {
        if (!is_shown(wanted[i].type))
            continue;
        BYTE *value = malloc(wanted[i].ulValueLen + 1);
        CK_ATTRIBUTE attribute = {wanted[i].type, value, wanted[i].ulValueLen};
        bool same = value != NULL && show(call, object, kind, &attribute) == CKR_OK &&
                    has(&attribute, 1, wanted[i].type, wanted[i].pValue, wanted[i].ulValueLen);
        free(value);
        if (!same)
            return false;
    }
    return true;
}

/* Takes everything SoftHSM finds; the search stays open there until it is ended here. */
static CK_RV collect(Call *call, const CK_ATTRIBUTE *wanted, CK_ULONG count)
{
    Session *session = call->session;
    CK_OBJECT_HANDLE some[64];
    for (;;) {
        CK_ULONG got = 0;
        CK_RV code = REAL(*call)->C_FindObjects(session->real, some, sizeof some / sizeof *some, &got);
        if (code != CKR_OK || got == 0)
            return code;
        CK_OBJECT_HANDLE *more = realloc(session->found, (session->found_count + got) * sizeof *more);
        if (more == NULL)
            return CKR_HOST_MEMORY;
        session->found = more;
        for (CK_ULONG i = 0; i < got; i++)
            if (matches(call, some[i], wanted, count))
                more[session->found_count++] = some[i];
    }
}

static CK_RV find_init(Call *call, CK_ATTRIBUTE *wanted, CK_ULONG count)
{
    CK_ULONG kept = 0;
    if (wanted == NULL)
        count = 0;
    CK_ATTRIBUTE *asked = calloc(count + 1, sizeof *asked);
    if (asked == NULL)
        return CKR_HOST_MEMORY;
    for (CK_ULONG i = 0; i < count; i++)
        if (!is_shown(wanted[i].type))
            asked[kept++] = wanted[i];
    CK_RV code = REAL(*call)->C_FindObjectsInit(call->session->real, asked, kept);
    free(asked);
    if (code != CKR_OK)
        return code;
    call->session->finding = true;
    code = collect(call, wanted, count);
    if (code != CKR_OK) {
        find_end(call->session);
        REAL(*call)->C_FindObjectsFinal(call->session->real);
    }
    return code;
}

CK_RV C_FindObjectsInit(CK_SESSION_HANDLE session, CK_ATTRIBUTE *wanted, CK_ULONG count)
{
    SESSION_CALL("C_FindObjectsInit", session, find_init(&call, wanted, count));
}

static CK_RV find_more(Call *call, CK_OBJECT_HANDLE *out, CK_ULONG most, CK_ULONG *count)
{
    Session *session = call->session;
    if (!session->finding)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (out == NULL || count == NULL)
        return CKR_ARGUMENTS_BAD;
    if (fault(call, "endless") != NULL)
        session->found_at = 0;
    size_t left = session->found_count - session->found_at, some = left < most ? left : most;
    *count = most;
    CK_RV code = give(call, session->found + session->found_at, some, sizeof *out, out, count);
    session->found_at += some;
    return code;
}

CK_RV C_FindObjects(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *out, CK_ULONG most, CK_ULONG *count)
{
    SESSION_CALL("C_FindObjects", session, find_more(&call, out, most, count));
}

static CK_RV find_final(Call *call)
{
    find_end(call->session);
    return REAL(*call)->C_FindObjectsFinal(call->session->real);
}

CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE session)
{
    SESSION_CALL("C_FindObjectsFinal", session, find_final(&call));
}
