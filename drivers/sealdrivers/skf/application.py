"""An open application on a device: its containers and files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from sealdrivers.errors import DeviceFailure, DriverError, KeyNotFound, ObjectExists, TokenRemoved
from sealdrivers.pkcs11.publickeys import CertificateFacts, PublicKey, read_certificate
from sealdrivers.skf import abi, records
from sealdrivers.skf.device import Device
from sealdrivers.skf.library import Number
from sealdrivers.skf.names import key_names, text_of

__all__ = ["Application", "Container"]

MAX_CERTIFICATE = 64 << 10
"""Octets of a certificate. Seal certificates have one to four thousand; a longer one is left out of listings."""

MAX_PUBLIC_KEY = 1 << 10
"""Octets of a public key's record; the largest known has 268."""

MAX_SIGNATURE = 256
"""Octets of an RSA signature: SKF's records hold 2048 bits at most."""

MAX_ESEAL = 40 << 10
"""Octets that EPS_ReadESealData is given."""

CHUNK = 4096
"""Octets of a file that are read or written at once, where the device does not name a smaller number."""

MIN_CHUNK = 64
"""A device that names less does not mean it."""

SIGN = 1  # of the two keys in a container, the one for signing


@dataclass(frozen=True, slots=True)
class Container:
    """A container and the signing half of what is in it."""

    name: bytes
    public_key: PublicKey | None
    certificate: bytes | None
    facts: CertificateFacts | None
    """None where the certificate's octets are no certificate."""
    fault: DriverError | None
    """Why the key cannot be used, though there may be one."""

    @property
    def text(self) -> str:
        return text_of(self.name)

    @property
    def label(self) -> str:
        return key_names(self.name)[0]

    @property
    def object_id(self) -> bytes:
        return key_names(self.name)[1]

    @property
    def has_key(self) -> bool:
        return self.public_key is not None or self.fault is not None


