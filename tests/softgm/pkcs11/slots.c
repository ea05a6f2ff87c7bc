/* Slots, tokens and mechanisms: lists and facts. TEST ONLY: see ../README.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define MANUFACTURER "SoftGM test only"

/* Fills a text field, padded with blanks unless a fault wants it odd. */
static void text_field(const char *odd, CK_BYTE *field, size_t room, const char *text)
{
    static const BYTE gbk[] = {0xB2, 0xE2, 0xCA, 0xD4}; /* two characters in GBK: no UTF-8 */
    size_t length = strlen(text) < room ? strlen(text) : room;
    memset(field, odd != NULL && strcmp(odd, "nul") == 0 ? 0 : odd != NULL && *odd == '\0' ? 'x' : ' ', room);
    if (odd == NULL || strcmp(odd, "blank") != 0)
        memcpy(field, text, length);
    if (odd != NULL && strcmp(odd, "gbk") == 0)
        memcpy(field, gbk, sizeof gbk);
}

/* The same for a field that SoftHSM filled. */
static void odd_field(const char *odd, CK_BYTE *field, size_t room)
{
    char text[65];
    size_t length = room;
    while (length > 0 && field[length - 1] == ' ')
        length--;
    snprintf(text, sizeof text, "%.*s", (int)length, (char *)field);
    text_field(odd, field, room, text);
}

static const char *odd_text(Call *call)
{
    const char *kind = fault(call, "text");
    return kind != NULL ? kind : fault(call, "unterminated");
}

static CK_RV info(Call *call, CK_INFO *out)
{
    static const CK_INFO plain = {.cryptokiVersion = {2, 40}, .libraryVersion = {1, 0}};
    char description[32];
    if (out == NULL)
        return CKR_ARGUMENTS_BAD;
    const char *odd = odd_text(call);
    *out = plain;
    snprintf(description, sizeof description, "profile %s", call->profile->name);
    text_field(odd, out->manufacturerID, sizeof out->manufacturerID, MANUFACTURER);
    text_field(odd, out->libraryDescription, sizeof out->libraryDescription, description);
    return CKR_OK;
}

CK_RV C_GetInfo(CK_INFO *out)
{
    CALL(begin(&call, "C_GetInfo"), info(&call, out));
}

static CK_RV slot_list(Call *call, CK_BBOOL present, CK_SLOT_ID *out, CK_ULONG *room)
{
    size_t count = 0, kept = 0;
    tokens_scan(call->root);
    for (Token *token = tokens; token != NULL; token = token->next)
        count++;
    CK_SLOT_ID *list = calloc(count + 1, sizeof *list);
    if (list == NULL)
        return CKR_HOST_MEMORY;
    for (Token *token = tokens; token != NULL; token = token->next)
        if (token_present(token) || (!present && exists(token->path, SOFTHSM_SETTINGS)))
            list[kept++] = token->slot;
    CK_RV code = give(call, list, kept, sizeof *list, out, room);
    free(list);
    return code;
}

CK_RV C_GetSlotList(CK_BBOOL present, CK_SLOT_ID *out, CK_ULONG *room)
{
    CALL(begin(&call, "C_GetSlotList"), slot_list(&call, present, out, room));
}

static CK_RV slot_info(Call *call, CK_SLOT_INFO *out)
{
    static const CK_SLOT_INFO plain = {.hardwareVersion = {1, 0}, .firmwareVersion = {1, 0}};
    if (out == NULL)
        return CKR_ARGUMENTS_BAD;
    const char *odd = odd_text(call);
    *out = plain;
    text_field(odd, out->slotDescription, sizeof out->slotDescription, call->token->name);
    text_field(odd, out->manufacturerID, sizeof out->manufacturerID, MANUFACTURER);
    out->flags = CKF_REMOVABLE_DEVICE | (plugged(call->token->path) ? CKF_TOKEN_PRESENT : 0);
    return CKR_OK;
}

CK_RV C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *out)
{
    CALL(begin_slot(&call, "C_GetSlotInfo", slot, false), slot_info(&call, out));
}

