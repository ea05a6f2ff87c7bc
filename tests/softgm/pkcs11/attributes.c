/* Attributes. SoftHSM keeps an SM2 key as an EC key whose value can be read; the module shows it as a device would: of
 * the vendor's key type, sensitive, not extractable. TEST ONLY: see ../README.md.
 */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <openssl/param_build.h>

#include "internal.h"

#define POINT_OCTETS (1 + 2 * SM2_OCTETS) /* 04, X, Y */

const BYTE SM2_PARAMS[10] = {0x06, 0x08, 0x2A, 0x81, 0x1C, 0xCF, 0x55, 0x01, 0x82, 0x2D};

size_t real_attribute(const Session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, void *value, size_t room)
{
    CK_ATTRIBUTE attribute = {type, value, room};
    CK_RV code = session->token->real->C_GetAttributeValue(session->real, object, &attribute, 1);
    return code == CKR_OK && attribute.ulValueLen <= room ? attribute.ulValueLen : 0;
}

Sm2Kind sm2_kind(const Session *session, CK_OBJECT_HANDLE object)
{
    CK_ULONG class, type;
    BYTE curve[64];
    if (real_attribute(session, object, CKA_CLASS, &class, sizeof class) == 0 ||
        (class != CKO_PUBLIC_KEY && class != CKO_PRIVATE_KEY) ||
        real_attribute(session, object, CKA_KEY_TYPE, &type, sizeof type) == 0 || type != CKK_EC ||
        real_attribute(session, object, CKA_EC_PARAMS, curve, sizeof curve) != sizeof SM2_PARAMS ||
        memcmp(curve, SM2_PARAMS, sizeof SM2_PARAMS) != 0)
        return NOT_SM2;
    return class == CKO_PRIVATE_KEY ? SM2_PRIVATE : SM2_PUBLIC;
}

/* ---- the key itself ---- */

/* The point of a private key as 04, X, Y. */
static bool multiply(const BIGNUM *d, BYTE point[POINT_OCTETS])
{
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_sm2);
    EC_POINT *result = EC_POINT_new(group);
    bool done = EC_POINT_mul(group, result, d, NULL, NULL, NULL) == 1 &&
                EC_POINT_point2oct(group, result, POINT_CONVERSION_UNCOMPRESSED, point, POINT_OCTETS, NULL) ==
                    POINT_OCTETS;
    EC_POINT_free(result);
    EC_GROUP_free(group);
    return done;
}

static EVP_PKEY *make_key(const BIGNUM *d, const BYTE point[POINT_OCTETS])
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *parameters = NULL;
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "SM2", NULL);
    if (OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, "SM2", 0) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, d) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, POINT_OCTETS) == 1 &&
        (parameters = OSSL_PARAM_BLD_to_param(builder)) != NULL && EVP_PKEY_fromdata_init(context) == 1 &&
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, parameters) != 1)
        key = NULL;
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    EVP_PKEY_CTX_free(context);
    return key;
}

EVP_PKEY *sm2_key(const Session *session, CK_OBJECT_HANDLE object, BYTE x[SM2_OCTETS], BYTE y[SM2_OCTETS])
{
    BYTE value[SM2_OCTETS], point[POINT_OCTETS];
    size_t size = real_attribute(session, object, CKA_VALUE, value, sizeof value);
    BIGNUM *d = size > 0 ? BN_bin2bn(value, (int)size, NULL) : NULL;
    EVP_PKEY *key = d != NULL && multiply(d, point) ? make_key(d, point) : NULL;
    if (key != NULL) {
        memcpy(x, point + 1, SM2_OCTETS);
        memcpy(y, point + 1 + SM2_OCTETS, SM2_OCTETS);
    }
    BN_clear_free(d);
    return key;
}

