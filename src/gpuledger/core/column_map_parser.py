"""Reads column maps from TOML and checks them, without any I/O.

A map says for each ledger column where its value comes from. There are no expressions: a value is a column, a fixed
text, or one of a few combinations (`first`, `join`, `add`, `multiply`, `object`), then at most a few adjustments. So a
map can be shared, and nothing in it is ever run. docs/connectors/columns.md is the reference.
"""

import csv
import difflib
import io
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gpuledger.core.column_map import KINDS, Charges, ColumnMap, Match, Rate, Tags, Value
from gpuledger.errors import ConfigError

_COMBINATIONS: Final = ("column", "first", "join", "add", "multiply", "object")
_ADJUSTMENTS: Final = (
    "separator", "optional", "times", "divide", "negate", "pattern", "values", "default", "formats", "time_zone",
)  # fmt: skip
_PERIOD: Final = re.compile(r"^([1-9]\d*) (minute|hour|day|week|month|year)s?$")
_TOP: Final = (
    "title", "provider", "version", "extends", "charge_period", "keep", "file", "columns", "constants", "tags", "rows",
    "charges", "rate_card",
)  # fmt: skip
_SHOWN: Final = 20
_TAGS_HINT: Final = 'Tags = "column with JSON", or the table [tags]; other native columns go into `keep`.'