class Application:
    """An open application. Containers it has opened for signing stay open until it is closed.

    :raises DriverError: it cannot be opened.
    """

    def __init__(self, device: Device, name: bytes) -> None:
        self._device = device
        self._library = device.library
        self.handle = self._library.open("SKF_OpenApplication", device.handle, name)
        self.closed = False
        self._chunk = device.max_buffer if MIN_CHUNK <= device.max_buffer < CHUNK else CHUNK
        self._open: dict[bytes, int] = {}
        device.opened.append(self)

    def close(self) -> None:
        """Close it and what it has opened; what the library says to it does not matter any more."""
        if not self.closed:
            self.close_containers()
            self.closed = True
            self._device.opened.remove(self)
            with suppress(DriverError):
                self._library.call("SKF_CloseApplication", self.handle)

    # Containers

    def container_names(self) -> list[bytes]:
        """Return the names of the containers."""
        return list(dict.fromkeys(self._library.names("SKF_EnumContainer", self.handle)))

    def containers(self) -> list[Container]:
        """Read every container. One that is deleted meanwhile is left out.

        :raises DeviceFailure: an answer makes no sense; the library is not to be trusted with anything then.
        """
        found = []
        for name in self.container_names():
            with suppress(KeyNotFound):
                found.append(self.container(name))
        return found

    def container(self, name: bytes) -> Container:
        """Read one container. :raises KeyNotFound: there is none of this name."""
        handle = self._open_container(name)
        try:
            fault: DriverError | None = None
            public_key = facts = certificate = None
            try:
                public_key = self._public_key(handle)
            except DriverError as error:
                fault = _only_of_this_container(error)
            try:
                certificate = self._library.octets("SKF_ExportCertificate", handle, SIGN, room=MAX_CERTIFICATE) or None
            except DriverError as error:
                _only_of_this_container(error)
            if certificate is not None:
                facts = read_certificate(certificate)
            if facts is not None and public_key is not None and facts.public_key.material != public_key.material:
                fault = DeviceFailure("the certificate in the key's container belongs to another key")
            return Container(name, public_key, certificate, facts, fault)
        finally:
            self._close_container(handle)

    def _public_key(self, handle: int) -> PublicKey | None:
        try:
            blob = self._library.octets("SKF_ExportPublicKey", handle, SIGN, room=MAX_PUBLIC_KEY)
        except KeyNotFound:
            return None
        except DriverError as error:
            # Products answer for an empty container in ways of their own.
            if error.native_code is not None and not isinstance(error, TokenRemoved) and self._is_empty(handle):
                return None
            raise
        return records.public_key(blob)

    def _is_empty(self, handle: int) -> bool:
        kind = Number()
        with suppress(DriverError):
            self._library.call("SKF_GetContainerType", handle, kind)
        return kind.known == abi.CONTAINER_EMPTY

    def create_container(self, name: bytes) -> None:
        """Make a container. :raises ObjectExists: there is one of this name; nothing was changed."""
        if name in self.container_names():
            raise ObjectExists("the application holds a container of this name already")
        self._close_container(self._library.open("SKF_CreateContainer", self.handle, name))

    def delete_container(self, name: bytes) -> None:
        """Delete a container with all that is in it."""
        self._forget(name)
        self._library.call("SKF_DeleteContainer", self.handle, name)

    def generate(self, name: bytes, *, sm2: bool, bits: int) -> None:
        """Generate the signing key of a container."""
        handle = self._open_container(name)
        try:
            if not sm2:
                self._library.record("SKF_GenRSAKeyPair", handle, bits, size=abi.RSA_PUBLIC_KEY_BLOB)
                return
            try:
                self._library.record("SKF_GenECCKeyPair", handle, abi.SM2_1_VENDOR, size=abi.ECC_PUBLIC_KEY_BLOB)
            except TokenRemoved:
                raise
            except DriverError as refused:
                # Libraries built on GM/T 0006 know the algorithm by another number.
                if refused.native_code is None:
                    raise
                self._library.record("SKF_GenECCKeyPair", handle, abi.SM2_1_GMT0006, size=abi.ECC_PUBLIC_KEY_BLOB)
        finally:
            self._close_container(handle)

    def put_certificate(self, name: bytes, der: bytes) -> None:
        """Store the certificate of the signing key, instead of the one that may be there."""
        handle = self._open_container(name)
        try:
            self._library.call("SKF_ImportCertificate", handle, SIGN, der, len(der))
        finally:
            self._close_container(handle)

    def sign(self, name: bytes, data: bytes, *, sm2: bool) -> bytes:
        """Sign e (SM2) or a DigestInfo (RSA); the answer is DER, or octets of the modulus's length."""
        handle = self._open.get(name)
        if handle is None:
            handle = self._open[name] = self._open_container(name)
        if sm2:
            size = abi.ECC_SIGNATURE_BLOB
            return records.sm2_signature(self._library.record("SKF_ECCSignData", handle, data, len(data), size=size))
        arguments = (handle, data, len(data))
        answer = self._library.octets("SKF_RSASignData", *arguments, room=MAX_SIGNATURE, repeatable=False)
        if len(answer) != MAX_SIGNATURE:
            raise DeviceFailure(f"SKF_RSASignData: {len(answer)} octets instead of {MAX_SIGNATURE}")
        if not any(answer):
            raise DeviceFailure("SKF_RSASignData: success without output")
        return answer

    def close_containers(self) -> None:
        """Close the containers that are kept open for signing."""
        for name in list(self._open):
            self._forget(name)

    def _forget(self, name: bytes) -> None:
        handle = self._open.pop(name, None)
        if handle is not None:
            self._close_container(handle)

    def _open_container(self, name: bytes) -> int:
        try:
            return self._library.open("SKF_OpenContainer", self.handle, name)
        except TokenRemoved:
            raise
        except DriverError as error:
            # How a library says that there is none differs from vendor to vendor.
            if error.native_code is None or name in self.container_names():
                raise
            message = "the token holds no such container"
            raise KeyNotFound(message, native_code=error.native_code, native_name=error.native_name) from error

    def _close_container(self, handle: int) -> None:
        with suppress(DriverError):
            self._library.call("SKF_CloseContainer", handle)

    # Files

    def file_names(self) -> list[bytes]:
        """Return the names of the files; none where the library offers no files."""
        if not self._library.offers("SKF_EnumFiles", "SKF_GetFileInfo", "SKF_ReadFile"):
            return []
        return list(dict.fromkeys(self._library.names("SKF_EnumFiles", self.handle)))

    def read_file(self, name: bytes, most: int, *, logged_in: bool) -> bytes | None:
        """Read a file whole; None where it is empty, longer than ``most``, or not for this reader."""
        try:
            record = self._library.record("SKF_GetFileInfo", self.handle, name, size=abi.FILE_ATTRIBUTE)
            size, rights = records.file_attribute(record)
            readable = rights == abi.ANYONE or (logged_in and rights & abi.USER_RIGHT)
            if not readable or not 0 < size <= most:
                return None
            return self._read(name, size)
        except DriverError as error:
            _only_of_this_container(error)
            return None

    def _read(self, name: bytes, size: int) -> bytes:
        data = b""
        while len(data) < size:
            wanted = min(self._chunk, size - len(data))
            piece = self._library.octets("SKF_ReadFile", self.handle, name, len(data), wanted, room=wanted)
            if not piece:
                raise DeviceFailure("SKF_ReadFile: success without output")
            data += piece
        return data

    def write_file(self, name: bytes, value: bytes) -> None:
        """Make a file that anyone may read and the user may write.

        :raises ObjectExists: there is one of this name. :raises DeviceFailure: it does not hold what was written.
        """
        if name in self.file_names():
            raise ObjectExists("the token holds a file of this name already")
        self._library.call("SKF_CreateFile", self.handle, name, len(value), abi.ANYONE, abi.USER_RIGHT)
        try:
            for start in range(0, len(value), self._chunk):
                piece = value[start : start + self._chunk]
                self._library.call("SKF_WriteFile", self.handle, name, start, piece, len(piece))
            if self._read(name, len(value)) != value:
                raise DeviceFailure("SKF_WriteFile: the file does not hold what was written to it")
        except DriverError:
            with suppress(DriverError):
                self._library.call("SKF_DeleteFile", self.handle, name)
            raise

    def eseal(self) -> bytes | None:
        """Read the seal that some products keep behind EPS_ReadESealData; None where there is none. After login."""
        if not self._library.offers("EPS_ReadESealData"):
            return None
        key = (abi.EPS_MAINTENANCE_KEY, abi.EPS_SM4_ECB)
        try:
            return self._library.octets("EPS_ReadESealData", self.handle, *key, room=MAX_ESEAL, after=(0,)) or None
        except DriverError as error:
            _only_of_this_container(error)
            return None


def _only_of_this_container(error: DriverError) -> DriverError:
    """Return an error that says something of one object only; raise one that says something of the whole device."""
    if isinstance(error, TokenRemoved) or error.native_code is None:
        raise error
    return error
