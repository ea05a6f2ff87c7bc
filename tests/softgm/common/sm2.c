/* SM2 signatures, right and wrong ones; SM3 with Z. TEST ONLY: see ../README.md. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>

#include "common.h"

#define SHORT_TRIES 100000 /* one signature in 256 has a short r */

/* a, b and the base point of the SM2 curve (GB/T 32918.5), as they go into Z. */
static const BYTE CURVE[] = {
    0xFF, 0xFF, 0xFF, 0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
    0xFF, 0xFF, 0xFF, 0xFF, 0x00, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFC,
    0x28, 0xE9, 0xFA, 0x9E, 0x9D, 0x9F, 0x5E, 0x34, 0x4D, 0x5A, 0x9E, 0x4B, 0xCF, 0x65, 0x09, 0xA7,
    0xF3, 0x97, 0x89, 0xF5, 0x15, 0xAB, 0x8F, 0x92, 0xDD, 0xBC, 0xBD, 0x41, 0x4D, 0x94, 0x0E, 0x93,
    0x32, 0xC4, 0xAE, 0x2C, 0x1F, 0x19, 0x81, 0x19, 0x5F, 0x99, 0x04, 0x46, 0x6A, 0x39, 0xC9, 0x94,
    0x8F, 0xE3, 0x0B, 0xBF, 0xF2, 0x66, 0x0B, 0xE1, 0x71, 0x5A, 0x45, 0x89, 0x33, 0x4C, 0x74, 0xC7,
    0xBC, 0x37, 0x36, 0xA2, 0xF4, 0xF6, 0x77, 0x9C, 0x59, 0xBD, 0xCE, 0xE3, 0x6B, 0x69, 0x21, 0x53,
    0xD0, 0xA9, 0x87, 0x7C, 0xC6, 0x2A, 0x47, 0x40, 0x02, 0xDF, 0x32, 0xE5, 0x21, 0x39, 0xF0, 0xA0,
};

bool sm2_sign(EVP_PKEY *key, const BYTE e[E_OCTETS], Sm2Signature *out)
{
    BYTE der[DER_ROOM];
    const BYTE *at = der;
    size_t size = sizeof der;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool done = EVP_PKEY_sign_init(context) == 1 && EVP_PKEY_sign(context, der, &size, e, E_OCTETS) == 1;
    EVP_PKEY_CTX_free(context);
    ECDSA_SIG *pair = done ? d2i_ECDSA_SIG(NULL, &at, (long)size) : NULL;
    done = pair != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(pair), out->r, sizeof out->r) > 0 &&
           BN_bn2binpad(ECDSA_SIG_get0_s(pair), out->s, sizeof out->s) > 0;
    ECDSA_SIG_free(pair);
    return done;
}

size_t sm2_der(const Sm2Signature *signature, BYTE der[DER_ROOM])
{
    BYTE *at = der;
    ECDSA_SIG *pair = ECDSA_SIG_new();
    int size = 0;
    if (pair != NULL && ECDSA_SIG_set0(pair, BN_bin2bn(signature->r, sizeof signature->r, NULL),
                                       BN_bin2bn(signature->s, sizeof signature->s, NULL)) == 1)
        size = i2d_ECDSA_SIG(pair, &at);
    ECDSA_SIG_free(pair);
    return size > 0 ? (size_t)size : 0;
}

