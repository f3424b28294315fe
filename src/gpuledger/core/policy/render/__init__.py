"""The policy in other planes' own words: files for those who enforce it without a server of ours, or with ours.

A target is a module of this package that is called like it (`aws-scp` is `aws_scp`) and has
`render(policy, setting) -> Rendered`. What its plane can't say is a `Note`, and stands in the files too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, Literal, Protocol, cast

from gpuledger.core.policy.model import Policy

Document = Mapping[str, Any]
_ORDER: Final = (
    "webhook",
    "vap",
    "map",
    "kyverno",
    "gatekeeper",
    "slurm",
    "aws-scp",
    "azure-policy",
    "gcp-org-policy",
    "ci",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a rendering is made for.

    `registers` are the values of the policy's registers, `now` the moment (exemptions that are over are left out),
    `source` the policy file's text and `listed` the registers' files by name, for planes that take them along.
    `ca_bundle` is base64.
    """

    now: datetime
    registers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    cluster: str | None = None
    failure_policy: Literal["Fail", "Ignore"] = "Ignore"
    namespace: str = "gpuledger"
    image: str | None = None
    ca_bundle: str | None = None
    source: str | None = None
    source_name: str = "gpuledger-policy.toml"
    listed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Note:
    """A rule, by name, that a plane can't keep, or keeps only partly, and what that means."""

    rule: str
    state: Literal["partly", "not enforced"]
    detail: str

    @property
    def text(self) -> str:
        """Return the note as a line of a file."""
        said = "not enforced here" if self.state == "not enforced" else "partly enforced here"
        return f"{said}: {self.rule}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Rendered:
    """Files by relative path: documents to be written as YAML (`.yaml`) or JSON (`.json`), or text. And what is missing."""

    files: Mapping[str, tuple[Document, ...] | str]
    notes: tuple[Note, ...] = ()


class Target(Protocol):
    """A module of this package."""

    def render(self, policy: Policy, setting: Setting) -> Rendered:
        """Return the policy in the target's words."""
        ...


@cache
def targets() -> tuple[str, ...]:
    """Return the targets that exist."""
    found = {one.name.replace("_", "-") for one in iter_modules(__path__)}
    return tuple(name for name in _ORDER if name in found)


def render(target: str, policy: Policy, setting: Setting) -> Rendered:
    """Return the policy in the words of a target. Raises PolicyError for what can't be rendered at all."""
    module = cast("Target", import_module(f"{__name__}.{target.replace('-', '_')}"))
    return module.render(policy, setting)
