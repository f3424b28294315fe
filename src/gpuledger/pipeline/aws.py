"""A thin client of AWS' APIs: one signed request at a time, over HTTP, without AWS' own SDK.

Sources: AWS, "Query API" of EC2, CloudWatch and STS (form in, XML out), and the JSON 1.1 protocol of SageMaker and
Service Quotas. Endpoints are the regions' public ones, or AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE> as AWS' SDKs
read them. Only questions belong here: nothing that changes an account is asked by the finders that use it.
"""

import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode
from xml.parsers import expat

from gpuledger import __version__
from gpuledger.core.aws_signing import Credentials, Scope, signed
from gpuledger.core.paging import backoff, retry_after
from gpuledger.errors import ConfigError, SourceError

Json = dict[str, Any]
_LARGEST: Final = 64 * 2**20
_OK, _SERVER_ERROR = 200, 500
_THROTTLED: Final = (
    *("Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException"),
    *("PriorRequestNotComplete", "RequestThrottled", "SlowDown"),
)  # fmt: skip
_EXPIRED: Final = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_UNKNOWN_KEY: Final = (
    *("InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidAccessKeyId"),
    *("MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature"),
)
_DENIED: Final = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "OptInRequired")
_SKEWED: Final = ("SignatureDoesNotMatch", "InvalidSignatureException", "RequestTimeTooSkewed")


class _Service(NamedTuple):
    host: str
    spelt: str  # as in AWS_ENDPOINT_URL_…
    version: str = ""
    target: str = ""


SERVICES: Final[Mapping[str, _Service]] = {
    "ec2": _Service("ec2", "EC2", version="2016-11-15"),
    "monitoring": _Service("monitoring", "CLOUDWATCH", version="2010-08-01"),
    "sts": _Service("sts", "STS", version="2011-06-15"),
    "sagemaker": _Service("api.sagemaker", "SAGEMAKER", target="SageMaker"),
    "servicequotas": _Service("servicequotas", "SERVICE_QUOTAS", target="ServiceQuotasV20190624"),
}


class AwsError(SourceError):
    """AWS answered with an error; `code` is AWS' own name of it."""

    def __init__(self, code: str, message: str, *, where: str, hint: str) -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = code


