/* Goes through the library's functions, its errors and its faults; meant for valgrind. TEST ONLY: see ../../README.md.
 *
 * SOFTSKF_DIR names an empty folder. Ends with status 1 at the first answer that is not the expected one.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/evp.h>

#include "skf.h"

#define PIN (LPSTR) "123456"
#define ADMIN_PIN (LPSTR) "12345678"
#define NAME (LPSTR) "CHECK"

static BYTE e[32] = {1, 2, 3};

static void expect_at(int line, ULONG wanted, ULONG code)
{
    if (code == wanted)
        return;
    fprintf(stderr, "line %d: 0x%08X instead of 0x%08X\n", line, code, wanted);
    exit(1);
}

#define EXPECT(wanted, call) expect_at(__LINE__, wanted, call)

static void put(const char *file, const char *text)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", getenv("SOFTSKF_DIR"), NAME, file);
    FILE *out = fopen(path, "w");
    if (out == NULL || fputs(text, out) < 0 || fclose(out) != 0)
        exit(2);
}

static void take(const char *file)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s/%s", getenv("SOFTSKF_DIR"), NAME, file);
    unlink(path);
}

static void authenticate(DEVHANDLE device)
{
    BYTE plain[16] = {0}, answer[16];
    int length;
    EVP_CIPHER *sm4 = EVP_CIPHER_fetch(NULL, "SM4-ECB", NULL);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    EXPECT(SAR_OK, SKF_GenRandom(device, plain, 8));
    EVP_EncryptInit_ex2(context, sm4, (const BYTE *)"1234567812345678", NULL, NULL);
    EVP_EncryptUpdate(context, answer, &length, plain, 16);
    EVP_CIPHER_CTX_free(context);
    EVP_CIPHER_free(sm4);
    EXPECT(SAR_OK, SKF_DevAuth(device, answer, 16));
}

/* Lists of names, with every way to end them. */
static void lists(DEVHANDLE device, HAPPLICATION application)
{
    static const char *const faults[] = {
        "", "single_nul *\n", "unterminated *\n", "empty * 1\n", "length * 4294967295\n", "oversize *\n",
        "overrun * 1\n", "substitute * device.conf\n", "substitute * none\n",
    };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char names[256 + 1]; /* one more than the library is told, for "overrun" */
        ULONG size;
        DEVINFO info;
        FILEATTRIBUTE file;
        put("faults", faults[i]);
        SKF_EnumDev(1, NULL, &size);
        size = 256, SKF_EnumDev(0, names, &size);
        size = 256, SKF_EnumApplication(device, names, &size);
        size = 256, SKF_EnumContainer(application, names, &size);
        size = 256, SKF_EnumFiles(application, names, &size);
        size = 256, SKF_ReadFile(application, (LPSTR) "seal", 1, 100, (BYTE *)names, &size);
        size = 1, SKF_EnumContainer(application, names, &size);
        EXPECT(SAR_OK, SKF_GetDevInfo(device, &info));
        EXPECT(SAR_OK, SKF_GetFileInfo(application, (LPSTR) "seal", &file));
    }
    take("faults");
}

static void layouts(DEVHANDLE device)
{
    static const char *const kinds[] = {"natural", "packed64", "natural64", "short"};
    BYTE room[328];
    for (size_t i = 0; i < 4; i++) {
        char line[64];
        snprintf(line, sizeof line, "layout SKF_GetDevInfo %s times=1\n", kinds[i]);
        put("faults", line);
        EXPECT(SAR_OK, SKF_GetDevInfo(device, (DEVINFO *)room));
    }
    take("faults");
}

