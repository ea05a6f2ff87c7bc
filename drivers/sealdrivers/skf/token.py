"""An application on a present device: :class:`sealdrivers.contract.Token`.

The PIN belongs to the application, so an application is what the contract calls a token. Login is kept in the library's
secure state; what the library forgets shows with the next call, as LoginRequired.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sealdrivers.contract import (
    CertificateInfo,
    DataObjectInfo,
    KeyInfo,
    KeyType,
    Mechanism,
    ModuleInfo,
    TokenContents,
    TokenInfo,
)
from sealdrivers.errors import (
    DeviceFailure,
    DriverError,
    KeyNotFound,
    LoginRequired,
    MechanismNotSupported,
    NotSupported,
    ObjectExists,
    ObjectInvalid,
    PinIncorrect,
    PinLocked,
    PinRejected,
    TokenRemoved,
)
from sealdrivers.host.protocol import wipe
from sealdrivers.pkcs11.publickeys import CertificateFacts, read_certificate
from sealdrivers.skf import abi, pins
from sealdrivers.skf.application import MAX_CERTIFICATE, Application, Container
from sealdrivers.skf.device import Device, removed
from sealdrivers.skf.errors import SAR
from sealdrivers.skf.key import MECHANISMS, SkfKey
from sealdrivers.skf.library import Number, secret
from sealdrivers.skf.names import container_name, file_name, text_of
from sealdrivers.uri import SkfUri

__all__ = ["MAX_DATA", "MAX_DATA_TOTAL", "SkfToken"]

MAX_DATA = 1 << 20
"""Octets of a file. A seal with its picture has tens of thousands; longer files are left out of listings."""

MAX_DATA_TOTAL = 4 << 20
"""Octets of all files in one listing; what comes after them is left out."""

MAX_OWNER = 255
"""Octets of the application name ``import_data`` is given. It is checked and not stored: SKF has no place for it."""

SOFTWARE = "Soft SKF"
"""How the manufacturer of the project's own software token begins (tests/softgm)."""

_HANDLE_GONE = SAR["SAR_INVALIDHANDLEERR"]


