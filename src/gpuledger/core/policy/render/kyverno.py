"""Kyverno's ValidatingPolicy (policies.kyverno.io/v1): the same CEL as a ValidatingAdmissionPolicy's.

Kyverno: "ValidatingPolicy" (a superset of ValidatingAdmissionPolicy with its binding's actions in the policy itself).
Background scans have no user and no request, so they are off.
"""

from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.render import Document, Rendered, Setting
from gpuledger.core.policy.render.cel_rules import program
from gpuledger.core.policy.render.vap import ACTIONS, body, metadata, modes_of


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return a policy per mode."""
    rules = program(policy, setting)
    documents: list[Document] = [
        {
            "apiVersion": "policies.kyverno.io/v1",
            "kind": "ValidatingPolicy",
            "metadata": metadata(f"gpuledger-{mode}", rules.notes),
            "spec": {
                "validationActions": ACTIONS[mode],
                "evaluation": {"admission": {"enabled": True}, "background": {"enabled": False}},
                **body(rules, mode, setting),
            },
        }
        for mode in modes_of(policy)
    ]
    return Rendered({"kyverno.yaml": tuple(documents)}, rules.notes)
