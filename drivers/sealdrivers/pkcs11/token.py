"""A present token: :class:`sealdrivers.contract.Token`.

Login once, then one kept session and one kept key handle; both are looked up anew only after an error. Every error ends
the kept session, because a failed operation may stay active in it. The new session is opened before the old one is
closed: closing the last session of a token logs the user out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from pkcs11 import Attribute, ObjectClass

from sealdrivers.contract import (
    CertificateInfo,
    DataObjectInfo,
    KeyInfo,
    KeyType,
    ModuleInfo,
    TokenContents,
    TokenInfo,
)
from sealdrivers.errors import (
    AdminPinIncorrect,
    AdminPinLocked,
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
from sealdrivers.pkcs11 import abi, pins, softhsm
from sealdrivers.pkcs11.binding import Module, Session, Slot, TokenFacts
from sealdrivers.pkcs11.checks import check_names, check_pin, wipe
from sealdrivers.pkcs11.generation import generate_pair, generation_mechanism
from sealdrivers.pkcs11.key import Pkcs11Key
from sealdrivers.pkcs11.mechanisms import Abilities
from sealdrivers.pkcs11.objects import (
    MAX_CERTIFICATE,
    MAX_DATA,
    FoundCertificate,
    list_certificates,
    list_data_objects,
    list_keys,
    object_uri,
)
from sealdrivers.pkcs11.publickeys import CertificateFacts, read_certificate, read_spki
from sealdrivers.pkcs11.sm2 import Sm2Support
from sealdrivers.uri import Pkcs11Uri

__all__ = ["Pkcs11Token"]

SOFTWARE = (softhsm.MANUFACTURER, "SoftGM")
"""How the manufacturers of software tokens begin: SoftHSM, and the project's own SM2 module (tests/softgm)."""


