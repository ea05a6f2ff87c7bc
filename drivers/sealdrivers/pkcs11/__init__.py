"""The PKCS#11 driver, over python-pkcs11."""
