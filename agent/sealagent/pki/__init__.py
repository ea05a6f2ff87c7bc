"""Keys, signatures, certificates and paths: SM2 and SM3 beside RSA and ECDSA."""
