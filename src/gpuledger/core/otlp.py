"""What of an OTLP/JSON message is about GenAI calls: their usage and nothing that was said in them.

Prompts, answers and tool arguments may be in spans' attributes and events. They are nobody's business here: only the
attributes that `telemetry.otel_genai` reads are kept.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

RESOURCE: Final = frozenset({"service.name", "service.instance.id"})
ATTRIBUTES: Final = frozenset({
    "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.system", "gen_ai.request.model", "gen_ai.response.model",
    "gen_ai.token.type", "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens", "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.reasoning.output_tokens", "error.type", "user.id", "enduser.id",
})  # fmt: skip
METRICS: Final = frozenset({
    "gen_ai.client.token.usage", "gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token",
})  # fmt: skip
_SPAN: Final = ("spanId", "parentSpanId", "startTimeUnixNano", "endTimeUnixNano")
_POINT: Final = ("startTimeUnixNano", "timeUnixNano", "count", "sum", "asInt", "asDouble")
_KINDS: Final = ("histogram", "exponentialHistogram", "sum")


def traces(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a message of traces with its GenAI spans only; None when it has none. Raises TypeError for another shape."""
    found = []
    for resource in content.get("resourceSpans") or ():
        spans = [
            {
                **{name: span[name] for name in _SPAN if name in span},
                "attributes": kept,
                "status": {"code": (span.get("status") or {}).get("code", 0)},
            }
            for scope in resource.get("scopeSpans") or ()
            for span in scope.get("spans") or ()
            if _has_usage(kept := list(_attributes(span, ATTRIBUTES)))
        ]
        if spans:
            found.append({"resource": _resource(resource), "scopeSpans": [{"spans": spans}]})
    return {"resourceSpans": found} if found else None


def metrics(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a message of metrics with its GenAI metrics only; None when it has none."""
    found = []
    for resource in content.get("resourceMetrics") or ():
        several = [
            {"name": metric["name"], **{kind: _data(metric[kind]) for kind in _KINDS if metric.get(kind)}}
            for scope in resource.get("scopeMetrics") or ()
            for metric in scope.get("metrics") or ()
            if metric.get("name") in METRICS
        ]
        if several:
            found.append({"resource": _resource(resource), "scopeMetrics": [{"metrics": several}]})
    return {"resourceMetrics": found} if found else None


def _data(data: Mapping[str, Any]) -> dict[str, Any]:
    points = [
        {
            **{name: point[name] for name in _POINT if name in point},
            "attributes": list(_attributes(point, ATTRIBUTES)),
        }
        for point in data.get("dataPoints") or ()
    ]
    return {"dataPoints": points, "aggregationTemporality": data.get("aggregationTemporality")}


def _resource(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"attributes": list(_attributes(found.get("resource") or {}, RESOURCE))}


def _attributes(found: Mapping[str, Any], names: frozenset[str]) -> Iterator[Any]:
    return (one for one in found.get("attributes") or () if one.get("key") in names)


def _has_usage(attributes: list[Any]) -> bool:
    return any(one["key"].startswith("gen_ai.usage.") for one in attributes)