def parse(content: Mapping[str, Any], where: str, read: Callable[[str], str]) -> ColumnMap:
    """Check a map. `read` returns the text of a file that the map names, such as a rate card.

    Raises ConfigError that names the file, the table and the key.
    """
    top = _Table(content, where, "")
    top.only(_TOP)
    file = top.table("file")
    file.only(("delimiter", "records", "decimal", "thousands", "symbols", "nulls", "time_zone"))
    charges, rows = _charges(top.table("charges")), top.table("rows")
    rows.only(("skip", "totals"))
    zone = _zone(file, "time_zone") or "UTC"
    values = _values(top, zone)
    made = ColumnMap(
        where=where,
        title=top.text("title") or "column map",
        provider=top.text("provider"),
        version=top.text("version") or top.text("title") or "column map",
        values={target: value for target, value in values.items() if target != "Tags"},
        charge_period=_period(top),
        keep=top.texts("keep"),
        delimiter=file.text("delimiter"),
        records=file.text("records"),
        decimal=file.text("decimal") or ".",
        thousands=file.text("thousands") or "",
        symbols=file.flag("symbols"),
        nulls=("", *file.texts("nulls")),
        zone=zone,
        tags=_tags(top.table("tags"), values.get("Tags")),
        skip=tuple(_match(entry) for entry in rows.tables("skip")),
        totals=tuple(_match(entry) for entry in rows.tables("totals")),
        charges=charges,
        rates=_rates(top.table("rate_card"), zone, read) if "rate_card" in content else None,
    )
    _consistent(made, file)
    return made


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one map over another: tables are merged, all else is replaced."""
    both = dict(base)
    for key, value in over.items():
        held = both.get(key)
        both[key] = merged(held, value) if isinstance(held, Mapping) and isinstance(value, Mapping) else value
    both.pop("extends", None)
    return both


class _Table:
    """A table of the map that knows its name, so that every complaint can say where."""

    def __init__(self, content: Mapping[str, Any], where: str, name: str) -> None:
        self.content, self.where, self.name = content, where, name

    def wrong(self, key: str, message: str, hint: str) -> ConfigError:
        place = f"[{self.name}] {key}" if self.name else key
        return ConfigError(message, where=f"{self.where}: {place}", hint=hint)

    def only(self, known: Iterable[str]) -> None:
        for key in self.content:
            if key not in known:
                raise self.wrong(key, "unknown key", _near(key, known))

    def _get(self, key: str, kind: type | tuple[type, ...], says: str) -> Any:  # noqa: ANN401  # TOML's values
        value = self.content.get(key)
        if value is not None and (
            not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        ):
            raise self.wrong(
                key,
                f"must be {says}, not {value!r}",
                "docs/connectors/columns.md has an example of every key.",
            )
        return value

    def text(self, key: str) -> str | None:
        return cast("str | None", self._get(key, str, "a text"))

    def flag(self, key: str) -> bool:
        return bool(self._get(key, bool, "true or false"))

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key, (str, list), "a text or a list of texts")
        found = [value] if isinstance(value, str) else value or []
        if not all(isinstance(entry, str) for entry in found):
            raise self.wrong(key, "must be a list of texts", "Put quotation marks around each.")
        return tuple(found)

    def number(self, key: str) -> Decimal | None:
        value = self._get(key, (str, int, float, Decimal), "a number")
        if value is None:
            return None
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite():
            raise self.wrong(key, f"must be a number, not {value!r}", "Write it plainly: 0.01")
        return number

    def table(self, key: str) -> "_Table":
        value = self._get(key, Mapping, "a table") or {}
        return _Table(value, self.where, f"{self.name}.{key}" if self.name else key)

    def tables(self, key: str) -> list["_Table"]:
        value = self._get(key, list, "a list of tables") or []
        if not all(isinstance(entry, Mapping) for entry in value):
            raise self.wrong(
                key,
                "must be a list of tables",
                f'Such as {key} = [{{ column = "Type", values = ["Total"] }}]',
            )
        return [_Table(entry, self.where, f"{self.name}.{key}" if self.name else key) for entry in value]

    def mapping(self, key: str) -> dict[str, str] | None:
        value = self._get(key, Mapping, "a table of texts")
        if value is None:
            return None
        return {str(name): str(entry) for name, entry in value.items()}


def _near(key: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    return (
        f"Did you mean {near[0]}?"
        if near
        else f"Known are: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}."
    )


def _zone(table: _Table, key: str) -> str | None:
    name = table.text(key)
    if name is not None:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise table.wrong(
                key, f"no time zone {name!r}", "Use a name such as Europe/Berlin or UTC."
            ) from error
    return name


def _period(top: _Table) -> str | None:
    text = top.text("charge_period") or top.table("constants").text("charge_period")
    if text is not None and not _PERIOD.match(text):
        raise top.wrong(
            "charge_period", f"can't read {text!r}", 'Write a length such as "1 hour", "1 day" or "1 month".'
        )
    return text


def _values(top: _Table, zone: str) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for target, spec in top.table("columns").content.items():
        table = top.table("columns")
        if target not in KINDS:
            raise table.wrong(target, "the ledger has no such column", _near(target, KINDS))
        if isinstance(spec, str):
            found[target] = _sensible(Value(target, "column", (spec,), zone=zone), table)
        elif isinstance(spec, Mapping):
            found[target] = _value(target, _Table(spec, top.where, f"columns.{target}"), zone)
        else:
            raise table.wrong(
                target, f"must be a column's name or a table, not {spec!r}", f'{target} = "Name in the file"'
            )
    constants = top.table("constants")
    for target, spec in constants.content.items():
        if target == "charge_period":
            continue
        if target not in KINDS:
            raise constants.wrong(target, "the ledger has no such column", _near(target, KINDS))
        if target in found:
            raise constants.wrong(
                target, "is in [columns] too", "Delete one, or give the column a `default`."
            )
        found[target] = Value(target, "constant", constant=_constant(constants, target, spec))
    return found


def _constant(table: _Table, target: str, spec: object) -> str:
    kind = KINDS[target]
    if kind.startswith("MAP"):
        raise table.wrong(target, "can't be a constant", _TAGS_HINT)
    if kind.startswith("DECIMAL"):
        return format(cast("Decimal", table.number(target)), "f")
    text = table.text(target)
    if kind == "TIMESTAMPTZ":
        try:
            datetime.fromisoformat(str(spec))
        except ValueError as error:
            raise table.wrong(target, f"{spec!r} is not a time", "Write 2026-10-01T00:00:00Z.") from error
    return str(text)


def _value(target: str, table: _Table, zone: str) -> Value:
    table.only((*_COMBINATIONS, *_ADJUSTMENTS))
    given = [name for name in _COMBINATIONS if name in table.content]
    if len(given) != 1:
        raise table.wrong(
            "",
            f"needs exactly one of {', '.join(_COMBINATIONS)}",
            f'{target} = {{ column = "Name in the file" }}',
        )
    combine = given[0]
    pairs = (table.mapping("object") or {}) if combine == "object" else {}
    sources = tuple(pairs.values()) if combine == "object" else table.texts(combine)
    if combine == "multiply" and len(sources) != len(("quantity", "price")):
        raise table.wrong("multiply", "takes two columns", 'multiply = ["Quantity", "Unit price"]')
    if not sources or (combine == "column" and len(sources) > 1):
        raise table.wrong(
            combine,
            "names no column" if not sources else "names more than one",
            "For several, use first, join or add.",
        )
    divide = table.number("divide")
    if divide is not None and (divide <= 0 or divide != int(divide)):
        raise table.wrong(
            "divide", f"must be a whole number above zero, not {divide}", "For anything else, use times."
        )
    value = Value(
        target, combine, sources, tuple(pairs),
        separator=table.text("separator") or " ", optional=table.flag("optional"), times=table.number("times"),
        divide=int(divide) if divide is not None else None, negate=table.flag("negate"),
        pattern=_pattern(table), values=table.mapping("values"), default=_default(table, target),
        formats=table.texts("formats"), zone=_zone(table, "time_zone") or zone,
    )  # fmt: skip
    return _sensible(value, table)


def _default(table: _Table, target: str) -> str | None:
    if KINDS[target].startswith("DECIMAL"):
        number = table.number("default")
        return None if number is None else format(number, "f")
    return table.text("default")


def _pattern(table: _Table) -> str | None:
    text = table.text("pattern")
    if text is not None:
        try:
            re.compile(text)
        except re.error as error:
            raise table.wrong(
                "pattern", f"not a regular expression: {error}", "Its first group, if any, is the value."
            ) from error
    return text


def _sensible(value: Value, table: _Table) -> Value:
    """Refuse what makes no sense for the column's type."""
    number, moment = value.kind.startswith("DECIMAL"), value.kind == "TIMESTAMPTZ"
    if value.kind.startswith("MAP") and (value.target != "Tags" or value.combine != "column"):
        raise table.wrong("", f"{value.target} can't come from this", _TAGS_HINT)
    misplaced = {
        "times": value.times is not None and not number,
        "divide": value.divide is not None and not number,
        "negate": value.negate and not number,
        "add": value.combine == "add" and not number,
        "multiply": value.combine == "multiply" and not number,
        "join": value.combine == "join" and (number or moment),
        "object": value.combine == "object" and value.kind != "VARCHAR",
        "formats": bool(value.formats) and not moment,
        "values": value.values is not None and (number or moment),
        "default": value.default is not None and moment,
    }
    for key, wrong in misplaced.items():
        if wrong:
            kind = "a number" if number else "a time" if moment else "a text"
            raise table.wrong(
                key,
                f"doesn't fit {value.target}, which is {kind}",
                "docs/connectors/columns.md says what goes with what.",
            )
    if (
        value.divide is not None
        and value.kind == KINDS["BilledCost"]
        and set(str(value.divide)) - set("0") != {"1"}
    ):
        raise table.wrong(
            "divide",
            f"money can't be divided by {value.divide} exactly",
            "Only 10, 100, 1000, …; or use times.",
        )
    return value