/* The flags of a PIN by its tries. */
static CK_FLAGS pin_flags(const Call *call, const char *left_key, const char *max_key, CK_FLAGS low)
{
    unsigned long max = number(call->token->path, SETTINGS, max_key, TRIES);
    unsigned long left = number(call->token->path, SETTINGS, left_key, max);
    if (left == 0)
        return low * 4; /* LOCKED */
    return (left < max ? low : 0) | (left == 1 ? low * 2 : 0);
}

static CK_RV token_info(Call *call, CK_TOKEN_INFO *out)
{
    static const CK_FLAGS pins = 7 * CKF_USER_PIN_COUNT_LOW | 7 * CKF_SO_PIN_COUNT_LOW;
    char model[17];
    if (out == NULL)
        return CKR_ARGUMENTS_BAD;
    CK_RV code = REAL(*call)->C_GetTokenInfo(call->token->real_slot, out);
    if (code != CKR_OK)
        return code;
    const char *odd = odd_text(call);
    snprintf(model, sizeof model, "profile %s", call->profile->name);
    text_field(odd, out->manufacturerID, sizeof out->manufacturerID, MANUFACTURER);
    text_field(odd, out->model, sizeof out->model, model);
    if (odd != NULL) {
        odd_field(odd, out->label, sizeof out->label);
        odd_field(odd, out->serialNumber, sizeof out->serialNumber);
    }
    out->flags = (out->flags & ~pins) | pin_flags(call, "user_left", "user_max", CKF_USER_PIN_COUNT_LOW) |
                 pin_flags(call, "so_left", "so_max", CKF_SO_PIN_COUNT_LOW);
    if (number(call->token->path, SETTINGS, "protected", 0) != 0)
        out->flags |= CKF_PROTECTED_AUTHENTICATION_PATH;
    return CKR_OK;
}

CK_RV C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *out)
{
    SLOT_CALL("C_GetTokenInfo", slot, token_info(&call, out));
}

/* ---- mechanisms: those of SoftHSM, and the profile's ---- */

static CK_RV mechanism_list(Call *call, CK_MECHANISM_TYPE *out, CK_ULONG *room)
{
    CK_ULONG count = 0;
    CK_RV code = REAL(*call)->C_GetMechanismList(call->token->real_slot, NULL, &count);
    CK_MECHANISM_TYPE *list = calloc(count + MECHANISMS_MAX, sizeof *list);
    if (code == CKR_OK && list != NULL)
        code = REAL(*call)->C_GetMechanismList(call->token->real_slot, list, &count);
    for (const Mechanism *own = call->profile->mechanisms; list != NULL && own->use != 0; own++)
        list[count++] = own->number;
    if (code == CKR_OK)
        code = list == NULL ? CKR_HOST_MEMORY : give(call, list, count, sizeof *list, out, room);
    free(list);
    return code;
}

CK_RV C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *out, CK_ULONG *room)
{
    SLOT_CALL("C_GetMechanismList", slot, mechanism_list(&call, out, room));
}

static CK_RV mechanism_info(Call *call, CK_MECHANISM_TYPE number, CK_MECHANISM_INFO *out)
{
    const Mechanism *own = profile_mechanism(call->profile, number);
    if (own == NULL)
        return REAL(*call)->C_GetMechanismInfo(call->token->real_slot, number, out);
    if (out == NULL)
        return CKR_ARGUMENTS_BAD;
    out->ulMinKeySize = out->ulMaxKeySize = 256;
    out->flags = CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS;
    out->flags |= (own->use & GENERATES ? CKF_GENERATE_KEY_PAIR : 0) | (own->use & (SIGNS_E | SIGNS_SM3) ? CKF_SIGN : 0);
    return CKR_OK;
}

CK_RV C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE number, CK_MECHANISM_INFO *out)
{
    SLOT_CALL("C_GetMechanismInfo", slot, mechanism_info(&call, number, out));
}

static CK_RV init_token(Call *call, CK_BYTE *pin, CK_ULONG size, CK_BYTE *label)
{
    return REAL(*call)->C_InitToken(call->token->real_slot, pin, size, label);
}

CK_RV C_InitToken(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG size, CK_BYTE *label)
{
    SLOT_CALL("C_InitToken", slot, init_token(&call, pin, size, label));
}
