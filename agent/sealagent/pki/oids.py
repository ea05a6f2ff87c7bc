"""Object identifiers as dotted strings. Declarations only, each group with its source."""

from __future__ import annotations

from typing import Final

# GM/T 0006, GB/T 33560: Chinese commercial cryptography
SM4: Final = "1.2.156.10197.1.104"
SM2_CURVE: Final = "1.2.156.10197.1.301"
SM2_SIGN: Final = "1.2.156.10197.1.301.1"  # GM CMS names it as the signature algorithm (GM/T 0010)
SM2_EXCHANGE: Final = "1.2.156.10197.1.301.2"
SM2_ENCRYPT: Final = "1.2.156.10197.1.301.3"
SM3: Final = "1.2.156.10197.1.401"
SM3_WITHOUT_KEY: Final = "1.2.156.10197.1.401.1"
SM3_WITH_KEY: Final = "1.2.156.10197.1.401.2"
SM2_WITH_SM3: Final = "1.2.156.10197.1.501"
SM2_WITH_SHA1: Final = "1.2.156.10197.1.502"
SM2_WITH_SHA256: Final = "1.2.156.10197.1.503"
RSA_WITH_SM3: Final = "1.2.156.10197.1.504"
RSA_WITH_SHA1_GM: Final = "1.2.156.10197.1.505"
RSA_WITH_SHA256_GM: Final = "1.2.156.10197.1.506"

# GM/T 0010, GB/T 35275: content types of the Chinese CMS
GM_DATA: Final = "1.2.156.10197.6.1.4.2.1"
GM_SIGNED_DATA: Final = "1.2.156.10197.6.1.4.2.2"
GM_ENVELOPED_DATA: Final = "1.2.156.10197.6.1.4.2.3"
GM_SIGNED_AND_ENVELOPED_DATA: Final = "1.2.156.10197.6.1.4.2.4"
GM_ENCRYPTED_DATA: Final = "1.2.156.10197.6.1.4.2.5"
GM_KEY_AGREEMENT_INFO: Final = "1.2.156.10197.6.1.4.2.6"

# RFC 5652: content types and attributes of CMS
CMS_DATA: Final = "1.2.840.113549.1.7.1"
CMS_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"
CMS_CONTENT_TYPE: Final = "1.2.840.113549.1.9.3"
CMS_MESSAGE_DIGEST: Final = "1.2.840.113549.1.9.4"
CMS_SIGNING_TIME: Final = "1.2.840.113549.1.9.5"

# RFC 3161, RFC 2634, RFC 5035: time-stamps, and attributes that name the signer's certificate
TST_INFO: Final = "1.2.840.113549.1.9.16.1.4"
AA_TIMESTAMP: Final = "1.2.840.113549.1.9.16.2.14"
AA_SIGNING_CERTIFICATE: Final = "1.2.840.113549.1.9.16.2.12"  # with SHA-1
AA_SIGNING_CERTIFICATE_V2: Final = "1.2.840.113549.1.9.16.2.47"
KP_TIME_STAMPING: Final = "1.3.6.1.5.5.7.3.8"

# RFC 8017: RSA
RSA_KEY: Final = "1.2.840.113549.1.1.1"
SHA1_RSA: Final = "1.2.840.113549.1.1.5"
MGF1: Final = "1.2.840.113549.1.1.8"
RSA_PSS: Final = "1.2.840.113549.1.1.10"
SHA256_RSA: Final = "1.2.840.113549.1.1.11"
SHA384_RSA: Final = "1.2.840.113549.1.1.12"
SHA512_RSA: Final = "1.2.840.113549.1.1.13"

# RFC 5480, RFC 5758: elliptic curves
EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
P256: Final = "1.2.840.10045.3.1.7"
P384: Final = "1.3.132.0.34"
P521: Final = "1.3.132.0.35"
ECDSA_SHA1: Final = "1.2.840.10045.4.1"
ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
ECDSA_SHA384: Final = "1.2.840.10045.4.3.3"
ECDSA_SHA512: Final = "1.2.840.10045.4.3.4"

# RFC 3279, RFC 5754: digests
MD5: Final = "1.2.840.113549.2.5"
SHA1: Final = "1.3.14.3.2.26"
SHA256: Final = "2.16.840.1.101.3.4.2.1"
SHA384: Final = "2.16.840.1.101.3.4.2.2"
SHA512: Final = "2.16.840.1.101.3.4.2.3"