@dataclass(slots=True)
class AwsClient:
    """Asks one service (a key of SERVICES) in one region. Keys are in signatures only: no message has them.

    `credentials` None sends unsigned requests, which only STS' exchange of a web identity takes.
    """

    service: str
    region: str
    credentials: Credentials | None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    timeout: float = 10.0
    tries: int = 4
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], object] = time.sleep

    @property
    def url(self) -> str:
        """The endpoint's address."""
        facts = SERVICES[self.service]
        given = self.environ.get(f"AWS_ENDPOINT_URL_{facts.spelt}") or self.environ.get("AWS_ENDPOINT_URL")
        if given and self.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() != "true":
            return given.rstrip("/") + "/"
        domain = "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"
        return f"https://{facts.host}.{self.region}.{domain}/"

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"AWS {self.service} in {self.region}"

    def query(self, action: str, params: Mapping[str, str] | None = None) -> Json:
        """Ask a service of the Query protocol; XML becomes dicts, its `item` and `member` elements lists.

        Raises AwsError for what AWS refuses, SourceError when it can't be reached or answers something else.
        """
        facts = SERVICES[self.service]
        form = {"Action": action, "Version": facts.version, **(params or {})}
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = self._asked(action, urlencode(form).encode(), headers)
        found = _xml(body, self.where)
        return found if isinstance(found, dict) else {}

    def json(self, operation: str, body: Mapping[str, Any] | None = None) -> Json:
        """Ask a service of the JSON protocol. Numbers with a fraction are Decimals. Raises as `query` does."""
        headers = {
            "content-type": "application/x-amz-json-1.1",
            "x-amz-target": f"{SERVICES[self.service].target}.{operation}",
        }
        answer = self._asked(operation, json.dumps(dict(body or {})).encode(), headers)
        try:
            found = json.loads(answer, parse_float=Decimal)
        except ValueError:
            raise self._odd() from None
        if not isinstance(found, dict):
            raise self._odd()
        return found

    def listed(
        self, operation: str, key: str, body: Mapping[str, Any] | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the objects of a list of the JSON protocol, page after page."""
        asked, seen = dict(body or {}), set()
        while True:
            page = self.json(operation, asked)
            yield from (one for one in page.get(key) or () if isinstance(one, Mapping))
            token = page.get("NextToken")
            if not token or token in seen:
                return
            seen.add(token)
            asked["NextToken"] = token

    def queried(
        self, action: str, path: tuple[str, ...], params: Mapping[str, str] | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the objects of a list of the Query protocol, page after page; `path` leads to it in an answer."""
        asked, seen = dict(params or {}), set()
        while True:
            page = self.query(action, asked)
            inner = page if self.service == "ec2" else page.get(f"{action}Result")
            yield from items(inner, *path)
            inner = inner if isinstance(inner, dict) else {}
            token = inner.get("nextToken") or inner.get("NextToken")
            if not token or token in seen:
                return
            seen.add(token)
            asked["NextToken"] = token

    def _asked(self, action: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        import httpx

        trouble: Exception
        for attempt in range(self.tries):
            wait = None
            try:
                with httpx.Client(timeout=self.timeout, follow_redirects=False) as http:
                    answer = http.post(self.url, content=body, headers=self._headers(body, headers))
                if answer.status_code == _OK and len(answer.content) <= _LARGEST:
                    return answer.content
                trouble = self._refused(action, answer.status_code, answer.content)
                code = trouble.code if isinstance(trouble, AwsError) else ""
                if answer.status_code < _SERVER_ERROR and code not in _THROTTLED:
                    raise trouble
                wait = retry_after(answer.headers, self.now())
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                trouble = SourceError(
                    f"can't be reached: {type(error).__name__}: {str(error) or 'no answer'}",
                    where=self.where,
                    hint=f"Is the region right, and {self.url} reachable from here?",
                )
            if attempt + 1 < self.tries:
                self.sleep(backoff(attempt, random.random()) if wait is None else wait)  # noqa: S311 - spreads load
        raise trouble

    def _headers(self, body: bytes, headers: Mapping[str, str]) -> Mapping[str, str]:
        more = {**headers, "user-agent": f"gpuledger/{__version__}"}
        if self.credentials is None:
            return more
        scope = Scope(self.service, self.region, self.now())
        return {**signed("POST", self.url, headers, body, self.credentials, scope), **more}

    def _refused(self, action: str, status: int, body: bytes) -> SourceError:
        code, said = _error(body)
        right = f"{'cloudwatch' if self.service == 'monitoring' else self.service}:{action}"
        if code in _EXPIRED:
            hint = "The session is over: log in again (aws sso login, or new keys)."
        elif code in _UNKNOWN_KEY:
            hint = "AWS doesn't know these keys. Check AWS_PROFILE and the AWS_* variables."
        elif code in _DENIED:
            hint = f"Allow {right}; docs/aws-access.md has the policy."
        elif code in _SKEWED:
            hint = "Is this machine's clock right, and the secret key complete?"
        else:
            hint = "Try again later; AWS' health page may tell more."
        return AwsError(
            code,
            f"{action} was answered with {status}{f' {code}' if code else ''}{f': {said[:300]}' if said else ''}",
            where=self.where,
            hint=hint,
        )

    def _odd(self) -> SourceError:
        return SourceError(
            "the answer isn't AWS'", where=self.where, hint="Is AWS_ENDPOINT_URL, or a proxy, right?"
        )


def items(answer: object, *path: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list inside an answer; one that isn't there is empty."""
    for name in path:
        answer = answer.get(name) if isinstance(answer, Mapping) else None
    return [one for one in answer if isinstance(one, Mapping)] if isinstance(answer, list) else []


def _error(body: bytes) -> tuple[str, str]:
    """Return AWS' name of an error and its words, of either protocol."""
    try:
        found: Any = json.loads(body)
        kind = str(found.get("__type") or found.get("code") or "").rpartition("#")[2].partition(":")[0]
        return kind, " ".join(str(found.get("message") or found.get("Message") or "").split())
    except (ValueError, AttributeError):
        pass
    try:
        found = _xml(body, "")
    except SourceError:
        return "", ""
    found = found if isinstance(found, dict) else {}
    inner = found.get("Errors", found)
    inner = inner.get("Error", inner) if isinstance(inner, dict) else found
    told = inner if isinstance(inner, dict) else {}
    return str(told.get("Code") or ""), " ".join(str(told.get("Message") or "").split())


def _xml(body: bytes, where: str) -> Any:  # noqa: ANN401 - nested dicts, lists and texts
    """Read XML: an element is its text, a dict of its children, or a list where they are `item` or `member`."""
    parser = expat.ParserCreate()
    open_: list[tuple[list[tuple[str, Any]], list[str]]] = [([], [])]

    def begin(_name: str, _attributes: object) -> None:
        open_.append(([], []))

    def end(name: str) -> None:
        children, words = open_.pop()
        value: Any = "".join(words).strip()
        if children:
            many = {child for child, _ in children} <= {"item", "member"}
            value = [one for _, one in children] if many else dict(children)
        open_[-1][0].append((name, value))

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = lambda text: open_[-1][1].append(text)  # noqa: PLW0108 - the innermost changes

    def refuse(*_about: object) -> None:
        raise SourceError("XML with a document type", where=where, hint="That isn't AWS' answer.")

    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)  # noqa: FBT003 - expat takes it by position
    except expat.ExpatError as error:
        raise SourceError(
            f"the answer ends early or isn't XML: {error}", where=where, hint="Try again; check proxies."
        ) from None
    return open_[0][0][0][1]


def parse_region(text: str, where: str) -> str:
    """Return a region's name, which becomes part of an address. Raises ConfigError when it can't be one."""
    parts = text.strip().split("-")
    if len(parts) < 3 or not all(part.isalnum() and part.isascii() for part in parts):  # noqa: PLR2004
        raise ConfigError(f"{text!r} is no region", where=where, hint="Such as us-east-1.")
    return text.strip()
