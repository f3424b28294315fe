"""What `gpuledger build` tells: one value for each table written, unit allocated and audit run."""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Built:
    """One model written or one audit run. `rows` of an audit are its findings; `example` is the first of them."""

    name: str
    kind: Literal["model", "audit"]
    rows: int
    state: Literal["ok", "fail"]
    detail: str
    example: dict[str, Any] | None = None