/* Signs ECDSA with an SM2 key: r = x(kG), s = (e + rd) / k. libcrypto itself refuses the curve for ECDSA. */
static bool sign_ecdsa(const EVP_PKEY *key, const BYTE digest[E_OCTETS], Sm2Signature *out)
{
    BN_CTX *context = BN_CTX_new();
    BIGNUM *d = NULL, *k = BN_new(), *r = BN_new(), *s = BN_new(), *e = BN_bin2bn(digest, E_OCTETS, NULL);
    EC_GROUP *group = EC_GROUP_new_by_curve_name(NID_sm2);
    EC_POINT *point = EC_POINT_new(group);
    const BIGNUM *n = EC_GROUP_get0_order(group);
    bool done = EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_PRIV_KEY, &d) == 1 && BN_priv_rand_range(k, n) == 1 &&
                EC_POINT_mul(group, point, k, NULL, NULL, context) == 1 &&
                EC_POINT_get_affine_coordinates(group, point, r, NULL, context) == 1 && BN_nnmod(r, r, n, context) &&
                BN_mod_mul(s, r, d, n, context) == 1 && BN_mod_add(s, s, e, n, context) == 1 &&
                BN_mod_inverse(k, k, n, context) != NULL && BN_mod_mul(s, s, k, n, context) == 1 &&
                BN_bn2binpad(r, out->r, sizeof out->r) > 0 && BN_bn2binpad(s, out->s, sizeof out->s) > 0;
    EC_POINT_free(point);
    EC_GROUP_free(group);
    BN_clear_free(d);
    BN_clear_free(k);
    BN_free(r);
    BN_free(s);
    BN_free(e);
    BN_CTX_free(context);
    return done;
}

static bool sign_with_new_key(const BYTE e[E_OCTETS], Sm2Signature *out)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
    bool done = key != NULL && sm2_sign(key, e, out);
    EVP_PKEY_free(key);
    return done;
}

/* Signs until a number begins with a zero octet. */
static bool sign_short(EVP_PKEY *key, const BYTE e[E_OCTETS], Sm2Signature *out, const BYTE *first)
{
    for (int tries = 0; tries < SHORT_TRIES; tries++) {
        if (!sm2_sign(key, e, out))
            return false;
        if (*first == 0)
            return true;
    }
    return false;
}

bool sm2_sign_as(const char *kind, EVP_PKEY *key, const BYTE e[E_OCTETS], Sm2Signature *out)
{
    BYTE other[E_OCTETS];
    memcpy(other, e, sizeof other);
    if (*kind == '\0')
        return sm2_sign(key, e, out);
    if (strcmp(kind, "zero") == 0 || strcmp(kind, "ones") == 0) {
        memset(out, *kind == 'z' ? 0 : 0xFF, sizeof *out);
        return true;
    }
    if (strcmp(kind, "flip") == 0) {
        other[E_OCTETS - 1] ^= 1;
        return sm2_sign(key, other, out);
    }
    if (strcmp(kind, "hash") == 0)
        return EVP_Q_digest(NULL, "SM3", NULL, e, E_OCTETS, other, NULL) == 1 && sm2_sign(key, other, out);
    if (strcmp(kind, "other_key") == 0)
        return sign_with_new_key(e, out);
    if (strcmp(kind, "ecdsa") == 0)
        return sign_ecdsa(key, e, out);
    if (strcmp(kind, "short_r") == 0)
        return sign_short(key, e, out, out->r);
    if (strcmp(kind, "short_s") == 0)
        return sign_short(key, e, out, out->s);
    return false;
}

bool digest_start(EVP_MD_CTX *context, const char *name)
{
    EVP_MD *digest = EVP_MD_fetch(NULL, name, NULL);
    bool done = digest != NULL && EVP_DigestInit_ex2(context, digest, NULL) == 1;
    EVP_MD_free(digest);
    return done;
}

bool sm3_start_with_z(EVP_MD_CTX *context, const BYTE *x, const BYTE *y, const BYTE *id, size_t size)
{
    const BYTE bits[] = {(BYTE)(size * 8 >> 8), (BYTE)(size * 8)};
    BYTE z[32];
    return digest_start(context, "SM3") && EVP_DigestUpdate(context, bits, sizeof bits) == 1 &&
           EVP_DigestUpdate(context, id, size) == 1 && EVP_DigestUpdate(context, CURVE, sizeof CURVE) == 1 &&
           EVP_DigestUpdate(context, x, 32) == 1 && EVP_DigestUpdate(context, y, 32) == 1 &&
           EVP_DigestFinal_ex(context, z, NULL) == 1 && digest_start(context, "SM3") &&
           EVP_DigestUpdate(context, z, sizeof z) == 1;
}
