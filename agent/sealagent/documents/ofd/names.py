"""XML names of OFD (GB/T 33190-2016, 7 and 18; GM/T 0099-2020): declarations only."""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "http://www.ofdspec.org/2016"
PREFIX: Final = "ofd"
NAMESPACES: Final = (NAMESPACE, "http://www.ofdspec.org")
"""The second stands in OFD.xml of some writers."""

# Files with fixed names
MAIN: Final = "OFD.xml"
INTEGRITY_LIST: Final = "OFDEntries.xml"
"""GM/T 0099-2020, integrity."""
ENCRYPTIONS: Final = "Encryptions.xml"
"""GM/T 0099-2020, encryption."""

# OFD.xml
OFD: Final = "OFD"
DOC_BODY: Final = "DocBody"
DOC_ROOT: Final = "DocRoot"
VERSIONS: Final = "Versions"
SIGNATURES: Final = "Signatures"

# Document.xml and pages
DOCUMENT: Final = "Document"
COMMON_DATA: Final = "CommonData"
PAGE_AREA: Final = "PageArea"
AREA: Final = "Area"
PHYSICAL_BOX: Final = "PhysicalBox"
PAGES: Final = "Pages"
PAGE: Final = "Page"
CONTENT: Final = "Content"
PERMISSIONS: Final = "Permissions"
SIGNATURE: Final = "Signature"
"""In Permissions: whether the document may be signed. In Signatures: a record. As a root: a signature."""

# Signatures.xml
MAX_SIGN_ID: Final = "MaxSignId"

# Signature.xml
SIGNED_INFO: Final = "SignedInfo"
SIGNED_VALUE: Final = "SignedValue"
PROVIDER: Final = "Provider"
SIGNATURE_METHOD: Final = "SignatureMethod"
SIGNATURE_DATE_TIME: Final = "SignatureDateTime"
REFERENCES: Final = "References"
REFERENCE: Final = "Reference"
CHECK_VALUE: Final = "CheckValue"
STAMP_ANNOT: Final = "StampAnnot"
SEAL: Final = "Seal"
BASE_LOC: Final = "BaseLoc"

# OFDEntries.xml
DOC_ENTRIES: Final = "DocEntries"
SIGNED_VALUE_LOC: Final = "SignedValueLoc"
FILE_LIST: Final = "FileList"
FILE: Final = "File"