static void signatures(DEVHANDLE device, HCONTAINER container)
{
    static const char *const kinds[] = {"zero", "ones", "flip", "hash", "other_key", "ecdsa", "der", "left", "short_r"};
    ECCPUBLICKEYBLOB key;
    ECCSIGNATUREBLOB signature;
    ULONG size = sizeof key;
    EXPECT(SAR_OK, SKF_ExportPublicKey(container, 1, (BYTE *)&key, &size));
    EXPECT(SAR_OK, SKF_ECCSignData(container, e, 32, &signature));
    EXPECT(SAR_OK, SKF_ExtECCVerify(device, &key, e, 32, &signature));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        char line[64];
        snprintf(line, sizeof line, "delay * 0\nsignature SKF_ECCSignData %s times=1\n", kinds[i]);
        put("faults", line);
        EXPECT(SAR_OK, SKF_ECCSignData(container, e, 32, &signature));
        EXPECT(strcmp(kinds[i], "short_r") == 0 ? SAR_OK : SAR_HASHNOTEQUALERR,
               SKF_ECCVerify(device, &key, e, 32, &signature));
    }
    take("faults");
    EXPECT(SAR_MODULUSLENERR, SKF_ECCSignData(container, e, 31, &signature));
    memset(&key, 0xFF, sizeof key);
    EXPECT(SAR_INVALIDPARAMERR, SKF_ECCVerify(device, &key, e, 32, &signature));
}

static void rsa(DEVHANDLE device, HCONTAINER container)
{
    RSAPUBLICKEYBLOB key;
    BYTE signature[256];
    ULONG size = sizeof signature;
    EXPECT(SAR_OK, SKF_GenRSAKeyPair(container, 1024, &key));
    EXPECT(SAR_OK, SKF_RSASignData(container, e, sizeof e, NULL, &size));
    EXPECT(SAR_OK, SKF_RSASignData(container, e, sizeof e, signature, &size));
    EXPECT(SAR_OK, SKF_RSAVerify(device, &key, e, sizeof e, signature, size));
    EXPECT(SAR_HASHNOTEQUALERR, SKF_RSAVerify(device, &key, e, sizeof e - 1, signature, size));
}

static void digests(DEVHANDLE device, HCONTAINER container)
{
    ECCPUBLICKEYBLOB key;
    HANDLE digest, open;
    BYTE value[32];
    ULONG size = sizeof key;
    EXPECT(SAR_OK, SKF_ExportPublicKey(container, 1, (BYTE *)&key, &size));
    EXPECT(SAR_OK, SKF_DigestInit(device, SGD_SM3, &key, (BYTE *)"1234567812345678", 16, &digest));
    EXPECT(SAR_OK, SKF_DigestUpdate(digest, e, sizeof e));
    EXPECT(SAR_OK, SKF_DigestFinal(digest, NULL, &size));
    EXPECT(SAR_OK, SKF_DigestFinal(digest, value, &size));
    EXPECT(SAR_OK, SKF_CloseHandle(digest));
    EXPECT(SAR_OK, SKF_DigestInit(device, SGD_SHA256, NULL, NULL, 0, &open)); /* ends with the device */
    EXPECT(SAR_OK, SKF_Digest(open, e, sizeof e, value, &size));
    EXPECT(SAR_NOTSUPPORTYETERR, SKF_DigestInit(device, 99, NULL, NULL, 0, &digest));
}

static void pins(HAPPLICATION application)
{
    ULONG left, max;
    BOOL factory;
    EXPECT(SAR_PIN_INCORRECT, SKF_VerifyPIN(application, USER_TYPE, ADMIN_PIN, &left));
    EXPECT(SAR_PIN_LEN_RANGE, SKF_VerifyPIN(application, USER_TYPE, (LPSTR) "1", &left));
    EXPECT(SAR_OK, SKF_GetPINInfo(application, USER_TYPE, &max, &left, &factory));
    EXPECT(2, left);
    EXPECT(SAR_OK, SKF_ChangePIN(application, USER_TYPE, PIN, (LPSTR) "654321", &left));
    EXPECT(SAR_OK, SKF_UnblockPIN(application, ADMIN_PIN, PIN, &left));
    EXPECT(SAR_OK, SKF_VerifyPIN(application, USER_TYPE, PIN, &left));
}

