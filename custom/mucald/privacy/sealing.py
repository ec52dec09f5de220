"""What sites of one group tell each other through a server that cannot read it, and the key for that.

AES-256-GCM of the package ``cryptography``. The key is made at a site and handed on by certificates, see
:mod:`mucald.deploy.group_keys`. Each run derives one of its own from it, so that nothing of one run opens in
another.
"""

import os
import re
from pathlib import Path

from mucald.data.site_file import has_site_file
from mucald.errors import DataError, WireError
from mucald.state.files import write_atomically

KEY_BYTES = 32
OVERHEAD = 28
"""Bytes that a seal adds: nonce and tag."""

_FOLDER = "group_keys"
_NONCE = 12


class SealError(WireError):
    """What came sealed was sealed with another key, or has changed on its way."""


def key_file(home: Path, group: str) -> Path:
    """Return where a site keeps the key of a group.

    Raises:
        DataError: the group's name is no file name.
    """
    if not re.fullmatch(r"\w[\w.-]*", group):
        public = f"the group '{group}' has no name for a file: take letters, digits, '_', '-' and '.'"
        raise DataError(public, public=public)
    return home / _FOLDER / group


def write_key(home: Path, group: str, key: bytes) -> Path:
    """Keep a group's key, readable for its owner alone; return the file.

    Raises:
        DataError: see :func:`key_file`.
    """
    path = key_file(home, group)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, key.hex().encode())
    path.chmod(0o600)
    return path


def group_key(home: Path, site: str, group: str, seed: int) -> bytes:
    """Return the key of a site's group; for a site with phantoms, which are nobody's, one of the job's seed.

    Raises:
        DataError: a site with images of its own has no key, or a damaged one.
    """
    path = key_file(home, group)
    if not path.exists() and not has_site_file(home):
        return f"job seed {seed}".encode().ljust(KEY_BYTES)
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except FileNotFoundError:
        public = f"site '{site}' has no key of the group '{group}'"
        raise DataError(f"{public}: {path} is missing; see 'mucald group-key'", public=public) from None
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        public = f"the key of the group '{group}' at site '{site}' is damaged"
        raise DataError(f"{public}: take {path} anew with 'mucald group-key'", public=public)
    return key


def run_key(key: bytes, run_id: str) -> bytes:
    """Return the key of one run."""
    # Imported where it is used: most jobs seal nothing.
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"mucald group {run_id}".encode()).derive(key)


def seal(key: bytes, content: bytes, context: str) -> bytes:
    """Return content that only holders of the key can read, bound to ``context``, which is not within."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, content, context.encode())


def opened(key: bytes, sealed: bytes, context: str) -> bytes:
    """Return what :func:`seal` was given.

    Raises:
        SealError: it was sealed with another key or for another context, or has changed on its way.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], context.encode())
    except (InvalidTag, ValueError):
        raise SealError(
            f"what came for '{context}' does not open with this site's group key: it has another key, or it "
            "was changed on its way; whichever site has another key than its group has to take its key anew "
            "with 'mucald group-key'"
        ) from None