/* The point of an SM2 key as CKA_EC_POINT has it: an OCTET STRING in DER. */
static bool find_point(const Session *session, CK_OBJECT_HANDLE object, Sm2Kind kind, BYTE out[2 + POINT_OCTETS])
{
    if (kind == SM2_PUBLIC)
        return real_attribute(session, object, CKA_EC_POINT, out, 2 + POINT_OCTETS) == 2 + POINT_OCTETS;
    EVP_PKEY *key = sm2_key(session, object, out + 3, out + 3 + SM2_OCTETS);
    bool done = key != NULL;
    EVP_PKEY_free(key);
    out[0] = 0x04;
    out[1] = POINT_OCTETS;
    out[2] = 0x04;
    return done;
}

/* ---- as the module shows them ---- */

static const CK_ATTRIBUTE_TYPE shown[] = {
    CKA_VALUE,           CKA_KEY_TYPE,         CKA_SENSITIVE, CKA_EXTRACTABLE, CKA_NEVER_EXTRACTABLE,
    CKA_ALWAYS_SENSITIVE, CKA_KEY_GEN_MECHANISM, CKA_EC_POINT,  CKA_VENDOR_X,    CKA_VENDOR_Y,
};

bool is_shown(CK_ATTRIBUTE_TYPE type)
{
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        if (shown[i] == type)
            return true;
    return false;
}

static CK_RV put(CK_ATTRIBUTE *attribute, const void *value, size_t size)
{
    CK_ULONG room = attribute->ulValueLen;
    attribute->ulValueLen = size;
    if (attribute->pValue == NULL)
        return CKR_OK;
    if (room < size) {
        attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
        return CKR_BUFFER_TOO_SMALL;
    }
    memcpy(attribute->pValue, value, size);
    return CKR_OK;
}

static CK_RV refuse(CK_ATTRIBUTE *attribute, CK_RV code)
{
    attribute->ulValueLen = CK_UNAVAILABLE_INFORMATION;
    return code;
}

static CK_RV show_point(const Call *call, CK_OBJECT_HANDLE object, Sm2Kind kind, CK_ATTRIBUTE *attribute)
{
    BYTE point[2 + POINT_OCTETS];
    const Profile *profile = call->profile;
    bool has = attribute->type == CKA_EC_POINT ? !profile->coordinates && (kind == SM2_PUBLIC || profile->private_point)
                                               : profile->coordinates;
    if (!has || !find_point(call->session, object, kind, point))
        return refuse(attribute, CKR_ATTRIBUTE_TYPE_INVALID);
    if (attribute->type != CKA_EC_POINT)
        return put(attribute, point + (attribute->type == CKA_VENDOR_X ? 3 : 3 + SM2_OCTETS), SM2_OCTETS);
    return put(attribute, point, sizeof point);
}

CK_RV show(const Call *call, CK_OBJECT_HANDLE object, Sm2Kind kind, CK_ATTRIBUTE *attribute)
{
    static const CK_BBOOL yes = 1, no = 0;
    CK_MECHANISM_TYPE generation = profile_generation(call->profile);
    if (kind != NOT_SM2) {
        bool private = kind == SM2_PRIVATE;
        switch (attribute->type) {
        case CKA_KEY_TYPE:
            return put(attribute, &call->profile->key_type, sizeof call->profile->key_type);
        case CKA_EC_POINT:
        case CKA_VENDOR_X:
        case CKA_VENDOR_Y:
            return show_point(call, object, kind, attribute);
        case CKA_VALUE:
            if (private)
                return refuse(attribute, CKR_ATTRIBUTE_SENSITIVE);
            break;
        case CKA_SENSITIVE:
        case CKA_ALWAYS_SENSITIVE:
        case CKA_NEVER_EXTRACTABLE:
            if (private)
                return put(attribute, &yes, sizeof yes);
            break;
        case CKA_EXTRACTABLE:
            if (private)
                return put(attribute, &no, sizeof no);
            break;
        case CKA_KEY_GEN_MECHANISM: {
            CK_BBOOL local = 0;
            real_attribute(call->session, object, CKA_LOCAL, &local, sizeof local);
            return put(attribute, local ? &generation : &(CK_ULONG){CK_UNAVAILABLE_INFORMATION}, sizeof generation);
        }
        default:
            break;
        }
    }
    return REAL(*call)->C_GetAttributeValue(call->session->real, object, attribute, 1);
}

