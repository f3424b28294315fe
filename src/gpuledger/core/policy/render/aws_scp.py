"""AWS: a service control policy that denies GPU machines without their tags, and a tag policy for the values.

AWS Organizations: "Example SCPs for tagging resources", "Tag policy syntax". A service control policy only denies.
`StringNotLike` and `StringNotEquals` hold for a missing tag too, and several keys of a condition must all hold: so a
machine is denied where none of the spellings has an allowed value.
"""

import json
from typing import Any, Final

from gpuledger.core.policy.model import Policy, When
from gpuledger.core.policy.render import Note, Rendered, Setting
from gpuledger.core.policy.render.clouds import Asked, asked, families, machine_types, mode_of, too_large
from gpuledger.errors import UsageError

_LONGEST: Final = 5120  # characters of a policy that every organisation may attach
_INSTANCES: Final = "arn:aws:ec2:*:*:instance/*"


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return both policies. Raises UsageError when the policy's mode isn't `enforce`."""
    mode_of(policy, "a service control policy", ("enforce",))
    every = tuple(name for name in machine_types("aws", When()) if not name.startswith("ml."))
    notes: list[Note] = [
        Note(
            "machines",
            "partly",
            "EC2 only; SageMaker, Batch and Auto Scaling reach EC2 with tags of their own",
        )
    ]
    statements, tags = [], {}
    for one in asked(policy, setting, "aws", notes):
        types = families(tuple(name for name in one.types if not name.startswith("ml.")), every)
        statements.append(_statement(one, types, notes))
        if one.values is not None:
            tags[one.rule] = {
                "tag_key": {"@@assign": one.keys[0]},
                "tag_value": {"@@assign": list(one.values)},
                "enforced_for": {"@@assign": ["ec2:instance"]},
            }
    for name, found in too_large(policy, "aws"):
        large = families(tuple(one for one in found if not one.startswith("ml.")), every)
        statements.append(_deny(f"Limit{_word(name)}", {"StringLike": {"ec2:InstanceType": large}}))
    if not statements:
        raise UsageError(
            "no rule of this policy can be kept by a service control policy",
            hint="It sees machines and tags only.",
        )
    document = {"Version": "2012-10-17", "Statement": statements}
    if len(json.dumps(document, separators=(",", ":"))) > _LONGEST:
        notes.append(
            Note(
                "length",
                "partly",
                f"the policy has more than {_LONGEST} characters: split it, or list fewer values",
            )
        )
    return Rendered(
        {"service-control-policy.json": (document,), "tag-policy.json": ({"tags": tags},)}, tuple(notes)
    )


def _statement(one: Asked, types: list[str], notes: list[Note]) -> dict[str, Any]:
    tags = [f"aws:RequestTag/{key}" for key in one.keys]
    if one.values is not None:
        test: dict[str, Any] = {"StringNotEquals": {tag: list(one.values) for tag in tags}}
    else:
        test = {"Null": dict.fromkeys(tags, "true")}
        if one.pattern is not None:
            notes.append(Note(one.rule, "partly", "regular expressions don't exist here: any value passes"))
    return _deny(f"Require{_word(one.rule)}", {"StringLike": {"ec2:InstanceType": types}, **test})


def _deny(sid: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Deny",
        "Action": "ec2:RunInstances",
        "Resource": _INSTANCES,
        "Condition": condition,
    }


def _word(name: str) -> str:
    return "".join(part.capitalize() for part in "".join(c if c.isalnum() else " " for c in name).split())
