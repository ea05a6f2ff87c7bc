/* Signatures and their verification. TEST ONLY: see ../README.md. */
#include <stdlib.h>
#include <string.h>

#include <openssl/ec.h>
#include <openssl/rsa.h>

#include "internal.h"

/* Right-aligns both numbers in a record. */
static void to_blob(const Sm2Signature *signature, ECCSIGNATUREBLOB *blob)
{
    memset(blob, 0, sizeof *blob);
    memcpy(blob->r + sizeof blob->r - sizeof signature->r, signature->r, sizeof signature->r);
    memcpy(blob->s + sizeof blob->s - sizeof signature->s, signature->s, sizeof signature->s);
}

/* Moves a number from the end of its field to the start. */
static void to_left(BYTE field[64])
{
    memmove(field, field + 64 - E_OCTETS, E_OCTETS);
    memset(field + E_OCTETS, 0, 64 - E_OCTETS);
}

/* The ways in which a signature can be wrong or unusual; the table in ../README.md explains each. Those of the record
 * are made here, those of the numbers in ../common/sm2.c. */
static bool sign_as(const char *kind, EVP_PKEY *key, const BYTE digest[E_OCTETS], ECCSIGNATUREBLOB *blob)
{
    Sm2Signature signature;
    bool shifted = strncmp(kind, "shifted_", 8) == 0, der = strcmp(kind, "der") == 0, left = strcmp(kind, "left") == 0;
    const char *numbers = shifted ? kind[8] == 'r' ? "short_r" : "short_s" : der || left ? "" : kind;
    if (!sm2_sign_as(numbers, key, digest, &signature))
        return false;
    to_blob(&signature, blob);
    if (shifted) {
        BYTE *first = (kind[8] == 'r' ? blob->r : blob->s) + sizeof blob->r - E_OCTETS;
        memmove(first, first + 1, E_OCTETS - 1);
        first[E_OCTETS - 1] = 0;
    }
    if (left) {
        to_left(blob->r);
        to_left(blob->s);
    }
    if (der) {
        memset(blob, 0, sizeof *blob);
        return sm2_der(&signature, (BYTE *)blob) > 0;
    }
    return true;
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
