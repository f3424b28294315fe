"""Who created a resource, as bills and tags spell it: people, roles, service accounts.

Forms that are read:

- AWS's own tag, `account-type:account-ID or access-key:user-name or role session name`, such as
  `AssumedRole:AROA…:ada@example.com` (docs.aws.amazon.com/awsaccountbilling/latest/aboutv2/aws-tags.html)
- ARNs of users, roles and sessions (`arn:aws:sts::…:assumed-role/ROLE/SESSION`)
- Kubernetes users (`system:serviceaccount:NAMESPACE:NAME`) and Google service accounts
- e-mail addresses, also as a Google label has to write them (`ada_at_example_com`), and plain names
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["person", "user", "role", "service", "root"]

_MAIL: Final = re.compile(r"[a-z0-9._%+'-]+@[a-z0-9-]+(?:\.[a-z0-9-]+)+", re.IGNORECASE)
_LABEL_MAIL: Final = re.compile(r"[a-z0-9_-]+_at_[a-z0-9_-]+", re.IGNORECASE)
_SERVICE_MAIL: Final = re.compile(r"@.*gserviceaccount\.com$", re.IGNORECASE)
# Session names that tools make up: they name a run of a program, nobody.
_NO_NAME: Final = re.compile(
    r"i-[0-9a-f]{8,17}|(?:botocore-)?session(?:[-_]?\d+)?|aws-go-sdk-\d+|aws-sdk-[\w-]+|\d+|[0-9a-f-]{16,}",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[a-z][a-z0-9]{2,}")
_HEX: Final = re.compile(r"[0-9a-f]{8,}")
# Words that say what a thing is or where it is used, not whose it is.
_COMMON_WORDS: Final = """
prod production dev development test testing staging stage env default main node nodes worker workers instance
instances server servers cluster job jobs run runs gpu gpus cpu aws azure gcp vol volume disk bucket user users
old new tmp temp scratch shell demo trial role session account project team group compute apikey arn com www iam sts assumedrole iamuser example
"""
_COMMON: Final = frozenset(_COMMON_WORDS.split())


@dataclass(frozen=True, slots=True)
class Identity:
    """A creator. `key` is equal for all spellings of the same one; `name` is what a person would read."""

    kind: Kind
    name: str
    key: str

    @property
    def word(self) -> str:
        """The kind as a person would say it."""
        return {"user": "IAM user", "service": "service account"}.get(self.kind, self.kind)


def identity(text: str) -> Identity | None:
    """Read a creator; None for an empty text."""
    text = text.strip()
    if match := re.fullmatch(r"(Root|IAMUser|AssumedRole|FederatedUser):\s*([^:]*)(?::(.*))?", text):
        return _aws(match[1], match[2].strip(), (match[3] or "").strip())
    if match := re.fullmatch(r"arn:[\w-]+:(?:iam|sts)::(\d*):(.+)", text):
        return _arn(match[1], match[2])
    if match := re.fullmatch(r"system:serviceaccount:([^:]+):([^:]+)", text):
        text = f"{match[1]}/{match[2]}"
        return Identity("service", text, f"service:{text}".casefold())
    if _SERVICE_MAIL.search(text):
        return Identity("service", text, f"service:{text}".casefold())
    if address(text) is not None:
        return _person(text)
    return Identity("user", text, f"user:{text}".casefold()) if text else None


def address(text: str) -> str | None:
    """Return the e-mail address that a text is, also one in the spelling of a Google label; None for other texts."""
    if _MAIL.fullmatch(text):
        return text.lower()
    if _LABEL_MAIL.fullmatch(text):
        local, _, domain = text.lower().partition("_at_")
        return f"{local}@{domain.replace('_', '.')}"
    return None


def person_keys(text: str) -> tuple[str, str]:
    """Two keys to match people by: the whole text, and the part before an @; without case and separators."""
    whole = address(text.strip()) or text.strip().lower()
    return re.sub(r"[^a-z0-9]", "", whole), re.sub(r"[^a-z0-9]", "", whole.partition("@")[0])


def words(text: str | None, known: str | None = None) -> set[str]:
    """Return the words of a name that can say whose it is; those that are part of `known` (a type, a model) cannot."""
    found = set(_WORD.findall((text or "").lower()))
    kind = (known or "").lower()
    return {word for word in found if word not in _COMMON and not _HEX.fullmatch(word) and word not in kind}


def _person(text: str) -> Identity:
    mail = address(text) or text
    return Identity("person", mail, f"person:{mail}")


def _aws(sort: str, account: str, name: str) -> Identity:
    if sort == "Root":
        return Identity("root", f"root of {account}", f"root:{account}")
    if name and address(name):
        return _person(name)
    if sort == "AssumedRole" and (not name or _NO_NAME.fullmatch(name)):
        return Identity("role", account, f"role:{account}".casefold())
    kind: Kind = "role" if sort == "AssumedRole" else "user"
    return Identity(kind, name or account, f"{kind}:{name or account}".casefold())


def _arn(account: str, rest: str) -> Identity:
    sort, _, path = rest.partition("/")
    if sort == "root":
        return Identity("root", f"root of {account}", f"root:{account}")
    parts = path.split("/")
    if sort == "assumed-role":
        role, session = parts[0], parts[-1] if len(parts) > 1 else ""
        if address(session):
            return _person(session)
        return Identity("role", role, f"role:{role}".casefold())
    name = parts[-1] or rest
    if address(name):
        return _person(name)
    kind: Kind = "role" if sort == "role" else "user"
    return Identity(kind, name, f"{kind}:{name}".casefold())
