"""The webhook's own certificates: a small authority, and a certificate that is renewed long before it ends.

Kubernetes wants to know the authority (`caBundle`), and the service's name in the certificate. Both authorities are in
the bundle while one takes over from the other, so that nothing has to happen at the same moment.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpuledger.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

_AUTHORITY_LIFE: Final = timedelta(days=3650)
_LIFE: Final = timedelta(days=90)
_RENEW: Final = timedelta(days=30)
_SKEW: Final = timedelta(minutes=5)  # the API server's clock may be behind ours


@dataclass(frozen=True, slots=True)
class Files:
    """Where the certificate, its key and the authority's bundle are."""

    certificate: Path
    key: Path
    bundle: Path


def ensure(folder: Path, hosts: "Sequence[str]", now: datetime) -> Files:
    """Make what is missing, and renew what ends within 30 days, or is for other hosts. Raises ConfigError."""
    files = Files(folder / "tls.crt", folder / "tls.key", folder / "ca.crt")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority, key = _authority(folder, files, now)
        if not _is_good(files, authority, hosts, now):
            _issue(files, authority, key, hosts, now)
    except OSError as error:
        raise ConfigError(
            f"certificates can't be kept: {error.strerror}",
            where=str(folder),
            hint="Give --cert-dir a writable folder.",
        ) from error
    return files


def _authority(
    folder: Path, files: Files, now: datetime
) -> "tuple[x509.Certificate, EllipticCurvePrivateKey]":
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    path = folder / "ca.key"
    known = x509.load_pem_x509_certificates(files.bundle.read_bytes()) if files.bundle.is_file() else []
    if known and path.is_file() and known[0].not_valid_after_utc - now > 2 * _LIFE:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == known[0].public_key():
            return known[0], key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gpuledger admission authority")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _hash())
    )
    still_good = [one for one in known if one.not_valid_after_utc > now]
    _write(path, _pem(key), secret=True)
    bundle = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in [made, *still_good[:1]])
    _write(files.bundle, bundle)
    return made, key


def _is_good(files: Files, authority: "x509.Certificate", hosts: "Sequence[str]", now: datetime) -> bool:
    from cryptography import x509

    if not files.certificate.is_file() or not files.key.is_file():
        return False
    found = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return (
        found.issuer == authority.subject
        and found.not_valid_before_utc <= now < found.not_valid_after_utc - _RENEW
        and {_plain(name) for name in names} == set(hosts)
        and found.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
        == x509.AuthorityKeyIdentifier.from_issuer_public_key(_key_of(authority))
    )


def _issue(
    files: Files,
    authority: "x509.Certificate",
    signer: "EllipticCurvePrivateKey",
    hosts: "Sequence[str]",
    now: datetime,
) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key = ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0][:64])]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(_key_of(authority)), critical=False)
        .sign(signer, _hash())
    )
    _write(files.key, _pem(key), secret=True)
    _write(files.certificate, made.public_bytes(serialization.Encoding.PEM))


def _hash() -> "hashes.SHA256":
    from cryptography.hazmat.primitives import hashes

    return hashes.SHA256()


def _key_of(certificate: "x509.Certificate") -> "EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    key = certificate.public_key()
    assert isinstance(key, EllipticCurvePublicKey)  # noqa: S101 - we made it
    return key


def _usage(*, signs: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> "x509.GeneralName":
    from cryptography import x509

    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _plain(name: "x509.GeneralName") -> str:
    return str(name.value)


def _pem(key: "EllipticCurvePrivateKey") -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, secret: bool = False) -> None:
    """Replace a file at once: a reader sees the old one or the new one."""
    part = path.with_suffix(path.suffix + ".part")
    with os.fdopen(
        os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if secret else 0o644), "wb"
    ) as stream:
        stream.write(content)
    part.replace(path)


def ends(path: Path) -> datetime:
    """Return when a certificate ends. Raises ConfigError for a file that is none."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.astimezone(UTC)
    except (OSError, ValueError) as error:
        raise ConfigError(f"isn't a certificate: {error}", where=str(path), hint="Give PEM files.") from error
