"""Makes the keys and certificates of a cluster, and reads what one says. The one home of `cryptography`.

    AUTHORITY/ca.key  ca.pem              stays with the operator
    NODE/node.key  node.pem  ca.pem       all that a node needs
    CLIENT/client.key  client.pem  ca.pem

Keys are of ECDSA P-256, in files of mode 0600. Making one again for the same name, into the same directory, renews it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from raftlog.errors import ConfigError
from raftlog.limits import NODE_ID_MAX
from raftlog.security.files import AUTHORITY_FILES, CLIENT_FILES, NODE_FILES, TRUSTED, PrivateFiles, check_private
from raftlog.security.identity import (
    AUTHORITY,
    CLIENT,
    NAME_MAX_CHARS,
    NODE,
    Identity,
    is_client_name,
    is_cluster_name,
    parse_urn,
)

AUTHORITY_DAYS = 3650
LEAF_DAYS = 365
_CLOCKS_DIFFER = datetime.timedelta(hours=1)  # by so much at most: a certificate is valid at once, everywhere
_LABEL = "[a-z0-9_][a-z0-9_-]{0,62}"
_HOST_NAME = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")  # of every node, so that commands beside it need no other address


class Facts(NamedTuple):
    """What a certificate says. `identity` None: it was made elsewhere, and names nobody in our way."""

    identity: Identity | None
    subject: str
    hosts: list[str]
    starts: datetime.datetime
    ends: datetime.datetime


def make_authority(directory: str, cluster: str, days: int = AUTHORITY_DAYS) -> Facts:
    """Raises ConfigError."""
    if not is_cluster_name(cluster):
        raise ConfigError(f"a cluster's name has 1 to 63 letters, digits and dashes, not {cluster!r}")
    folder = Path(directory)
    if any((folder / name).exists() for name in AUTHORITY_FILES):
        raise ConfigError(f"{folder} holds an authority already; make another one in another directory")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"raftlog {cluster}")])
    builder = _builder(name, name, key, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(authority=True), critical=True)
    urn = Identity(cluster, AUTHORITY, "ca").urn
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(urn)]), critical=False)
    _write(folder, AUTHORITY_FILES, key, builder.sign(key, hashes.SHA256()))
    return read_facts(folder / AUTHORITY_FILES.certificate)


def make_node(authority: str, node_id: int, hosts: Sequence[str], directory: str, days: int = LEAF_DAYS) -> Facts:
    """Raises ConfigError. Without `hosts` a renewal keeps those of the certificate that is there."""
    if not 1 <= node_id <= NODE_ID_MAX:
        raise ConfigError(f"--id lies between 1 and {NODE_ID_MAX}, not {node_id}")
    folder = Path(directory)
    identity, signer = _issuer(authority, NODE, str(node_id))
    there = _renewed(folder / NODE_FILES.certificate, identity)
    names = list(dict.fromkeys([*(hosts or (there.hosts if there else [])), *_LOOPBACK]))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    _issue(folder, NODE_FILES, identity, signer, [_general_name(host) for host in names], usages, days)
    return read_facts(folder / NODE_FILES.certificate)


def make_client(authority: str, name: str, directory: str, days: int = LEAF_DAYS) -> Facts:
    """Raises ConfigError."""
    if not is_client_name(name):
        text = f"a client's name has 1 to {NAME_MAX_CHARS} letters, digits and . _ @ -, not {name!r}"
        raise ConfigError(text)
    folder = Path(directory)
    identity, signer = _issuer(authority, CLIENT, name)
    _renewed(folder / CLIENT_FILES.certificate, identity)
    _issue(folder, CLIENT_FILES, identity, signer, [], [ExtendedKeyUsageOID.CLIENT_AUTH], days)
    return read_facts(folder / CLIENT_FILES.certificate)


def read_facts(path: Path) -> Facts:
    """Raises ConfigError."""
    certificate = _read_certificate(path)
    urns: list[str] = []
    hosts: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        urns = names.get_values_for_type(x509.UniformResourceIdentifier)
        hosts = names.get_values_for_type(x509.DNSName)
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    named = [found for found in map(parse_urn, urns) if found is not None]
    return Facts(
        identity=named[0] if len(named) == 1 else None,
        subject=certificate.subject.rfc4514_string(),
        hosts=hosts,
        starts=certificate.not_valid_before_utc,
        ends=certificate.not_valid_after_utc,
    )


# --- the parts ---------------------------------------------------------------------------------
class _Signer(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def _issuer(authority: str, role: str, name: str) -> tuple[Identity, _Signer]:
    """Whom the certificate names, and who signs it. Raises ConfigError."""
    folder = Path(authority)
    key_path = folder / AUTHORITY_FILES.key
    certificate = _read_certificate(folder / AUTHORITY_FILES.certificate)
    found = read_facts(folder / AUTHORITY_FILES.certificate).identity
    if found is None or found.role != AUTHORITY:
        text = f"{folder} is no authority of `raftlog security init`: sign with the tools that made it"
        raise ConfigError(text)
    check_private(key_path)
    try:
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{key_path} is no private key in PEM: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigError(f"{key_path} is not the key of {AUTHORITY_FILES.certificate} beside it")
    return Identity(found.cluster, role, name), _Signer(certificate, key)


def _renewed(path: Path, identity: Identity) -> Facts | None:
    """What stands there for the same name. Raises ConfigError for another one: nothing is overwritten by mistake."""
    if not path.exists():
        return None
    there = read_facts(path)
    if there.identity != identity:
        raise ConfigError(f"{path} is the certificate of {there.identity or there.subject}: say another --out")
    return there


def _issue(
    folder: Path,
    files: PrivateFiles,
    identity: Identity,
    signer: _Signer,
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier],
    days: int,
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    common_name = f"{identity.role}-{identity.name}"[:64]  # X.509 allows no more; the identity is the URN
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(subject, signer.certificate.subject, key, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(authority=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    urn = x509.UniformResourceIdentifier(identity.urn)
    builder = builder.add_extension(x509.SubjectAlternativeName([urn, *names]), critical=False)
    signer_id = signer.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(signer_id), critical=False
    )
    _write(folder, files, key, builder.sign(signer.key, hashes.SHA256()))
    trusted = signer.certificate.public_bytes(serialization.Encoding.PEM)
    path = folder / TRUSTED
    if not path.exists() or trusted not in path.read_bytes():  # one that trusts two authorities goes on doing so
        _replace(path, trusted, 0o644)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    if not 1 <= days <= 36500:
        raise ConfigError(f"--days lies between 1 and 36500, not {days}")
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    """Raises ConfigError."""
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    try:
        name = host.encode("idna").decode()
    except (ValueError, UnicodeError):
        name = ""
    if not _HOST_NAME.fullmatch(name):
        raise ConfigError(f"--host takes a name or an address, not {host!r}")
    return x509.DNSName(name)


def _read_certificate(path: Path) -> x509.Certificate:
    """The first one of the file. Raises ConfigError."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} is no certificate in PEM: {error}") from None


def _write(folder: Path, files: PrivateFiles, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """The key BEFORE the certificate: who reads between the two sees that they do not fit, and keeps what it has."""
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(folder / files.key, private, 0o600)
        _replace(folder / files.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
