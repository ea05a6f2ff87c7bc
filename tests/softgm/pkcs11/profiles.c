/* What each vendor calls SM2. Every number is that vendor's; what a mechanism does is known only where the vendor says
 * it. TEST ONLY: see ../README.md.
 *
 * No vendor but Sansec says whether "SM3 and sign" begins with Z. Here it does not, unless the fault "signature with_z"
 * makes it. Signatures are raw where nothing says DER.
 */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const Profile profiles[] = {
    {
        .name = "neutral", /* xipki's placeholders */
        .key_type = 0xFFFFF001,
        .mechanisms = {{0xFFFFF001, GENERATES}, {0xFFFFF002, SIGNS_E}, {0xFFFFF003, SIGNS_SM3}},
    },
    {
        .name = "tass", /* the last is its "SJ" variant, taken to do the same */
        .key_type = 0x80000004,
        .mechanisms = {{0x80008001, GENERATES},
                       {0x80008000, SIGNS_E | AS_DER},
                       {0x80008100, SIGNS_SM3 | AS_DER},
                       {0x80008101, SIGNS_SM3 | AS_DER}},
        .private_point = true,
    },
    {
        .name = "sansec",
        .key_type = 0x80000004,
        .mechanisms = {{0x80008001, GENERATES},
                       {0x80008104, SIGNS_E | AS_DER},
                       {0x80008105, SIGNS_E},
                       {0x80008100, SIGNS_SM3},
                       {0x80008101, SIGNS_SM3 | AS_DER},
                       {0x80008102, SIGNS_SM3 | WITH_Z},
                       {0x80008103, SIGNS_SM3 | WITH_Z | AS_DER}},
    },
    {
        .name = "luna",
        .key_type = 0x80000016,
        .mechanisms = {{0x80000B20, GENERATES}, {0x80000B21, SIGNS_E}, {0x80000B22, SIGNS_SM3}},
        .private_point = true,
    },
    {
        .name = "koal",
        .key_type = 0x80000004,
        .mechanisms = {{0x80008001, GENERATES},
                       {0x80008104, SIGNS_E},
                       {0x80008100, SIGNS_SM3},
                       {0x80008101, SIGNS_SM3 | AS_DER}},
    },
    {
        .name = "ibm-ep11", /* the last is its "RFC" form, taken to be DER */
        .key_type = 0x80050002,
        .mechanisms = {{0x8005000A, GENERATES},
                       {0x8005000B, SIGNS_E},
                       {0x8005000C, SIGNS_SM3},
                       {0x8005000F, SIGNS_SM3 | AS_DER}},
    },
    {
        .name = "longmai", /* its number for key generation is not known; the one for signing is tried */
        .key_type = 0x84000020,
        .mechanisms = {{0x83000000, GENERATES | SIGNS_E}, {0x83000001, SIGNS_SM3}},
    },
    {
        .name = "weston", /* its SM3 mechanisms only hash */
        .key_type = 0x80000001,
        .mechanisms = {{0x80000003, GENERATES}, {0x80000004, SIGNS_E}},
        .coordinates = true,
    },
    {
        .name = "card2009",
        .key_type = 0x80000004,
        .mechanisms = {{0x80008001, GENERATES}, {0x80008000, SIGNS_E}, {0x80008100, SIGNS_SM3}},
    },
    {
        .name = "mk1", /* below the range of vendors */
        .key_type = 0x00010001,
        .mechanisms = {{0x00010009, GENERATES}, {0x00010002, SIGNS_E}, {0x00010004, SIGNS_SM3}},
    },
};

const Profile *profile_now(const char *root)
{
    char named[VALUE_ROOM];
    const char *name = getenv("SOFTGM_PKCS11_PROFILE");
    if (name == NULL || *name == '\0')
        name = setting(root, MODULE_SETTINGS, "profile", named) ? named : profiles[0].name;
    for (size_t i = 0; i < sizeof profiles / sizeof *profiles; i++)
        if (strcmp(profiles[i].name, name) == 0)
            return &profiles[i];
    return NULL;
}

const Mechanism *profile_mechanism(const Profile *profile, CK_MECHANISM_TYPE number)
{
    for (const Mechanism *mechanism = profile->mechanisms; mechanism->use != 0; mechanism++)
        if (mechanism->number == number)
            return mechanism;
    return NULL;
}

CK_MECHANISM_TYPE profile_generation(const Profile *profile)
{
    const Mechanism *mechanism = profile->mechanisms;
    while (!(mechanism->use & GENERATES))
        mechanism++;
    return mechanism->number;
}
