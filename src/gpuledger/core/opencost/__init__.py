"""The language of OpenCost's HTTP API, without HTTP: windows, steps, filters, aggregation, shared cost, answers.

Sources: OpenCost's API documentation (opencost.io, "API" and "API Examples"), the Kubecost filter language v2 as its
documentation gives the grammar, and the behaviour of opencost/opencost, opencost/opencost-ui and kubecost/kubectl-cost
where the documentation is silent. docs/opencost-api.md says where we differ and why.
"""

from collections.abc import Sequence

from gpuledger.errors import UsageError

UNALLOCATED = "__unallocated__"
IDLE = "__idle__"
UNKNOWN = "__unknown__"
OVERHEAD = "__overhead__"


class BadParameterError(UsageError):
    """A parameter of a request that can't be answered; `parameter` is its name as the client spelled it."""

    def __init__(self, parameter: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, where=f"parameter {parameter!r}", hint=hint)
        self.parameter = parameter


def one_currency(codes: Sequence[str]) -> str | None:
    """Return the only one of the currencies that an answer's charges are in, None without any.

    Raises BadParameterError when there are several.
    """
    if len(codes) > 1:
        raise BadParameterError(
            "currency",
            f"the charges are in {', '.join(code or 'no stated currency' for code in codes)}, and sums of several mean nothing",
            hint=f"Add currency={codes[-1]}.",
        )
    return codes[0] if codes else None
