"""Usage intervals by the hundred thousand: a column of numbers per field, and each text once.

The same as so many `UsageInterval`, which it gives one by one to who wants them; storage takes the columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gpuledger.core.usage import Resource, Sharing, UsageInterval

if TYPE_CHECKING:
    from gpuledger.core.metric_grid import Flags, Ints

# Quantities in columns are whole numbers of units, of which 10**14 are one: the decimals that the tables have.
DECIMALS: Final = 14
# In place of a number of units that isn't known.
UNKNOWN: Final = -(2**63)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# Type of a number of units that fits into a column, and what one is.
_UNIT: Final = f"{Decimal(1).scaleb(-DECIMALS):f}::DECIMAL({DECIMALS + 1}, {DECIMALS})"


class Owner(NamedTuple):
    """Who held something, and where."""

    node: str
    job_id: str
    pod: str | None
    container: str | None
    namespace: str | None
    pod_uid: str | None


class Kind(NamedTuple):
    """What was held."""

    resource: Resource
    device: str | None
    requested: Decimal | None
    sharing: Sharing | None
    share: Fraction | None


@dataclass(frozen=True, slots=True)
class UsageColumns:
    """Usage of one cluster. `owner` and `kind` are places in the lists of them; `used` is in units.

    `start` and `end` are microseconds since 1970, `waits` says that it was held and didn't run.
    """

    cluster: str
    owners: Sequence[Owner]
    kinds: Sequence[Kind]
    owner: "Ints"
    kind: "Ints"
    used: "Ints"
    attempt: "Ints"
    waits: "Flags"
    start: "Ints"
    end: "Ints"

    def __len__(self) -> int:
        """Return the number of intervals."""
        return self.owner.size

    def __iter__(self) -> Iterator[UsageInterval]:
        """Yield the intervals one by one."""
        columns = (self.owner, self.kind, self.used, self.attempt, self.waits, self.start, self.end)
        for owner, kind, used, attempt, waits, start, end in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            by, what = self.owners[owner], self.kinds[kind]
            yield UsageInterval(
                cluster=self.cluster,
                **by._asdict(),
                **what._asdict(),
                start=moment(start),
                end=moment(end),
                used=decimal_of(used),
                attempt=attempt,
                state="held" if waits else "running",
            )

    def take(self, chosen: "Ints | Flags") -> "UsageColumns":
        """Return some of the intervals."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})

    def __add__(self, other: "UsageColumns") -> "UsageColumns":
        """Return the intervals of both, which have the same lists of owners and kinds."""
        import numpy as np

        both: dict[str, Any] = {
            name: np.concatenate((getattr(self, name), getattr(other, name))) for name in _COLUMNS
        }
        return replace(self, **both)

    def without(self, gaps: Sequence[tuple[datetime, datetime]]) -> "UsageColumns":
        """Cut gaps out: of what nobody saw nothing is said, so that it is unknown and not idle."""
        import numpy as np

        found = self
        for begin, stop in sorted((micros(begin), micros(stop)) for begin, stop in gaps):
            before = found.take(found.start < begin)
            after = found.take(found.end > stop)
            found = replace(before, end=np.minimum(before.end, begin)) + replace(
                after, start=np.maximum(after.start, stop)
            )
        return found

    def tables(self) -> tuple[dict[str, dict[str, Any]], str]:
        """Return arrays by column of the tables `told`, `owners` and `kinds`, and SQL that makes ledger rows of them."""
        import numpy as np

        told = {name: getattr(self, name) for name in _COLUMNS}
        owners = {name: _texts(column) for name, column in _transposed(Owner, self.owners).items()}
        owners["cluster"] = _texts([self.cluster] * len(self.owners))
        listed = _transposed(Kind, self.kinds)
        shares = listed.pop("share")
        kinds = {name: _texts(column) for name, column in listed.items()}
        for part in ("numerator", "denominator"):
            kinds[f"share_{part}"] = _texts([None if one is None else getattr(one, part) for one in shares])
        for table in (owners, kinds):
            size = len(next(iter(table.values())))
            table["place"] = np.arange(size)
        return {"told": told, "owners": owners, "kinds": kinds}, _ROWS


_COLUMNS: Final = ("owner", "kind", "used", "attempt", "waits", "start", "end")
_ROWS: Final = f"""
SELECT nullif(o.cluster, '') AS cluster, nullif(o.node, '') AS node, o.job_id, t.attempt::BIGINT AS attempt,
    nullif(o.namespace, '') AS namespace, o.pod, o.pod_uid, nullif(o.container, '') AS container,
    k.resource, k.device, k.sharing, k.share_numerator::BIGINT AS share_numerator,
    k.share_denominator::BIGINT AS share_denominator, k.requested::DECIMAL(38, {DECIMALS}) AS requested,
    (nullif(t.used, {UNKNOWN})::DECIMAL(19, 0) * {_UNIT})::DECIMAL(38, {DECIMALS}) AS used,
    CASE WHEN t.waits THEN 'held' ELSE 'running' END AS state,
    make_timestamptz(t."start") AS "start", make_timestamptz(t."end") AS "end"
FROM told t JOIN owners o ON o.place = t.owner JOIN kinds k ON k.place = t.kind"""


def _transposed(kind: type[Owner] | type[Kind], rows: Sequence[Any]) -> dict[str, Sequence[Any]]:
    columns = list(zip(*rows, strict=True)) or [()] * len(kind._fields)
    return dict(zip(kind._fields, columns, strict=True))


def _texts(column: Sequence[Any]) -> Any:  # noqa: ANN401  # an array of texts and None
    import numpy as np

    found = np.empty(len(column), object)
    found[:] = [
        format(value, "f") if isinstance(value, Decimal) else value and str(value) for value in column
    ]
    return found


def micros(moment: datetime) -> int:
    """Return a moment in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """Return the moment that many microseconds after 1970 began."""
    return _EPOCH + timedelta(microseconds=microseconds)


def decimal_of(units: int) -> Decimal | None:
    """Return a number of units as the quantity that it is, without idle zeros."""
    if units == UNKNOWN:
        return None
    kept = Decimal(units).scaleb(-DECIMALS).normalize()
    return kept.quantize(Decimal(1)) if int(kept.as_tuple().exponent) > 0 else kept
