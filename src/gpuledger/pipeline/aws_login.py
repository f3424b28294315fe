"""Who we are to AWS: the keys that AWS' own tools would take, in their order.

Source: AWS SDKs and Tools Reference Guide (settings, "Standardized credential providers"). Read are: the AWS_*
variables; a profile's keys in ~/.aws/credentials and ~/.aws/config, its role (`role_arn` with `source_profile` or
`credential_source = Environment`) and its single sign-on session (`aws sso login` first); a web identity (EKS service
accounts); the containers' endpoint (ECS, EKS pod identities); and an instance's role (IMDSv2). Not read are
`credential_process`, MFA devices and SAML: `aws configure export-credentials --format env` turns them into variables.
"""

import configparser
import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gpuledger.core.aws_signing import Credentials
from gpuledger.errors import ConfigError, SourceError
from gpuledger.pipeline.aws import AwsClient, parse_region

_EXPORT: Final = "Or put keys into the environment: aws configure export-credentials --format env."
_ECS: Final = "http://169.254.170.2"
_IMDS: Final = "http://169.254.169.254"
_CONTAINER_HOSTS: Final = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
_DEEPEST: Final = 5
_OK: Final = 200
_SESSION: Final = "gpuledger"


@dataclass(frozen=True, slots=True)
class Login:
    """Keys and the region that goes with them, None where none is told."""

    credentials: Credentials
    region: str | None


def login(environ: Mapping[str, str], profile: str | None = None) -> Login:
    """Return the keys of a profile, or what the environment, files and the machine give, in this order.

    Raises ConfigError when there are none or a setting can't work, SourceError when who should give them refuses.
    """
    chosen = profile or environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    profiles = _profiles(environ)
    said = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if profile is None and (found := _from_environment(environ)):
        return Login(found, said or profiles.get(chosen or "default", {}).get("region"))
    if chosen is not None and chosen not in profiles:
        names = ", ".join(sorted(profiles)) or "none"
        raise ConfigError(
            f"no AWS profile {chosen!r}", where="~/.aws", hint=f"There are: {names}. See aws configure."
        )
    facts = profiles.get(chosen or "default", {})
    region = said or facts.get("region")
    if facts and (given := _from_profile(profiles, chosen or "default", environ, region, 0)):
        return Login(given, region)
    if chosen is not None:
        raise ConfigError(
            f"the AWS profile {chosen!r} has no keys, role or sign-on session that is read here",
            where="~/.aws",
            hint=_EXPORT,
        )
    found = _web_identity(environ, region) or _container(environ) or _instance(environ)
    if found is None:
        raise ConfigError(
            "no AWS keys: none in the environment, ~/.aws, a container or an instance's role",
            where="AWS",
            hint=f"aws configure, aws sso login, or AWS_PROFILE=…. {_EXPORT}",
        )
    return Login(found, region or _own_region(environ))


def at_hand(environ: Mapping[str, str]) -> bool:
    """Tell whether keys seem to be here, without asking anybody."""
    if environ.get("AWS_ACCESS_KEY_ID") or environ.get("AWS_PROFILE"):
        return True
    if environ.get("AWS_WEB_IDENTITY_TOKEN_FILE") or any(
        environ.get(f"AWS_CONTAINER_CREDENTIALS_{end}") for end in ("RELATIVE_URI", "FULL_URI")
    ):
        return True
    return "default" in _profiles(environ)


def _from_environment(environ: Mapping[str, str]) -> Credentials | None:
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key and not secret:
        return None
    if not key or not secret:
        raise ConfigError(
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together",
            where="AWS",
            hint="Set both or neither.",
        )
    return Credentials(key, secret, environ.get("AWS_SESSION_TOKEN") or None, origin="environment")