def _tags(table: _Table, cell: Value | None) -> Tags:
    table.only(("json", "pairs", "prefix", "columns"))
    pairs = []
    for entry in table.tables("pairs"):
        entry.only(("column", "between", "equals"))
        if not entry.text("column"):
            raise entry.wrong(
                "column", "is missing", 'pairs = [{ column = "Tags", between = ";", equals = ":" }]'
            )
        pairs.append((str(entry.text("column")), entry.text("between") or ";", entry.text("equals") or ":"))
    json = (*(cell.sources if cell is not None else ()), *table.texts("json"))
    return Tags(json, tuple(pairs), table.texts("prefix"), table.mapping("columns") or {})


def _match(table: _Table) -> Match:
    table.only(("column", "values", "pattern", "empty"))
    match = Match(table.text("column") or "", table.texts("values"), _pattern(table), table.flag("empty"))
    if not match.column or not (match.values or match.pattern or match.empty):
        raise table.wrong(
            "column",
            "needs a column, and values, a pattern or empty",
            '{ column = "Type", values = ["Total"] }',
        )
    return match


def _charges(table: _Table) -> Charges | None:
    if not table.content:
        return None
    table.only(("total", "columns", "remainder"))
    columns = {}
    for name in table.table("columns").content:
        entry = table.table("columns").table(name)
        entry.only(KINDS)
        columns[name] = {target: _constant(entry, target, spec) for target, spec in entry.content.items()}
    if not columns:
        raise table.wrong(
            "columns",
            "is missing",
            '[charges.columns."Name in the file"] holds what is fixed for that charge.',
        )
    rest = table.table("remainder")
    rest.only(KINDS)
    return Charges(
        columns,
        table.text("total"),
        {target: _constant(rest, target, spec) for target, spec in rest.content.items()},
    )


