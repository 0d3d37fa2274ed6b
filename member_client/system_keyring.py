"""Private keys in the operating system's key store, through the package `keyring`, which is an extra.

Secret Service or KWallet on Linux, Keychain on macOS, Credential Locker on Windows: unlocked with the user's session.
"""

from __future__ import annotations

from types import ModuleType

from member_client.errors import InvalidInput

SERVICE = "stillwatch"
_TRY_FILES = "keys can lie in encrypted files instead: --passphrase"


def check_keyring() -> None:
    """See that there is a keyring.

    Raises:
        InvalidInput: the package, or a key store behind it, is missing.
    """
    backend = _keyring().get_keyring()
    if getattr(backend, "priority", 0) <= 0:
        raise InvalidInput("there is no keyring on this machine, or none that this session can reach", _TRY_FILES)


def keep_in_keyring(key_id: str, pem: str) -> None:
    """Put a private key into the keyring.

    Raises:
        InvalidInput: it does not take it.
    """
    keyring = _keyring()
    try:
        keyring.set_password(SERVICE, key_id, pem)
        kept = keyring.get_password(SERVICE, key_id)
    except (keyring.errors.KeyringError, OSError) as error:
        raise _unusable(error) from error
    if kept != pem:  # a backend that keeps nothing, or cuts it off
        raise InvalidInput("the keyring does not give back what was put into it", _TRY_FILES)


def read_from_keyring(key_id: str) -> str:
    """A private key in PEM.

    Raises:
        InvalidInput: the keyring does not have it, or is locked.
    """
    keyring = _keyring()
    try:
        pem: str | None = keyring.get_password(SERVICE, key_id)
    except (keyring.errors.KeyringError, OSError) as error:
        raise _unusable(error) from error
    if pem is None:
        raise InvalidInput(f"the keyring has no key {key_id[:16]}…", "is this the right user, on the right machine?")
    return pem


def _keyring() -> ModuleType:
    try:
        import keyring
        import keyring.errors
    except ModuleNotFoundError as error:
        raise InvalidInput(
            "the package keyring is not installed", "pip install 'stillwatch[keyring]', or use files"
        ) from error
    return keyring


def _unusable(error: Exception) -> InvalidInput:
    return InvalidInput(f"the keyring cannot be used: {str(error) or type(error).__name__}", _TRY_FILES)
