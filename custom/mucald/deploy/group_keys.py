"""The key of a group: made at one site, and handed to the others in a letter that they alone can open.

The letter may go any way, also through the server: the maker signs it, and wraps the key for each site with
the public key of its certificate (RSA-OAEP). Certificates count if the project's root, which every kit has,
issued them.
"""

import base64
import datetime
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID

from mucald.config.schema import parse_json
from mucald.deploy.kits import Kit
from mucald.errors import ConfigError, WorkspaceError
from mucald.privacy.sealing import KEY_BYTES, key_file, write_key

_WRAPPING = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
_SIGNING = padding.PSS(padding.MGF1(SHA256()), padding.PSS.MAX_LENGTH)


def make_key(kit: Kit, group: str, certificates: Sequence[Path], force: bool = False) -> str:
    """Make a group's key, keep it at this site, and return the letter to the other sites of the group.

    Args:
        kit: this site's.
        group: its name in the job: ``group`` of its sites, or their task.
        certificates: ``client.crt`` of the other sites, each from its site's kit.
        force: replace a key that this site has of the group.

    Raises:
        WorkspaceError: this site has one, and it may not be replaced.
        ConfigError: a certificate is missing, not of this project, or out of date.
    """
    key, keys = os.urandom(KEY_BYTES), {}
    for path in certificates:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            raise ConfigError(f"{path} is no certificate; each site sends startup/client.crt") from None
        keys[_holder(kit, certificate, str(path))] = _text(_public(certificate).encrypt(key, _WRAPPING))
    content = {"group": group, "maker": kit.name, "keys": keys}
    own = (kit.folder / "startup/client.crt").read_text(encoding="ascii")
    signature = _private(kit).sign(_bytes(content), _SIGNING, SHA256())
    _keep(kit, group, key, force)
    return json.dumps(content | {"certificate": own, "signature": _text(signature)}, indent=2) + "\n"


def take_key(kit: Kit, letter: str, maker: str, force: bool = False) -> Path:
    """Take a group's key from a letter, and return the file in which this site keeps it.

    Args:
        kit: this site's.
        letter: what :func:`make_key` returned.
        maker: the site that the key is expected from.
        force: see :func:`make_key`.

    Raises:
        WorkspaceError: see :func:`make_key`.
        ConfigError: the letter is damaged, of another site, or not for this one.
    """
    content = parse_json(letter, "the letter")
    try:
        certificate = x509.load_pem_x509_certificate(content.pop("certificate").encode())
        signature = base64.b64decode(content.pop("signature"), validate=True)
        sender = _holder(kit, certificate, "the letter's certificate")
        _public(certificate).verify(signature, _bytes(content), _SIGNING, SHA256())
        group, keys = str(content["group"]), dict(content["keys"])
    except (KeyError, ValueError, AttributeError, TypeError):
        raise ConfigError("the letter is damaged; let its maker send it again") from None
    except InvalidSignature:
        raise ConfigError("the letter's signature is wrong: it is not what its maker has written") from None
    if {sender, content["maker"]} != {maker}:
        raise ConfigError(f"the letter is of '{sender}', not of '{maker}'")
    if kit.name not in keys:
        raise ConfigError(f"the letter is for {', '.join(sorted(keys))}, not for '{kit.name}'")
    try:
        key = _private(kit).decrypt(base64.b64decode(keys[kit.name]), _WRAPPING)
    except ValueError:
        raise ConfigError("the letter was written for another certificate of this site") from None
    return _keep(kit, group, key, force)


def _keep(kit: Kit, group: str, key: bytes, force: bool) -> Path:
    path = key_file(kit.home, group)
    if path.exists() and not force:
        raise WorkspaceError(f"{path} exists: this site has a key of that group; --force replaces it")
    return write_key(kit.home, group, key)


def _holder(kit: Kit, certificate: x509.Certificate, what: str) -> str:
    """Return whom a certificate is of, once it is known to be of this project."""
    root = kit.folder / "startup/rootCA.pem"
    try:
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(root.read_bytes()))
    except (InvalidSignature, ValueError, TypeError):
        raise ConfigError(f"{what} was not issued by this project's {root.name}") from None
    if certificate.not_valid_after_utc < datetime.datetime.now(datetime.UTC):
        raise ConfigError(f"{what} is out of date; provision again")
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)


def _public(certificate: x509.Certificate) -> rsa.RSAPublicKey:
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey), "FLARE provisions RSA keys"
    return key


def _private(kit: Kit) -> rsa.RSAPrivateKey:
    path = kit.folder / "startup/client.key"
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except ValueError:
        raise ConfigError(f"{path} is damaged; let the coordinator send the kit again") from None
    assert isinstance(key, rsa.RSAPrivateKey), "FLARE provisions RSA keys"
    return key


def _bytes(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
