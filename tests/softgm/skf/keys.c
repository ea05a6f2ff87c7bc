/* Key pairs: generated, kept as PEM, shown as records. TEST ONLY: see ../README.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "internal.h"

#define SM2_OCTETS 32

EVP_PKEY *container_key(Handle *container, bool sign)
{
    struct stat facts;
    char path[PATH_MAX];
    const char *name = sign ? "sign.key" : "exchange.key";
    if (!join(path, container->path, name) || stat(path, &facts) != 0)
        return NULL;
    if (container->cached[sign].key != NULL && container->cached[sign].inode == facts.st_ino &&
        memcmp(&container->cached[sign].changed, &facts.st_mtim, sizeof facts.st_mtim) == 0)
        return container->cached[sign].key;
    size_t size;
    BYTE *pem = read_file(container->path, name, &size);
    BIO *source = pem == NULL ? NULL : BIO_new_mem_buf(pem, (int)size);
    EVP_PKEY_free(container->cached[sign].key);
    container->cached[sign].key = source == NULL ? NULL : PEM_read_bio_PrivateKey(source, NULL, NULL, NULL);
    container->cached[sign].inode = facts.st_ino;
    container->cached[sign].changed = facts.st_mtim;
    BIO_free(source);
    free(pem);
    return container->cached[sign].key;
}

KeyKind key_kind(const EVP_PKEY *key)
{
    if (key == NULL)
        return KEY_NONE;
    return EVP_PKEY_is_a(key, "RSA") ? KEY_RSA : EVP_PKEY_is_a(key, "SM2") ? KEY_SM2 : KEY_NONE;
}

bool key_save(Handle *container, EVP_PKEY *key)
{
    char *pem;
    BIO *out = BIO_new(BIO_s_mem());
    bool done = PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL) == 1;
    long size = BIO_get_mem_data(out, &pem);
    done = done && write_file(container->path, "sign.key", pem, (size_t)size);
    BIO_free(out);
    return done;
}

/* Writes one number of a key right-aligned into a field. */
static bool number_field(const EVP_PKEY *key, const char *parameter, BYTE *field, int room)
{
    BIGNUM *value = NULL;
    bool done = EVP_PKEY_get_bn_param(key, parameter, &value) == 1 && BN_bn2binpad(value, field, room) == room;
    BN_free(value);
    return done;
}

bool ecc_blob(const EVP_PKEY *key, ECCPUBLICKEYBLOB *blob)
{
    blob->BitLen = 256;
    return number_field(key, OSSL_PKEY_PARAM_EC_PUB_X, blob->XCoordinate, sizeof blob->XCoordinate) &&
           number_field(key, OSSL_PKEY_PARAM_EC_PUB_Y, blob->YCoordinate, sizeof blob->YCoordinate);
}

bool rsa_blob(const EVP_PKEY *key, RSAPUBLICKEYBLOB *blob)
{
    blob->AlgID = SGD_RSA;
    blob->BitLen = (ULONG)EVP_PKEY_get_bits(key);
    return number_field(key, OSSL_PKEY_PARAM_RSA_N, blob->Modulus, sizeof blob->Modulus) &&
           number_field(key, OSSL_PKEY_PARAM_RSA_E, blob->PublicExponent, sizeof blob->PublicExponent);
}

/* A public key from its parameters, or NULL. */
static EVP_PKEY *key_from(const char *kind, OSSL_PARAM_BLD *build)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(build);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
    if (EVP_PKEY_fromdata_init(context) == 1)
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters);
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    return key;
}

EVP_PKEY *ecc_key(const ECCPUBLICKEYBLOB *blob)
{
    static const BYTE zeros[64 - SM2_OCTETS];
    BYTE point[1 + 2 * SM2_OCTETS] = {POINT_CONVERSION_UNCOMPRESSED};
    if (blob->BitLen != 256 || memcmp(blob->XCoordinate, zeros, sizeof zeros) != 0 ||
        memcmp(blob->YCoordinate, zeros, sizeof zeros) != 0)
        return NULL;
    memcpy(point + 1, blob->XCoordinate + sizeof zeros, SM2_OCTETS);
    memcpy(point + 1 + SM2_OCTETS, blob->YCoordinate + sizeof zeros, SM2_OCTETS);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "SM2", 0);
    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point);
    EVP_PKEY *key = key_from("SM2", build);
    OSSL_PARAM_BLD_free(build);
    return key;
}

