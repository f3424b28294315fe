"""Synthetic Kubernetes objects for tests: pods and what their containers ask for."""

from typing import Any

Pod = dict[str, Any]


def pod(
    *containers: dict[str, Any],
    init: list[dict[str, Any]] | None = None,
    spec: dict[str, Any] | None = None,
    annotations: dict[str, str] | None = None,
) -> Pod:
    """A pod `ml/p` whose containers are called c0, c1 and so on."""
    named = [{"name": f"c{place}", **one} for place, one in enumerate(containers)]
    metadata = {"name": "p", "namespace": "ml", "annotations": annotations or {}}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": named, "initContainers": init or [], **(spec or {})},
    }


def limits(resources: dict[str, object]) -> dict[str, Any]:
    """A container that has these limits."""
    return {"resources": {"limits": resources}}


def seen(*values: object) -> tuple[object, ...]:
    """Values of any types, to be compared with others: a Fraction equals an int."""
    return values
