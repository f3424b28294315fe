"""AWS Signature Version 4: what makes a request one's own, as a pure function of the request, keys and time.

Source: AWS, "AWS Signature Version 4 for API requests" (canonical request, string to sign, signing key). Path segments
are encoded twice, as every service but S3 wants it; S3 is not asked here.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_UNRESERVED: Final = "-_.~"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of an AWS identity; temporary ones have a session token and may say when they expire."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires: datetime | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signature is good for: one service in one region, for minutes around `at`."""

    service: str
    region: str
    at: datetime

    @property
    def moment(self) -> str:
        """The time as the protocol writes it."""
        return f"{self.at.astimezone(UTC):%Y%m%dT%H%M%SZ}"

    @property
    def text(self) -> str:
        """The credential scope."""
        return f"{self.moment[:8]}/{self.region}/{self.service}/aws4_request"


def signed(
    method: str, url: str, headers: Mapping[str, str], body: bytes, credentials: Credentials, scope: Scope
) -> dict[str, str]:
    """Return the headers of a signed request: those given, with Host, X-Amz-Date, the token and Authorization."""
    parts = urlsplit(url)
    sent = {name.lower(): value for name, value in headers.items()}
    sent.setdefault("host", parts.netloc.rpartition("@")[2])
    sent["x-amz-date"] = scope.moment
    if credentials.session_token:
        sent["x-amz-security-token"] = credentials.session_token
    names = ";".join(sorted(sent))
    canonical = "\n".join(
        (
            method.upper(),
            _path(parts.path),
            _query(parts.query),
            *(f"{name}:{' '.join(sent[name].split())}" for name in sorted(sent)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    to_sign = "\n".join(
        (_ALGORITHM, scope.moment, scope.text, hashlib.sha256(canonical.encode()).hexdigest())
    )
    signature = hmac.new(_key(credentials.secret_key, scope), to_sign.encode(), hashlib.sha256).hexdigest()
    return {
        **sent,
        "authorization": f"{_ALGORITHM} Credential={credentials.access_key}/{scope.text}, "
        f"SignedHeaders={names}, Signature={signature}",
    }


def _key(secret: str, scope: Scope) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.text.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _path(path: str) -> str:
    """Encode the path as it is sent once more; `.` and `..` are resolved, as servers do."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == ".." and kept:
            kept.pop()
        elif part not in {"", ".", ".."}:
            kept.append(part)
    whole = "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")
    return quote(whole, safe=f"/{_UNRESERVED}")


def _query(query: str) -> str:
    pairs = sorted(
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED))
        for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)
