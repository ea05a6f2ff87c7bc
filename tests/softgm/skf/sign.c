/* Signatures and their verification. TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/obj_mac.h>
#include <openssl/rsa.h>

#include "internal.h"

#define E_OCTETS 32
#define SIGNATURE_ROOM 80  /* DER of two 256-bit numbers, and some */
#define SHORT_TRIES 100000 /* one signature in 256 has a short r */

/* Signs a digest as it is: e for SM2, and for an EC key ECDSA. Returns the octets of DER, or 0. */
static size_t sign_der(EVP_PKEY *key, const BYTE digest[E_OCTETS], BYTE der[SIGNATURE_ROOM])
{
    size_t size = SIGNATURE_ROOM;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool done = EVP_PKEY_sign_init(context) == 1 && EVP_PKEY_sign(context, der, &size, digest, E_OCTETS) == 1;
    EVP_PKEY_CTX_free(context);
    return done ? size : 0;
}

/* Signs into a record, each number right-aligned. */
static bool sign_blob(EVP_PKEY *key, const BYTE digest[E_OCTETS], ECCSIGNATUREBLOB *blob)
{
    BYTE der[SIGNATURE_ROOM];
    const BYTE *at = der;
    ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)sign_der(key, digest, der));
    bool done = pair != NULL && BN_bn2binpad(ECDSA_SIG_get0_r(pair), blob->r, sizeof blob->r) > 0 &&
                BN_bn2binpad(ECDSA_SIG_get0_s(pair), blob->s, sizeof blob->s) > 0;
    ECDSA_SIG_free(pair);
    return done;
}

/* Signs ECDSA with an SM2 key: r = x(kG), s = (e + rd) / k. libcrypto itself refuses the curve for ECDSA. */
static bool sign_ecdsa(const EVP_PKEY *key, const BYTE digest[E_OCTETS], ECCSIGNATUREBLOB *blob)
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
                BN_bn2binpad(r, blob->r, sizeof blob->r) > 0 && BN_bn2binpad(s, blob->s, sizeof blob->s) > 0;
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

static bool sign_with_new_key(const BYTE digest[E_OCTETS], ECCSIGNATUREBLOB *blob)
{
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "SM2");
    bool done = key != NULL && sign_blob(key, digest, blob);
    EVP_PKEY_free(key);
    return done;
}

/* The ways in which a signature can be wrong or unusual; the table in ../README.md explains each. */
static bool sign_as(const char *kind, EVP_PKEY *key, const BYTE digest[E_OCTETS], ECCSIGNATUREBLOB *blob)
{
    BYTE other[E_OCTETS];
    bool short_one = strncmp(kind, "short_", 6) == 0, shifted = strncmp(kind, "shifted_", 8) == 0;
    memcpy(other, digest, sizeof other);
    memset(blob, 0, sizeof *blob);
    if (strcmp(kind, "zero") == 0)
        return true;
    if (strcmp(kind, "ones") == 0) {
        memset(blob->r + sizeof blob->r - E_OCTETS, 0xFF, E_OCTETS);
        memset(blob->s + sizeof blob->s - E_OCTETS, 0xFF, E_OCTETS);
        return true;
    }
    if (strcmp(kind, "flip") == 0) {
        other[E_OCTETS - 1] ^= 1;
        return sign_blob(key, other, blob);
    }
    if (strcmp(kind, "hash") == 0)
        return EVP_Q_digest(NULL, "SM3", NULL, digest, E_OCTETS, other, NULL) == 1 && sign_blob(key, other, blob);
    if (strcmp(kind, "other_key") == 0)
        return sign_with_new_key(digest, blob);
    if (strcmp(kind, "ecdsa") == 0)
        return sign_ecdsa(key, digest, blob);
    if (strcmp(kind, "der") == 0)
        return sign_der(key, digest, (BYTE *)blob) > 0;
    if (short_one || shifted) {
        BYTE *number = kind[strlen(kind) - 1] == 'r' ? blob->r : blob->s;
        BYTE *first = number + sizeof blob->r - E_OCTETS;
        for (int tries = 0; tries == 0 || (*first != 0 && tries < SHORT_TRIES); tries++)
            if (!sign_blob(key, digest, blob))
                return false;
        if (shifted) {
            memmove(first, first + 1, E_OCTETS - 1);
            first[E_OCTETS - 1] = 0;
        }
        return true;
    }
    if (!sign_blob(key, digest, blob))
        return false;
    if (strcmp(kind, "left") == 0) {
        memmove(blob->r, blob->r + sizeof blob->r - E_OCTETS, E_OCTETS);
        memset(blob->r + E_OCTETS, 0, sizeof blob->r - E_OCTETS);
        memmove(blob->s, blob->s + sizeof blob->s - E_OCTETS, E_OCTETS);
        memset(blob->s + E_OCTETS, 0, sizeof blob->s - E_OCTETS);
        return true;
    }
    return *kind == '\0'; /* else no such kind */
}