class Pkcs11Token:
    """One token; the driver gives out the same object as long as the token is present."""

    def __init__(
        self, module: Module, module_info: ModuleInfo, slot: Slot, facts: TokenFacts, sm2: Callable[..., Sm2Support]
    ) -> None:
        self.slot = slot
        self.identity = facts.identity
        self.handles = 0
        """Counts the sets of object handles: one is dead when the number has moved on."""
        self._module = module
        self._module_info = module_info
        self._uri = Pkcs11Uri(
            token=facts.label, manufacturer=facts.manufacturer, model=facts.model, serial=facts.serial
        )
        self._session: Session | None = None
        self._abilities: Abilities | None = None
        self._sm2 = sm2

    @property
    def info(self) -> TokenInfo:
        facts = self.facts()
        return TokenInfo(
            uri=str(self._uri),
            label=facts.label,
            serial=facts.serial,
            manufacturer=facts.manufacturer,
            model=facts.model,
            module=self._module_info.path,
            driver=self._module_info.driver,
            login_required=bool(facts.flags & abi.CKF_LOGIN_REQUIRED),
            logged_in=self.logged_in,
            protected_authentication_path=bool(facts.flags & abi.CKF_PROTECTED_AUTHENTICATION_PATH),
            write_protected=bool(facts.flags & abi.CKF_WRITE_PROTECTED),
            pin=pins.user_pin(facts.flags),
            software=facts.manufacturer.startswith(SOFTWARE),
            admin_pin=pins.admin_pin(facts.flags),
        )

    @property
    def logged_in(self) -> bool:
        """Whether the user is logged in, as the module sees it."""
        session = self._session
        return session is not None and session.epoch == self._module.epoch and session.user_logged_in()

    def facts(self) -> TokenFacts:
        """Read what the token says of itself now. :raises TokenRemoved: it is gone, or another is in its place."""
        try:
            present = self.slot.present()
            facts = self.slot.token()
        except DriverError as error:
            # A token that cannot even be asked is not there. SoftHSM 2.6.1 answers CKR_GENERAL_ERROR.
            raise _removed(error) from error
        if not present or facts.identity != self.identity:
            raise _removed(None)
        return facts

    def session(self) -> Session:
        """Return the kept session, or open it."""
        if self._session is None or self._session.epoch != self._module.epoch:
            self.handles += 1
            self._session = self.slot.open()
        return self._session

    def drop(self) -> None:
        """Close the kept session; that logs the user out."""
        session, self._session = self._session, None
        self.handles += 1
        if session is not None and session.epoch == self._module.epoch:
            session.close()

    def recover(self, error: DriverError) -> None:
        """Make the token usable after an error: end the kept session, give PIN errors the flags of now.

        :raises TokenRemoved: that is what was behind it, whatever the module said.
        """
        try:
            facts = self.facts()
        except TokenRemoved:
            self.drop()
            raise _removed(error) from error
        self._replace_session()
        if isinstance(error, PinIncorrect | PinLocked | PinRejected):
            of_admin = isinstance(error, AdminPinIncorrect | AdminPinLocked)
            pin = pins.admin_pin(facts.flags) if of_admin else pins.user_pin(facts.flags)
            error.count_low = pin.count_low
            error.final_try = pin.final_try
            error.locked = isinstance(error, PinLocked) or pin.locked

    def contents(self) -> TokenContents:
        with self._operation():
            session = self.session()
            certificates = list_certificates(session, self._uri)
            found = TokenContents(
                keys=tuple(self._keys(session, certificates)),
                certificates=tuple(certificate.info for certificate in certificates),
                data_objects=tuple(list_data_objects(session, self._uri)),
            )
            self.facts()  # SoftHSM 2.6.1 lists nothing, without an error, once its directory is gone
            return found

    def key(self, uri: str) -> Pkcs11Key:
        wanted = Pkcs11Uri.parse(uri)
        if not wanted.matches_token(self.info, self._module_info):
            raise KeyNotFound("the URI names another token")
        with self._operation():
            found = [
                key for key in self._keys(self.session()) if wanted.matches_object("private", key.object_id, key.label)
            ]
            if len(found) != 1:
                self.facts()
                raise KeyNotFound(f"{len(found) or 'no'} keys on the token match the URI")
            return Pkcs11Key(self, found[0])

    def login(self, pin: bytearray | None, *, confirmed_last_try: bool = False) -> None:
        try:
            with self._operation():
                facts = self.may_try_pin(pin, confirmed_last_try)
                if pin is None and not facts.flags & abi.CKF_PROTECTED_AUTHENTICATION_PATH:
                    raise PinRejected("the token takes no PIN on the device; give one")
                session = self.session()
                if session.user_logged_in():  # C_Login would refuse without a look at the PIN
                    session.logout()
                self.handles += 1
                session.login(pin)
        finally:
            wipe(pin)

    def logout(self) -> None:
        with self._operation():
            self.handles += 1
            if self.logged_in:
                self.session().logout()

    def change_pin(self, old: bytearray, new: bytearray, *, confirmed_last_try: bool = False) -> None:
        try:
            with self._operation():
                facts = self.may_try_pin(old, confirmed_last_try)
                check_pin(new, facts)
                with self._opened_for_writing() as session:
                    session.set_pin(old, new)
        finally:
            wipe(old)
            wipe(new)

    def unblock_pin(self, admin: bytearray, new: bytearray, *, confirmed_last_try: bool = False) -> None:
        try:
            with self._operation():
                if not self._module.functions.C_InitPIN:
                    raise NotSupported("the module has no C_InitPIN")
                self.drop()  # no read-only session, and no user, may be there while the security officer is
                facts = self.facts()
                check_pin(admin, facts)
                check_pin(new, facts)
                session = self.slot.open(rw=True)
                try:
                    pins.log_admin_in(session, self.facts(), admin, confirmed_last_try)
                    session.init_pin(new)
                finally:
                    session.close()  # the only one: that logs the security officer out
        finally:
            wipe(admin)
            wipe(new)

    def generate_key(self, type: KeyType, label: str, object_id: bytes) -> KeyInfo:
        check_names(label, object_id=object_id)
        with self._operation():
            able = self.abilities()
            generation = generation_mechanism(type, able.offered, able.sm2)
            if generation is None:
                raise MechanismNotSupported(f"the token does not generate {type.value} keys")
            with self._writing() as session:
                for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY, ObjectClass.CERTIFICATE):
                    if session.find({Attribute.CLASS: kind, Attribute.ID: object_id}):
                        raise ObjectExists("the token holds an object of this identifier already")
                generate_pair(session, type, generation, label, object_id, able.sm2)
            made = [key for key in self._keys(self.session()) if key.object_id == object_id]
            if len(made) != 1:
                self.facts()
                raise DeviceFailure("the token does not show the key it has generated")
            return made[0]

    def import_certificate(self, der: bytes, label: str, object_id: bytes) -> CertificateInfo:
        check_names(label, object_id=object_id)
        if len(der) > MAX_CERTIFICATE:
            raise ObjectInvalid(f"the certificate is longer than {MAX_CERTIFICATE} octets")
        facts = read_certificate(der)
        if facts is None:
            raise ObjectInvalid("the octets are no DER certificate")
        with self._operation(), self._writing() as session:
            certificates = list_certificates(session, self._uri)
            _require_pair(self._keys(session, certificates), facts, object_id)
            same = [
                certificate.object
                for certificate in certificates
                if certificate.info.object_id == object_id and certificate.info.der == der
            ]
            session.create(
                {
                    Attribute.CLASS: ObjectClass.CERTIFICATE,
                    Attribute.CERTIFICATE_TYPE: 0,  # CKC_X_509
                    Attribute.TOKEN: True,
                    Attribute.PRIVATE: False,
                    Attribute.LABEL: label,
                    Attribute.ID: object_id,
                    Attribute.SUBJECT: facts.subject,
                    Attribute.ISSUER: facts.issuer,
                    Attribute.SERIAL_NUMBER: facts.serial,
                    Attribute.VALUE: der,
                }
            )
            for replaced in same:
                replaced.destroy()
        uri = object_uri(self._uri, "cert", object_id=object_id, label=label)
        return CertificateInfo(uri=uri, token_uri=str(self._uri), object_id=object_id, label=label, der=der)

    def import_data(self, value: bytes, label: str, application: str) -> DataObjectInfo:
        check_names(label, application=application)
        if not 0 < len(value) <= MAX_DATA:
            raise ObjectInvalid(f"a data object has 1 to {MAX_DATA} octets")
        with self._operation(), self._writing() as session:
            if session.find({Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: label}):
                raise ObjectExists("the token holds a data object of this label already")
            session.create(
                {
                    Attribute.CLASS: ObjectClass.DATA,
                    Attribute.TOKEN: True,
                    Attribute.PRIVATE: False,
                    Attribute.LABEL: label,
                    Attribute.APPLICATION: application,
                    Attribute.VALUE: value,
                }
            )
        uri = object_uri(self._uri, "data", label=label)
        return DataObjectInfo(uri=uri, token_uri=str(self._uri), label=label, application=application, value=value)

    def abilities(self) -> Abilities:
        """Return what the token can do; its mechanism list is read once."""
        if self._abilities is None:
            offered = self.slot.mechanisms()
            model = " ".join((self.identity[1], self.identity[2]))
            self._abilities = Abilities(offered, self._sm2(offered=offered, model=model))
        return self._abilities

    def _keys(self, session: Session, certificates: Sequence[FoundCertificate] | None = None) -> list[KeyInfo]:
        visible = self.logged_in or not self.facts().flags & abi.CKF_LOGIN_REQUIRED
        if certificates is None:
            certificates = list_certificates(session, self._uri)
        return list_keys(session, self._uri, certificates, self.abilities(), private_visible=visible)

    @contextmanager
    def _operation(self) -> Iterator[None]:
        if self._session is not None and self._session.state() is None:  # the token was pulled and plugged in again
            self.drop()
        try:
            yield
        except DriverError as error:
            self.recover(error)
            raise

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        """Open a read/write session for a user who is logged in.

        SoftHSM 2.6.1, as the standard allows, would take public objects from anybody.
        """
        self.require_login()
        with self._opened_for_writing() as session:
            yield session

    @contextmanager
    def _opened_for_writing(self) -> Iterator[Session]:
        self.session()  # stays open: closing the only session would log the user out
        session = self.slot.open(rw=True)
        try:
            yield session
        finally:
            session.close()

    def _replace_session(self) -> None:
        old = self._session
        if old is None or old.epoch != self._module.epoch:
            return
        self.handles += 1
        alive = old.state() is not None  # the number of a dead one may be given to the new one: OpenSC 0.23 does
        try:
            self._session = self.slot.open()
        except DriverError:  # the token may not allow two: then the login goes with the old one
            self._session = None
        if alive:
            old.close()

    def require_login(self) -> None:
        """:raises LoginRequired: the token wants the PIN first."""
        if self.facts().flags & abi.CKF_LOGIN_REQUIRED and not self.logged_in:
            raise LoginRequired("log in to the token first")

    def may_authenticate(self, pin: bytearray | None, confirmed_last_try: bool) -> bool:
        """Say whether one signature can be logged in for: with a PIN, or on a device that asks for it itself."""
        facts = self.may_try_pin(pin, confirmed_last_try)
        return pin is not None or bool(facts.flags & abi.CKF_PROTECTED_AUTHENTICATION_PATH)

    def may_try_pin(self, pin: bytearray | None, confirmed_last_try: bool) -> TokenFacts:
        """Check everything that can be known without spending a try.

        :raises PinLastTry: the next wrong PIN locks the token, and the holder has not confirmed it.
        """
        facts = self.facts()
        pins.guard(pins.user_pin(facts.flags), confirmed_last_try)
        if pin is not None:
            check_pin(pin, facts)
        return facts


def _require_pair(keys: Sequence[KeyInfo], facts: CertificateFacts, object_id: bytes) -> None:
    """:raises ObjectInvalid: the key of this identifier is not the certificate's."""
    for key in keys:
        known = read_spki(key.public_key) if key.object_id == object_id and key.public_key else None
        if known is not None and known.material != facts.public_key.material:
            raise ObjectInvalid("the certificate belongs to another key than the one of this identifier")


def _removed(error: DriverError | None) -> TokenRemoved:
    code, name = (error.native_code, error.native_name) if error else (None, None)
    return TokenRemoved("the token was removed", native_code=code, native_name=name)
