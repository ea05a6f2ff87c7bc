"""The certificate authority of the demo, which is that of the test bed. Never trust it outside tests."""

from __future__ import annotations

from testbed.authorities import Authority, create_authority
from testbed.openssl import KEY_TYPES, SM2_ID
from testbed.openssl import OpensslError as AuthorityError

__all__ = ["KEY_TYPES", "SM2_ID", "Authority", "AuthorityError", "create_authority"]