def _profiles(environ: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return the settings of all profiles; where both files have one, the keys of `credentials` count.

    Sign-on sessions of `config` are kept as `sso-session NAME`.
    """
    home = Path(environ.get("HOME") or "/") / ".aws"
    places = (
        (Path(environ.get("AWS_CONFIG_FILE") or home / "config"), "profile "),
        (Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"), ""),
    )
    found: dict[str, dict[str, str]] = {}
    for path, prefix in places:
        reader = configparser.RawConfigParser(strict=False, default_section="\0")
        try:
            reader.read_string(path.expanduser().read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError, configparser.Error) as error:
            about = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigError(
                f"can't be read: {about}", where=str(path), hint="Mend it, or set AWS_CONFIG_FILE."
            ) from None
        for section in reader.sections():
            name = section.removeprefix(prefix).strip()
            found.setdefault(name, {}).update(
                {key: value.strip() for key, value in reader.items(section) if value}
            )
    return found


def _from_profile(
    profiles: Mapping[str, Mapping[str, str]],
    name: str,
    environ: Mapping[str, str],
    region: str | None,
    depth: int,
) -> Credentials | None:
    facts = profiles.get(name, {})
    role = facts.get("role_arn")
    if role and depth < _DEEPEST:
        source = facts.get("source_profile")
        if facts.get("mfa_serial"):
            raise ConfigError(f"the AWS profile {name!r} wants an MFA code", where="~/.aws", hint=_EXPORT)
        if facts.get("web_identity_token_file"):
            return _web_identity(
                {
                    **environ,
                    "AWS_ROLE_ARN": role,
                    "AWS_WEB_IDENTITY_TOKEN_FILE": facts["web_identity_token_file"],
                },
                region,
            )
        if source == name:
            base = _static(facts, name)
        elif source:
            base = _from_profile(profiles, source, environ, region, depth + 1)
        else:
            base = _from_environment(environ) if facts.get("credential_source") == "Environment" else None
        return None if base is None else _assumed(base, role, facts, environ, region)
    return _static(facts, name) or _single_sign_on(profiles, facts, name, environ)


def _static(facts: Mapping[str, str], name: str) -> Credentials | None:
    key, secret = facts.get("aws_access_key_id"), facts.get("aws_secret_access_key")
    if not key or not secret:
        return None
    return Credentials(key, secret, facts.get("aws_session_token"), origin=f"profile {name}")


def _assumed(
    base: Credentials, role: str, facts: Mapping[str, str], environ: Mapping[str, str], region: str | None
) -> Credentials:
    params = {"RoleArn": role, "RoleSessionName": facts.get("role_session_name") or _SESSION}
    if facts.get("external_id"):
        params["ExternalId"] = facts["external_id"]
    client = AwsClient("sts", region or facts.get("region") or "us-east-1", base, environ)
    answer = client.query("AssumeRole", params)
    return _exchanged(answer.get("AssumeRoleResult"), f"role {role}")


def _web_identity(environ: Mapping[str, str], region: str | None) -> Credentials | None:
    role, path = environ.get("AWS_ROLE_ARN"), environ.get("AWS_WEB_IDENTITY_TOKEN_FILE")
    if not role or not path:
        return None
    params = {
        "RoleArn": role,
        "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME") or _SESSION,
        "WebIdentityToken": _secret(path),
    }
    client = AwsClient("sts", region or "us-east-1", None, environ)
    answer = client.query("AssumeRoleWithWebIdentity", params)
    return _exchanged(answer.get("AssumeRoleWithWebIdentityResult"), f"web identity as {role}")


def _exchanged(result: object, origin: str) -> Credentials:
    told = result.get("Credentials") if isinstance(result, Mapping) else None
    return _given(told, ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"), "AWS sts", origin)


def _given(told: object, names: tuple[str, str, str, str], where: str, origin: str) -> Credentials:
    """Return the keys of an answer, whose names differ between services."""
    key, secret, token, until = (
        (told.get(name) for name in names) if isinstance(told, Mapping) else (None,) * 4
    )
    if not isinstance(key, str) or not isinstance(secret, str):
        raise SourceError("the answer has no keys", where=where, hint=_EXPORT)
    expires = None
    if isinstance(until, str):
        expires = datetime.fromisoformat(until)
    elif isinstance(until, int):
        expires = datetime.fromtimestamp(until / 1000, UTC)
    return Credentials(key, secret, token if isinstance(token, str) else None, expires, origin)


def _single_sign_on(
    profiles: Mapping[str, Mapping[str, str]], facts: Mapping[str, str], name: str, environ: Mapping[str, str]
) -> Credentials | None:
    account, role = facts.get("sso_account_id"), facts.get("sso_role_name")
    session = facts.get("sso_session")
    shared = profiles.get(f"sso-session {session}", {}) if session else facts
    start, region = shared.get("sso_start_url"), shared.get("sso_region")
    if not account or not role or not start or not region:
        return None
    key = hashlib.sha1((session or start).encode(), usedforsecurity=False).hexdigest()
    cached = Path(environ.get("HOME") or "/") / ".aws" / "sso" / "cache" / f"{key}.json"
    again = f"aws sso login --profile {name}"
    try:
        held = json.loads(cached.read_text("utf-8"))
        token, until = str(held["accessToken"]), datetime.fromisoformat(held["expiresAt"])
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(f"not signed on for the AWS profile {name!r}", where="~/.aws", hint=again) from None
    if until.tzinfo is None or until <= datetime.now(UTC):
        raise ConfigError(f"the sign-on of the AWS profile {name!r} is over", where="~/.aws", hint=again)
    host = f"https://portal.sso.{parse_region(region, 'sso_region')}.amazonaws.com"
    url = f"{host}/federation/credentials?role_name={quote(role)}&account_id={quote(account)}"
    answer = _fetched(url, {"x-amz-sso_bearer_token": token}, 10.0)
    told = answer.get("roleCredentials") if isinstance(answer, Mapping) else None
    names = ("accessKeyId", "secretAccessKey", "sessionToken", "expiration")
    return _given(told, names, host, f"single sign-on, profile {name}")


def _container(environ: Mapping[str, str]) -> Credentials | None:
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    url = f"{_ECS}{relative}" if relative else environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not url:
        return None
    parts = urlsplit(url)
    if (
        parts.scheme != "https"
        and parts.hostname not in _CONTAINER_HOSTS
        and not _is_loopback(parts.hostname)
    ):
        raise ConfigError(
            "not an address of container credentials",
            where="AWS_CONTAINER_CREDENTIALS_FULL_URI",
            hint="It is https, or http on the loopback or a link-local address of AWS.",
        )
    path = environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
    token = _secret(path) if path else environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
    answer = _fetched(url, {"authorization": token} if token else {}, 5.0)
    return _given(answer, ("AccessKeyId", "SecretAccessKey", "Token", "Expiration"), url, "container's role")


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _instance(environ: Mapping[str, str]) -> Credentials | None:
    """Ask the instance's metadata service; None where there is none, which is so outside of AWS."""
    base = _metadata(environ)
    if base is None:
        return None
    url, headers = base
    folder = f"{url}/latest/meta-data/iam/security-credentials/"
    try:
        role = _text(folder, headers, 2.0).split("\n")[0].strip()
        if not re.fullmatch(r"[\w+=,.@-]{1,128}", role):
            return None
        answer = _fetched(f"{folder}{role}", headers, 2.0)
    except SourceError:
        return None  # an instance without a role
    names = ("AccessKeyId", "SecretAccessKey", "Token", "Expiration")
    return _given(answer, names, folder, f"the instance's role {role}")


def _own_region(environ: Mapping[str, str]) -> str | None:
    base = _metadata(environ)
    try:
        return (
            None
            if base is None
            else _text(f"{base[0]}/latest/meta-data/placement/region", base[1], 2.0).strip()
        )
    except SourceError:
        return None


def _metadata(environ: Mapping[str, str]) -> tuple[str, dict[str, str]] | None:
    """Return the address and the token of the metadata service (version 2), None where nothing answers."""
    import httpx

    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    url = (environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or _IMDS).rstrip("/")
    try:
        answer = httpx.put(
            f"{url}/latest/api/token", headers={"x-aws-ec2-metadata-token-ttl-seconds": "300"}, timeout=1.0
        )
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
    return (url, {"x-aws-ec2-metadata-token": answer.text}) if answer.status_code == _OK else None


def _fetched(url: str, headers: Mapping[str, str], timeout: float) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(_text(url, headers, timeout))
    except ValueError:
        raise SourceError("the answer is no JSON", where=url.partition("?")[0], hint=_EXPORT) from None


def _text(url: str, headers: Mapping[str, str], timeout: float) -> str:
    import httpx

    where = url.partition("?")[0]
    try:
        answer = httpx.get(url, headers=dict(headers), timeout=timeout, follow_redirects=False)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"can't be reached: {type(error).__name__}", where=where, hint=_EXPORT) from None
    if answer.status_code != _OK:
        raise SourceError(f"answered {answer.status_code}", where=where, hint=_EXPORT)
    return answer.text


def _secret(path: str) -> str:
    try:
        return Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"can't be read: {getattr(error, 'strerror', None) or 'not text'}", where=path, hint=_EXPORT
        ) from None