static ULONG ecc_sign(Call *call, const BYTE *digest, ULONG size, ECCSIGNATUREBLOB *out)
{
    if (digest == NULL || out == NULL)
        return SAR_INVALIDPARAMERR;
    if (size != E_OCTETS)
        return SAR_MODULUSLENERR; /* as Longmai's library answers */
    if (!state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    EVP_PKEY *key = container_key(call->container, true);
    if (key_kind(key) != KEY_SM2)
        return SAR_KEYNOTFOUNTERR;
    const char *kind = fault(call, "signature");
    return sign_as(kind == NULL ? "" : kind, key, digest, out) ? SAR_OK : SAR_FAIL;
}

SKF_API ULONG SKF_ECCSignData(HCONTAINER handle, BYTE *digest, ULONG size, ECCSIGNATUREBLOB *out)
{
    CALL("SKF_ECCSignData", handle, CONTAINER, NULL, ecc_sign(&call, digest, size, out));
}

/* Verifies a signature over a digest (SM2: e) or, for RSA, over what was padded. Takes the key. */
static ULONG verify(EVP_PKEY *key, const BYTE *data, size_t size, const BYTE *signature, size_t length)
{
    if (key == NULL)
        return SAR_INVALIDPARAMERR;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool good = EVP_PKEY_verify_init(context) == 1 &&
                (key_kind(key) != KEY_RSA || EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1) &&
                EVP_PKEY_verify(context, signature, length, data, size) == 1;
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
    return good ? SAR_OK : SAR_HASHNOTEQUALERR;
}

static ULONG ecc_verify(const ECCPUBLICKEYBLOB *blob, const BYTE *digest, ULONG size, const ECCSIGNATUREBLOB *signature)
{
    BYTE *der = NULL;
    if (blob == NULL || digest == NULL || signature == NULL)
        return SAR_INVALIDPARAMERR;
    if (size != E_OCTETS)
        return SAR_INDATALENERR;
    ECDSA_SIG *pair = ECDSA_SIG_new();
    ECDSA_SIG_set0(pair, BN_bin2bn(signature->r, sizeof signature->r, NULL),
                   BN_bin2bn(signature->s, sizeof signature->s, NULL));
    int length = i2d_ECDSA_SIG(pair, &der);
    ULONG code = length > 0 ? verify(ecc_key(blob), digest, size, der, (size_t)length) : SAR_FAIL;
    OPENSSL_free(der);
    ECDSA_SIG_free(pair);
    return code;
}

SKF_API ULONG SKF_ECCVerify(DEVHANDLE handle, ECCPUBLICKEYBLOB *key, BYTE *digest, ULONG size,
                            ECCSIGNATUREBLOB *signature)
{
    CALL("SKF_ECCVerify", handle, DEVICE, NULL, ecc_verify(key, digest, size, signature));
}

SKF_API ULONG SKF_ExtECCVerify(DEVHANDLE handle, ECCPUBLICKEYBLOB *key, BYTE *digest, ULONG size,
                               ECCSIGNATUREBLOB *signature)
{
    CALL("SKF_ExtECCVerify", handle, DEVICE, NULL, ecc_verify(key, digest, size, signature));
}

static size_t sign_rsa(EVP_PKEY *key, const BYTE *data, ULONG size, BYTE out[256])
{
    size_t length = 256;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool done = EVP_PKEY_sign_init(context) == 1 && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
                EVP_PKEY_sign(context, out, &length, data, size) == 1;
    EVP_PKEY_CTX_free(context);
    return done ? length : 0;
}

/* Pads what the caller gives (the DER DigestInfo) by PKCS#1 v1.5 and signs it. */
static ULONG rsa_sign(Call *call, BYTE *data, ULONG size, BYTE *out, ULONG *room)
{
    BYTE signature[256] = {0}, flipped[256];
    if (data == NULL || room == NULL)
        return SAR_INVALIDPARAMERR;
    EVP_PKEY *key = container_key(call->container, true);
    if (key_kind(key) != KEY_RSA || EVP_PKEY_get_size(key) > (int)sizeof signature)
        return SAR_KEYNOTFOUNTERR;
    size_t modulus = (size_t)EVP_PKEY_get_size(key);
    if (size == 0 || size > modulus - 11)
        return SAR_INDATALENERR;
    if (!state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    if (out == NULL)
        return give(call, signature, modulus, NULL, room);
    const char *kind = fault(call, "signature");
    kind = kind == NULL ? "" : kind;
    if (strcmp(kind, "zero") == 0)
        return give(call, signature, modulus, out, room);
    memcpy(flipped, data, size);
    flipped[size - 1] ^= strcmp(kind, "flip") == 0;
    size_t length = sign_rsa(key, flipped, size, signature);
    if (length == 0)
        return SAR_FAIL;
    bool cut = strcmp(kind, "short") == 0;
    return give(call, signature + cut, length - cut, out, room);
}

SKF_API ULONG SKF_RSASignData(HCONTAINER handle, BYTE *data, ULONG size, BYTE *out, ULONG *room)
{
    CALL("SKF_RSASignData", handle, CONTAINER, NULL, rsa_sign(&call, data, size, out, room));
}

static ULONG rsa_verify(const RSAPUBLICKEYBLOB *blob, const BYTE *data, ULONG size, const BYTE *signature, ULONG length)
{
    if (blob == NULL || data == NULL || signature == NULL)
        return SAR_INVALIDPARAMERR;
    return verify(rsa_key(blob), data, size, signature, length);
}

SKF_API ULONG SKF_RSAVerify(DEVHANDLE handle, RSAPUBLICKEYBLOB *key, BYTE *data, ULONG size, BYTE *signature,
                            ULONG length)
{
    CALL("SKF_RSAVerify", handle, DEVICE, NULL, rsa_verify(key, data, size, signature, length));
}