static void *wait_for_event(void *unused)
{
    char name[64];
    ULONG size = sizeof name, event;
    EXPECT(SAR_OK, SKF_WaitForDevEvent(name, &size, &event));
    EXPECT(EVENT_REMOVED, event);
    size = sizeof name;
    EXPECT(SAR_NOT_EVENTERR, SKF_WaitForDevEvent(name, &size, &event));
    return unused;
}

int main(void)
{
    char path[4096];
    DEVHANDLE device;
    HAPPLICATION application;
    HCONTAINER container, second;
    ECCPUBLICKEYBLOB key;
    ULONG size, type;
    BYTE octets[64];
    pthread_t waiting;

    snprintf(path, sizeof path, "%s/%s", getenv("SOFTSKF_DIR"), NAME);
    mkdir(path, 0700);
    put("device.conf", "serial=CHECK\nlabel=check");
    EXPECT(SAR_OK, SKF_ConnectDev(NAME, &device));
    EXPECT(SAR_OK, SKF_SetLabel(device, (LPSTR) "label"));
    EXPECT(SAR_OK, SKF_LockDev(device, 10));
    EXPECT(SAR_DEVICE_NOT_AUTHED, SKF_CreateApplication(device, NAME, ADMIN_PIN, 3, PIN, 3, RIGHT_USER, &application));
    authenticate(device);
    EXPECT(SAR_OK, SKF_CreateApplication(device, NAME, ADMIN_PIN, 3, PIN, 3, RIGHT_USER, &application));
    pins(application);

    EXPECT(SAR_OK, SKF_CreateFile(application, (LPSTR) "seal", 16, RIGHT_ANYONE, RIGHT_USER));
    EXPECT(SAR_OK, SKF_WriteFile(application, (LPSTR) "seal", 12, e, 4));
    EXPECT(SAR_INDATALENERR, SKF_WriteFile(application, (LPSTR) "seal", 0xFFFFFFFF, e, 4));
    EXPECT(SAR_OK, EPS_WriteESealData(application, e, sizeof e, 0));
    size = sizeof octets;
    EXPECT(SAR_OK, EPS_ReadESealData(application, 0xA2, 0x401, octets, &size, 0));

    EXPECT(SAR_OK, SKF_CreateContainer(application, (LPSTR) "sm2", &container));
    EXPECT(SAR_OK, SKF_GenECCKeyPair(container, SGD_SM2_1_VENDOR, &key));
    EXPECT(SAR_OK, SKF_ImportCertificate(container, 1, e, sizeof e));
    EXPECT(SAR_OK, SKF_ExportCertificate(container, 1, octets, &size));
    EXPECT(SAR_OK, SKF_GetContainerType(container, &type));
    EXPECT(SAR_OK, SKF_CreateContainer(application, (LPSTR) "rsa", &second));
    lists(device, application);
    layouts(device);
    signatures(device, container);
    digests(device, container);
    rsa(device, second);
    EXPECT(SAR_INVALIDHANDLEERR, SKF_CloseContainer(octets));
    EXPECT(SAR_OK, SKF_CloseContainer(second));
    EXPECT(SAR_OK, SKF_DeleteContainer(application, (LPSTR) "rsa"));
    EXPECT(SAR_OK, SKF_DeleteFile(application, (LPSTR) "seal"));

    pthread_create(&waiting, NULL, wait_for_event, NULL);
    usleep(500000);
    put("faults", "unplug SKF_ECCSignData\n");
    EXPECT(SAR_DEVICE_REMOVED, SKF_ECCSignData(container, e, 32, (ECCSIGNATUREBLOB *)octets));
    EXPECT(SAR_DEVICE_REMOVED, SKF_ClearSecureState(application));
    usleep(500000);
    EXPECT(SAR_OK, SKF_CancelWaitForDevEvent());
    pthread_join(waiting, NULL);
    EXPECT(SAR_OK, SKF_DisConnectDev(device));
    take("removed");
    take("faults");
    EXPECT(SAR_OK, SKF_ConnectDev(NAME, &device)); /* left open: the library ends it */
    EXPECT(SAR_OK, SKF_OpenApplication(device, NAME, &application));
    puts("softskf: every answer as expected");
    return 0;
}