/* ---- C_GetAttributeValue, with its faults ---- */

/* A fault "N[@TYPE]": true if it means this attribute; then *value is N, or `otherwise`. */
static bool means(const char *argument, CK_ATTRIBUTE_TYPE type, unsigned long otherwise, unsigned long *value)
{
    if (argument == NULL)
        return false;
    const char *at = strchr(argument, '@');
    *value = *argument == '\0' || argument == at ? otherwise : strtoul(argument, NULL, 0);
    return at == NULL || strtoul(at + 1, NULL, 0) == type;
}

typedef struct {
    const char *length, *oversize, *overrun, *substitute, *point;
} Distortions;

/* CKA_VALUE of a certificate is a file of the token's folder. */
static bool substituted(const Call *call, CK_OBJECT_HANDLE object, const Distortions *odd, CK_ATTRIBUTE *attribute,
                        CK_RV *code)
{
    CK_ULONG class;
    size_t size;
    if (odd->substitute == NULL || attribute->type != CKA_VALUE ||
        real_attribute(call->session, object, CKA_CLASS, &class, sizeof class) == 0 || class != CKO_CERTIFICATE)
        return false;
    BYTE *other = read_file(call->device_path, odd->substitute, &size);
    *code = other == NULL ? CKR_FUNCTION_FAILED : put(attribute, other, size);
    free(other);
    return true;
}

static CK_RV show_oddly(const Call *call, CK_OBJECT_HANDLE object, Sm2Kind kind, const Distortions *odd,
                        CK_ATTRIBUTE *attribute)
{
    CK_ULONG room = attribute->ulValueLen;
    unsigned long value;
    CK_RV code;
    if (odd->point != NULL && kind == SM2_PUBLIC && attribute->type == CKA_EC_POINT) {
        BYTE point[2 + POINT_OCTETS]; /* without the OCTET STRING around it, as some modules give it */
        code = find_point(call->session, object, kind, point) ? put(attribute, point + 2, POINT_OCTETS)
                                                              : refuse(attribute, CKR_ATTRIBUTE_TYPE_INVALID);
    } else if (!substituted(call, object, odd, attribute, &code)) {
        code = show(call, object, kind, attribute);
    }
    if (means(odd->overrun, attribute->type, 1, &value) && attribute->pValue != NULL) {
        memset((BYTE *)attribute->pValue + room, 0xEE, value);
        attribute->ulValueLen = room + value;
        return CKR_OK;
    }
    if (means(odd->oversize, attribute->type, 16, &value) && attribute->pValue != NULL) {
        attribute->ulValueLen = room + value;
        return CKR_OK;
    }
    if (means(odd->length, attribute->type, 0, &value)) {
        attribute->ulValueLen = value;
        return CKR_OK;
    }
    return code;
}

static CK_RV get_attributes(Call *call, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    CK_RV code = CKR_OK;
    if (attributes == NULL || count == 0)
        return CKR_ARGUMENTS_BAD;
    Sm2Kind kind = sm2_kind(call->session, object);
    Distortions odd = {fault(call, "length"), fault(call, "oversize"), fault(call, "overrun"),
                       fault(call, "substitute"), fault(call, "raw_point")};
    for (CK_ULONG i = 0; i < count; i++) {
        CK_RV one = show_oddly(call, object, kind, &odd, &attributes[i]);
        code = code == CKR_OK ? one : code;
    }
    return code;
}

CK_RV C_GetAttributeValue(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *attributes, CK_ULONG count)
{
    SESSION_CALL("C_GetAttributeValue", session, get_attributes(&call, object, attributes, count));
}