class SkfToken:
    """One application; the driver gives out the same object as long as the device stays connected."""

    def __init__(self, device: Device, name: bytes, module: ModuleInfo, serial: str) -> None:
        self.device = device
        self.name = name
        self._library = device.library
        self._module = module
        self._serial = serial
        self._uri = SkfUri(serial=serial, application=text_of(name))
        self._application: Application | None = None
        self._logged_in = False

    @property
    def info(self) -> TokenInfo:
        facts = self.device.facts()
        with self._operation(check=False) as application:
            pin = pins.pin_state(self._library, application.handle, abi.USER)
            admin_pin = pins.pin_state(self._library, application.handle, abi.ADMIN)
        # Applications of one device have PINs of their own: each must be told apart where a PIN is asked for.
        label = facts.label or text_of(self.device.name)
        if self.device.applications > 1:
            label = f"{label} · {text_of(self.name)}"
        return TokenInfo(
            uri=str(self._uri),
            label=label,
            serial=self._serial,
            manufacturer=facts.manufacturer,
            model="",
            module=self._module.path,
            driver=self._module.driver,
            login_required=True,
            logged_in=self.logged_in,
            protected_authentication_path=False,
            write_protected=False,
            pin=pin,
            software=facts.manufacturer.startswith(SOFTWARE),
            admin_pin=admin_pin,
        )

    @property
    def uri(self) -> str:
        """The token's URI, without a look at the device."""
        return str(self._uri)

    @property
    def logged_in(self) -> bool:
        """Whether the user has logged in through this object and nothing has ended it, as far as is known."""
        return self._logged_in and self.device.connected

    def contents(self) -> TokenContents:
        with self._operation() as application:
            containers = application.containers()
            return TokenContents(
                keys=tuple(self._key_info(container) for container in containers if container.has_key),
                certificates=tuple(
                    self._certificate_info(container, container.certificate)
                    for container in containers
                    if container.certificate is not None
                ),
                data_objects=tuple(self._data_objects(application)),
            )

    def key(self, uri: str) -> SkfKey:
        wanted = SkfUri.parse(uri)
        if not wanted.names(self._uri):
            raise KeyNotFound("the URI names another token")
        with self._operation() as application:
            names = [
                name for name in application.container_names() if wanted.matches_container("private", text_of(name))
            ]
            found = [container for container in map(application.container, names) if container.has_key]
            if len(found) != 1:
                raise KeyNotFound(f"{len(found) or 'no'} keys on the token match the URI")
            if found[0].fault is not None:
                raise found[0].fault
            return SkfKey(self, found[0].name, self._key_info(found[0]))

    def login(self, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        try:
            with self._operation() as application:
                if pin is None:
                    raise PinRejected("the token takes no PIN on the device; give one")
                pins.check_pin(pin)
                # Some libraries take any PIN, or refuse a right one, while somebody is logged in.
                self._log_out(application)
                try:
                    with secret(pin) as text:
                        self._spend(application, abi.USER, confirmed_last_try, "SKF_VerifyPIN", abi.USER, text)
                except DriverError:
                    with suppress(DriverError):  # it may have opened the device all the same
                        self._log_out(application)
                    raise
                self._logged_in = True
        finally:
            if pin is not None:
                wipe(pin)

    def logout(self) -> None:
        with self._operation(check=self._logged_in) as application:
            self._log_out(application)

    def change_pin(self, old: bytearray, new: bytearray, *, confirmed_last_try: bool = False) -> None:
        try:
            with self._operation() as application:
                pins.check_pin(old)
                pins.check_pin(new)
                with self._not_logging_in(application), secret(old) as old_text, secret(new) as new_text:
                    arguments = (abi.USER, old_text, new_text)
                    self._spend(application, abi.USER, confirmed_last_try, "SKF_ChangePIN", *arguments)
        finally:
            wipe(old)
            wipe(new)

    def unblock_pin(self, admin: bytearray, new: bytearray, *, confirmed_last_try: bool = False) -> None:
        try:
            with self._operation() as application:
                if not self._library.offers("SKF_UnblockPIN"):
                    raise NotSupported("the library does not unblock PINs")
                self._log_out(application)
                pins.check_pin(admin)
                pins.check_pin(new)
                with self._not_logging_in(application), secret(admin) as admin_text, secret(new) as new_text:
                    self._spend(application, abi.ADMIN, confirmed_last_try, "SKF_UnblockPIN", admin_text, new_text)
        finally:
            wipe(admin)
            wipe(new)

    def generate_key(self, type: KeyType, label: str, object_id: bytes) -> KeyInfo:
        name = container_name(label, object_id)
        function = {KeyType.SM2: "SKF_GenECCKeyPair", KeyType.RSA_2048: "SKF_GenRSAKeyPair"}.get(type)
        with self._operation() as application:
            if function is None or not self._library.offers(function, "SKF_CreateContainer"):
                raise MechanismNotSupported(f"the token does not generate {type.value} keys")
            self.require_login()
            if any(container.object_id == object_id for container in application.containers()):
                raise ObjectExists("the token holds a container of this identifier already")
            application.create_container(name)
            try:
                application.generate(name, sm2=type is KeyType.SM2, bits=2048)
                made = application.container(name)
                if made.public_key is None or made.public_key.type is not type:
                    raise DeviceFailure("the token does not show the key it has generated")
                return self._key_info(made)
            except DriverError:
                with suppress(DriverError):
                    application.delete_container(name)
                raise

    def import_certificate(self, der: bytes, label: str, object_id: bytes) -> CertificateInfo:
        """Store a certificate in the container of its key. It replaces any other, and is labelled as the key is."""
        container_name(label, object_id)
        if len(der) > MAX_CERTIFICATE:
            raise ObjectInvalid(f"the certificate is longer than {MAX_CERTIFICATE} octets")
        facts = read_certificate(der)
        if facts is None:
            raise ObjectInvalid("the octets are no DER certificate")
        with self._operation() as application:
            self.require_login()
            container = _container_of(application, facts, object_id)
            application.put_certificate(container.name, der)
            if application.container(container.name).certificate != der:
                raise DeviceFailure("the token does not show the certificate it has stored")
            return self._certificate_info(container, der)

    def import_data(self, value: bytes, label: str, application: str) -> DataObjectInfo:
        """Store a file of this name. ``application`` is not stored: the file belongs to the token's application."""
        name = file_name(label)
        if len(application.encode("utf-8", "replace")) > MAX_OWNER:
            raise ObjectInvalid(f"an application name has at most {MAX_OWNER} octets")
        if not 0 < len(value) <= MAX_DATA:
            raise ObjectInvalid(f"a data object has 1 to {MAX_DATA} octets")
        with self._operation() as opened:
            self.require_login()
            opened.write_file(name, value)
        return self._data_info(name, value)

    # What the key needs

    def sign(self, container: bytes, data: bytes, *, sm2: bool) -> bytes:
        """Sign e or a DigestInfo with the key in a container."""
        with self._operation(check=not self._logged_in) as application:
            self.require_login()
            try:
                return application.sign(container, data, sm2=sm2)
            except DriverError as error:
                application.close_containers()
                if isinstance(error, TokenRemoved | LoginRequired) or error.native_code is None:
                    raise
                if container not in application.container_names():
                    raise KeyNotFound("the token holds this key no more") from error
                if error.native_code != _HANDLE_GONE:
                    raise
            return application.sign(container, data, sm2=sm2)  # nothing was signed with a handle that is dead

    def require_login(self) -> None:
        """:raises LoginRequired: the PIN is needed first."""
        if not self.logged_in:
            raise LoginRequired("log in to the token first")

    def drop(self) -> None:
        """Log out and close the application; what the library says to it does not matter any more."""
        application, self._application = self._application, None
        was_logged_in, self._logged_in = self._logged_in, False
        if application is not None:
            if was_logged_in and not application.closed:
                with suppress(DriverError):
                    self._library.call("SKF_ClearSecureState", application.handle)
            application.close()

    # The rest

    @contextmanager
    def _operation(self, *, check: bool = True) -> Iterator[Application]:
        """Lend the open application.

        :param check: look first whether the device is still there, for operations that could end without asking it.
        :raises TokenRemoved: that is what was behind an error, whatever the library said.
        """
        try:
            if check:
                self.device.facts()
            if self._application is None or self._application.closed:
                self._application = Application(self.device, self.name)
            yield self._application
        except DriverError as error:
            self._recover(error)
            raise

    def _recover(self, error: DriverError) -> None:
        if isinstance(error, TokenRemoved):
            self.device.close()
        elif isinstance(error, LoginRequired):
            self._logged_in = False
        elif error.native_code is not None or isinstance(error, DeviceFailure):
            try:
                self.device.facts()
            except TokenRemoved:
                pass
            except DriverError:  # the first error says more
                return
        if not self.device.connected:
            self.drop()
            raise removed(error) from error
        if error.native_code == _HANDLE_GONE:
            self.drop()

    def _spend(self, application: Application, kind: int, confirmed: bool, name: str, *arguments: object) -> None:
        def call(left: Number) -> int:
            return self._library.status(name, application.handle, *arguments, left)

        try:
            pins.spend(self._library, application.handle, kind, name, call, confirmed_last_try=confirmed)
        except (PinIncorrect, PinLocked):
            with suppress(DriverError):
                self._log_out(application)
            raise

    @contextmanager
    def _not_logging_in(self, application: Application) -> Iterator[None]:
        """Undo the login that some libraries add to a change of PIN."""
        was_logged_in = self._logged_in
        yield
        if not was_logged_in:
            self._log_out(application)

    def _log_out(self, application: Application) -> None:
        self._logged_in = False
        application.close_containers()
        self._library.call("SKF_ClearSecureState", application.handle)

    def _data_objects(self, application: Application) -> Iterator[DataObjectInfo]:
        room = MAX_DATA_TOTAL
        for name in application.file_names():
            value = application.read_file(name, min(MAX_DATA, room), logged_in=self.logged_in)
            if value is not None:
                room -= len(value)
                yield self._data_info(name, value)
        value = application.eseal() if self.logged_in else None
        if value is not None:
            uri = self._uri.with_object("eseal")
            yield DataObjectInfo(str(uri), str(self._uri), "EPS_ReadESealData", text_of(self.name), value)

    def _key_info(self, container: Container) -> KeyInfo:
        public_key = container.public_key
        able: tuple[Mechanism, ...] = ()
        if public_key is not None and container.fault is None:
            able = tuple(
                mechanism
                for mechanism in MECHANISMS.get(public_key.type, ())
                if public_key.type is KeyType.SM2 or self._library.offers("SKF_RSASignData")
            )
        return KeyInfo(
            uri=str(self._uri.with_object("private", container=container.text)),
            token_uri=str(self._uri),
            object_id=container.object_id,
            label=container.label,
            type=public_key.type if public_key else KeyType.OTHER,
            bits=public_key.bits if public_key else 0,
            mechanisms=able,
            public_key=public_key.spki if public_key else None,
        )

    def _certificate_info(self, container: Container, der: bytes) -> CertificateInfo:
        return CertificateInfo(
            uri=str(self._uri.with_object("cert", container=container.text)),
            token_uri=str(self._uri),
            object_id=container.object_id,
            label=container.label,
            der=der,
        )

    def _data_info(self, name: bytes, value: bytes) -> DataObjectInfo:
        label = text_of(name)
        uri = self._uri.with_object("data", file=label)
        return DataObjectInfo(str(uri), str(self._uri), label, text_of(self.name), value)


def _container_of(application: Application, facts: CertificateFacts, object_id: bytes) -> Container:
    """Return the container of an identifier. :raises ObjectInvalid: none, or that of another key."""
    found = [container for container in application.containers() if container.object_id == object_id]
    if len(found) != 1:
        raise ObjectInvalid("the token holds no container of this identifier, where the certificate could go")
    public_key = found[0].public_key
    if public_key is not None and public_key.material != facts.public_key.material:
        raise ObjectInvalid("the certificate belongs to another key than the one of this identifier")
    return found[0]