EVP_PKEY *rsa_key(const RSAPUBLICKEYBLOB *blob)
{
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *modulus = BN_bin2bn(blob->Modulus, sizeof blob->Modulus, NULL);
    BIGNUM *exponent = BN_bin2bn(blob->PublicExponent, sizeof blob->PublicExponent, NULL);
    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, modulus);
    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, exponent);
    EVP_PKEY *key = key_from("RSA", build);
    OSSL_PARAM_BLD_free(build);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

/* ---- generation: a signing key that is there already is replaced, as devices do without a word ---- */

static ULONG put_key(Call *call, EVP_PKEY *key, ULONG failure)
{
    ULONG code = key == NULL ? failure : key_save(call->container, key) ? SAR_OK : SAR_WRITEFILEERR;
    EVP_PKEY_free(key);
    return code;
}

static ULONG generate_ecc(Call *call, ULONG algorithm, ECCPUBLICKEYBLOB *blob)
{
    if (blob == NULL)
        return SAR_INVALIDPARAMERR;
    const char *only = fault(call, "sm2_alg");
    bool known = only != NULL ? algorithm == strtoul(only, NULL, 0)
                              : algorithm == SGD_SM2_1_VENDOR || algorithm == SGD_SM2_1_GMT0006;
    if (!known)
        return SAR_NOTSUPPORTYETERR;
    if (!state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    ULONG code = put_key(call, EVP_PKEY_Q_keygen(NULL, NULL, "SM2"), SAR_FAIL);
    if (code == SAR_OK && !ecc_blob(container_key(call->container, true), blob))
        code = SAR_FAIL;
    return code;
}

SKF_API ULONG SKF_GenECCKeyPair(HCONTAINER handle, ULONG algorithm, ECCPUBLICKEYBLOB *blob)
{
    CALL("SKF_GenECCKeyPair", handle, CONTAINER, NULL, generate_ecc(&call, algorithm, blob));
}

static ULONG generate_rsa(Call *call, ULONG bits, RSAPUBLICKEYBLOB *blob)
{
    if (blob == NULL)
        return SAR_INVALIDPARAMERR;
    if (bits != 1024 && bits != 2048)
        return SAR_RSAMODULUSLENERR;
    if (!state_has(call->application, STATE_USER))
        return SAR_USER_NOT_LOGGED_IN;
    ULONG code = put_key(call, EVP_RSA_gen(bits), SAR_GENRSAKEYERR);
    if (code == SAR_OK && !rsa_blob(container_key(call->container, true), blob))
        code = SAR_FAIL;
    return code;
}

SKF_API ULONG SKF_GenRSAKeyPair(HCONTAINER handle, ULONG bits, RSAPUBLICKEYBLOB *blob)
{
    CALL("SKF_GenRSAKeyPair", handle, CONTAINER, NULL, generate_rsa(&call, bits, blob));
}

static ULONG export_public_key(Call *call, BOOL sign, BYTE *out, ULONG *room)
{
    ECCPUBLICKEYBLOB ecc;
    RSAPUBLICKEYBLOB rsa;
    EVP_PKEY *key = container_key(call->container, sign);
    switch (key_kind(key)) {
    case KEY_SM2:
        return ecc_blob(key, &ecc) ? give(call, &ecc, sizeof ecc, out, room) : SAR_FAIL;
    case KEY_RSA:
        return rsa_blob(key, &rsa) ? give(call, &rsa, sizeof rsa, out, room) : SAR_FAIL;
    default:
        return SAR_KEYNOTFOUNTERR;
    }
}

SKF_API ULONG SKF_ExportPublicKey(HCONTAINER handle, BOOL sign, BYTE *out, ULONG *room)
{
    CALL("SKF_ExportPublicKey", handle, CONTAINER, NULL, export_public_key(&call, sign, out, room));
}