def _rates(table: _Table, zone: str, read: Callable[[str], str]) -> tuple[Rate, ...]:
    table.only(("file", "rates"))
    entries = table.tables("rates")
    if (name := table.text("file")) is not None:
        lines = csv.DictReader(io.StringIO(read(name).removeprefix("\ufeff")))
        entries += [
            _Table({k: v for k, v in line.items() if k and v}, f"{name}, line {lines.line_num}", "")
            for line in lines
        ]
    rates = []
    for entry in entries:
        entry.only(("sku", "unit_price", "list_unit_price", "from", "until"))
        sku, price = entry.text("sku"), entry.number("unit_price")
        if not sku or price is None:
            raise entry.wrong(
                "sku" if not sku else "unit_price", "is missing", "A rate has a sku and a unit_price."
            )
        rates.append(
            Rate(
                sku,
                price,
                _day(entry, "from", zone),
                _day(entry, "until", zone),
                entry.number("list_unit_price"),
            )
        )
    _disjoint(rates, table)
    return tuple(rates)


def _day(table: _Table, key: str, zone: str) -> datetime | None:
    value = table.content.get(key)
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise table.wrong(key, f"{value!r} is not a date", "Write 2026-10-01.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(zone))


def _disjoint(rates: list[Rate], table: _Table) -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    ordered = sorted(rates, key=lambda rate: (rate.sku.casefold(), rate.start or first))
    for one, two in pairwise(ordered):
        if one.sku.casefold() == two.sku.casefold() and (one.end or last) > (two.start or first):
            raise table.wrong(
                "rates", f"two rates of {two.sku} hold at the same time", "Give the first an `until`."
            )


def _consistent(made: ColumnMap, file: _Table) -> None:
    top = _Table({}, made.where, "columns")
    has = made.values
    if not {"ChargePeriodStart", "BillingPeriodStart"} & set(has):
        raise top.wrong(
            "ChargePeriodStart", "is missing", "Name the column with the date or time of the charge."
        )
    if "BillingCurrency" not in has:
        raise top.wrong(
            "BillingCurrency",
            "is missing",
            'Name its column, or put BillingCurrency = "USD" into [constants].',
        )
    ways = [bool(made.charges), made.rates is not None, "BilledCost" in has]
    if sum(ways) != 1:
        raise top.wrong("BilledCost", "needs exactly one of [columns] BilledCost, [charges] and [rate_card]",
                        "The first names a cost column, the second several, the third prices quantities.")  # fmt: skip
    if made.rates is not None and not {"SkuId", "PricingQuantity"} <= set(has):
        raise top.wrong(
            "PricingQuantity", "is missing", "A rate card prices PricingQuantity by SkuId: name both."
        )
    if made.decimal not in {".", ","} or len(made.thousands) > 1 or made.thousands == made.decimal:
        raise file.wrong(
            "decimal", "decimal is '.' or ',', and thousands another mark", 'decimal = ",", thousands = "."'
        )
    folded: dict[str, str] = {}
    for name in made.used():
        if "|" in name or name.startswith("_"):
            raise top.wrong(
                name, "a column's name can't have '|' or begin with '_'", "Rename it in the file."
            )
        other = folded.setdefault(re.sub(r"[\W_]+", "", name).casefold(), name)
        if other != name:
            raise top.wrong(
                name,
                f"is the same column as {other!r}",
                "Case and punctuation don't count: spell it in one way.",
            )
