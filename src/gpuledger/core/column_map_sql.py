"""Column maps as SQL: one SELECT from `native`, and the file's own total.

Names are always quoted and texts are always literals: nothing of a map is SQL itself.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from gpuledger.core.column_map import KINDS, Charges, ColumnMap, Match, Value
from gpuledger.focus.schema import quoted

_PROVIDERS: Final = (
    "ServiceProviderName",
    "HostProviderName",
    "InvoiceIssuerName",
    "ProviderName",
    "PublisherName",
)
_PRICED: Final = (
    "BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "ContractedUnitPrice", "ListUnitPrice", "x_CostStatus",
)  # fmt: skip
_MONEY: Final = "DECIMAL(32,18)"
_PRICE: Final = "DECIMAL(38,12)"  # a quantity has 14 decimals: 26 together, so a product may have 12 digits before the point
_QUANTITY: Final = "DECIMAL(38,14)"


def _typed(value: str | None, kind: str) -> str:
    return f"CAST({'NULL' if value is None else _text(value)} AS {kind})"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _list(values: Sequence[str]) -> str:
    return ", ".join(_text(value.casefold()) for value in values)


class Statement:
    """The SQL of one map."""

    def __init__(self, made: ColumnMap) -> None:
        self.map = made

    # Cells

    def cell(self, name: str) -> str:
        """Trimmed text of a cell, NULL for the map's null words."""
        column = quoted(name)
        return f"(CASE WHEN lower(trim({column})) NOT IN ({_list(self.map.nulls)}) THEN trim({column}) END)"

    def number(self, name: str, kind: str) -> str:
        """A cell as a number of this type; NULL when it isn't one as the map writes numbers."""
        text = self.cell(name)
        if self.map.symbols:
            bare = f"regexp_replace({text}, '[$€£¥\\s]|USD|EUR|GBP', '', 'g')"
            text = f"(CASE WHEN {bare} LIKE '(%)' THEN '-' || {bare}[2:-2] ELSE {bare} END)"
        if self.map.thousands:
            text = f"replace({text}, {_text(self.map.thousands)}, '')"
        if self.map.decimal == ",":
            text = f"replace({text}, ',', '.')"
        return f"TRY_CAST({text} AS {kind})"

    def instant(self, value: Value, name: str) -> str:
        """A cell as a moment: by the map's formats, else ISO; without an offset, in the map's time zone."""
        text = self.cell(name)
        zoned = f"regexp_matches({text}, '(Z|UTC|\\d:\\d\\d(:\\d\\d(\\.\\d+)?)? ?[+-]\\d\\d(:?\\d\\d)?)$')"
        tries = []
        for form in value.formats:
            if form in {"unix", "unix_ms"}:
                factor = "1000000" if form == "unix" else "1000"
                micros = f"TRY(CAST(TRY_CAST({text} AS DECIMAL(38,6)) * {factor} AS BIGINT))"
                tries.append(f"timezone('UTC', make_timestamp({micros}))")
            elif "%z" in form.casefold():
                tries.append(f"TRY_STRPTIME({text}, {_text(form)})::TIMESTAMPTZ")
            else:
                tries.append(
                    f"timezone({_text(value.zone or 'UTC')}, TRY_STRPTIME({text}, {_text(form)})::TIMESTAMP)"
                )
        if not value.formats:
            local = f"timezone({_text(value.zone or 'UTC')}, TRY_CAST({text} AS TIMESTAMP))"
            tries.append(f"CASE WHEN {zoned} THEN instant({text}) ELSE {local} END")
        return f"coalesce({', '.join(tries)})"

    # Values

    def value(self, value: Value) -> str:
        """SQL of one ledger column over the native line."""
        kind = value.kind
        if value.combine == "constant":
            return f"CAST({_text(value.constant or '')} AS {kind})"
        if kind.startswith("DECIMAL"):
            return self.numeric(value)
        if kind == "TIMESTAMPTZ":
            found = [self.instant(value, name) for name in value.sources]
            return f"coalesce({', '.join(found)})"
        return self.textual(value)

    def numeric(self, value: Value) -> str:
        """SQL of a number: combined, then adjusted."""
        kind = _MONEY if value.kind == _MONEY else _QUANTITY
        parts = [self.number(name, kind) for name in value.sources]
        if value.combine == "multiply":
            first, second = self.number(value.sources[0], _QUANTITY), self.number(value.sources[1], _PRICE)
            result = f"TRY(CAST({first} * {second} AS {kind}))"
        elif value.combine == "add":
            readable = " AND ".join(
                f"({part} IS NOT NULL OR {self.cell(name)} IS NULL)"
                for part, name in zip(parts, value.sources, strict=True)
            )
            some = f"coalesce({', '.join(parts)}) IS NOT NULL"
            total = " + ".join(f"coalesce({part}, 0)" for part in parts)
            result = f"(CASE WHEN {readable} AND {some} THEN CAST({total} AS {kind}) END)"
        else:
            result = f"coalesce({', '.join(parts)})" if len(parts) > 1 else parts[0]
        if value.times is not None:
            result = f"TRY(CAST({result} * {_decimal(value.times)} AS {kind}))"
        if value.divide is not None:
            result = _divided(result, value.divide, kind)
        if value.negate:
            result = f"(-{result})"
        if value.default is not None:
            result = f"coalesce({result}, CAST({_text(value.default)} AS {kind}))"
        return result if value.kind == kind else f"TRY_CAST({result} AS {value.kind})"

    def textual(self, value: Value) -> str:
        """SQL of a text: combined, then its pattern, then its table of values."""
        cells = [self.cell(name) for name in value.sources]
        if value.combine == "object":
            pairs = ", ".join(
                f"{{'key': {_text(key)}, 'value': {cell}}}"
                for key, cell in zip(value.keys, cells, strict=True)
            )
            filled = f"list_filter([{pairs}], lambda _pair: _pair.value IS NOT NULL)"
            return f"(CASE WHEN len({filled}) > 0 THEN to_json(map_from_entries({filled}))::VARCHAR END)"
        result = f"coalesce({', '.join(cells)})" if len(cells) > 1 else cells[0]
        if value.combine == "join":
            result = f"nullif(concat_ws({_text(value.separator)}, {', '.join(cells)}), '')"
        if value.pattern is not None:
            group = 1 if re.compile(value.pattern).groups else 0
            result = f"nullif(regexp_extract({result}, {_text(value.pattern)}, {group}), '')"
        if value.values is not None:
            cases = " ".join(
                f"WHEN {_text(key.casefold())} THEN {_text(entry)}" for key, entry in value.values.items()
            )
            result = f"(CASE lower({result}) {cases} END)"
        return f"coalesce({result}, {_text(value.default)})" if value.default is not None else result

    def issues(self, value: Value) -> list[str]:
        """SQL of complaints about cells that can't be read."""
        if value.combine == "constant" or (value.kind == "VARCHAR" and value.values is None):
            return []
        target = _text(value.target)
        if value.kind == "VARCHAR":
            return (
                []
                if value.default is not None
                else [f"issue({target}, {self.cell(value.sources[0])}, {self.value(value)})"]
            )
        if value.kind == "TIMESTAMPTZ":
            return [
                f"issue({target}, {self.cell(name)}, {self.instant(value, name)})" for name in value.sources
            ]
        kind = _MONEY if value.kind == _MONEY else _QUANTITY
        told = [f"issue({target}, {self.cell(name)}, {self.number(name, kind)})" for name in value.sources]
        all_read = " AND ".join(f"{self.number(name, kind)} IS NOT NULL" for name in value.sources)
        too_large = f"CASE WHEN {all_read} AND {self.value(value)} IS NULL THEN {_text(value.target + ': the result is too large')} END"
        return [*told, too_large]

    # Lines

    def match(self, match: Match) -> str:
        """Condition for the lines that a match means; never NULL."""
        cell = self.cell(match.column)
        if match.empty:
            return f"{cell} IS NULL"
        if match.pattern is not None:
            return f"coalesce(regexp_matches({cell}, {_text(match.pattern)}), false)"
        return f"coalesce(lower({cell}) IN ({_list(match.values)}), false)"

    def wanted(self) -> str:
        """Condition for lines that are charges."""
        dropped = [self.match(match) for match in (*self.map.skip, *self.map.totals)]
        return f"NOT ({' OR '.join(dropped)})" if dropped else "true"

    def tags(self) -> tuple[str, list[str]] | None:
        """SQL of the tags of a line and of complaints about them, or None when the map names none."""
        tags = self.map.tags
        cells = [(name, f"tag_map({self.cell(name)})") for name in tags.json]
        cells += [(name, self.pairs(name, between, equals)) for name, between, equals in tags.pairs]
        problems = [f"issue('Tags', {self.cell(name)}, {sql})" for name, sql in cells]
        found = [sql for _, sql in cells]
        if tags.prefixes:
            found.append('"_tags"')
        if tags.columns:
            found.append(self.filled(tags.columns))
        if not found:
            return None
        laid = found[0] if len(found) == 1 else f"map_concat({', '.join(found)})"
        return f"(CASE WHEN cardinality({laid}) > 0 THEN {laid} END)", problems

    def pairs(self, name: str, between: str, equals: str) -> str:
        """SQL of a map from a cell such as `team:ml;env:prod`; a pair without value is a key with an empty one."""
        split = f"string_split({self.cell(name)}, {_text(between)})"
        held = f"list_filter({split}, lambda _pair: trim(_pair) <> '')"
        mark = f"strpos(_pair, {_text(equals)})"
        rest = f"CASE WHEN {mark} > 0 THEN trim(_pair[{mark} + {len(equals)}:]) ELSE '' END"
        entry = f"{{'key': trim(split_part(_pair, {_text(equals)}, 1)), 'value': {rest}}}"
        return f"TRY(map_from_entries(list_transform({held}, lambda _pair: {entry})))"

    def filled(self, columns: Mapping[str, str]) -> str:
        """SQL of a map of key to cell, without the empty ones."""
        pairs = ", ".join(
            f"{{'key': {_text(key)}, 'value': {self.cell(name)}}}" for key, name in columns.items()
        )
        return f"map_from_entries(list_filter([{pairs}], lambda _pair: _pair.value IS NOT NULL))"

    # The statement

    def select(self) -> str:
        """Return the whole mapping: lines, their values, and what follows from those."""
        made = self.map
        values = {target: self.value(value) for target, value in made.values.items()}
        problems = [problem for value in made.values.values() for problem in self.issues(value)]
        if (tags := self.tags()) is not None:
            values["Tags"] = tags[0]
            problems += tags[1]
        if made.keep:
            kept = self.filled({name: name for name in made.keep})
            values["x_Native"] = f"(CASE WHEN cardinality({kept}) > 0 THEN {kept} END)"
        lines = f"SELECT * FROM native WHERE {self.wanted()}"
        if made.charges is not None:
            lines = self.split(made.charges, lines, values, problems)
        told = f"nullif(concat_ws('; ', {', '.join(problems)}), '')" if problems else "NULL::VARCHAR"
        columns = ", ".join(f"{sql} AS {quoted(target)}" for target, sql in values.items())
        read = f"SELECT {columns}, {told} AS x_DataIssues, _file, _row FROM ({lines})"
        if made.rates is None:
            return self.completed(read, set(values))
        return self.completed(self.priced(read), {*values, *_PRICED})

    def split(self, charges: Charges, lines: str, values: dict[str, str], problems: list[str]) -> str:
        """Turn lines with several amounts into one line per amount; changes `values` and `problems` to suit."""
        parts = [(name, self.number(name, _MONEY), self.cell(name)) for name in charges.columns]
        entries = [
            f"{{'name': {_text(name)}, 'amount': {amount}, 'cell': {cell}}}" for name, amount, cell in parts
        ]
        if charges.total is not None:
            rest = f"TRY(CAST({self.number(charges.total, _MONEY)} - {self.itemised(charges)} AS {_MONEY}))"
            entries.append(f"{{'name': '', 'amount': {rest}, 'cell': NULL}}")
            total = self.number(charges.total, _MONEY)
            problems.append(f"issue({_text(charges.total)}, {self.cell(charges.total)}, {total})")
        fixed = {**charges.columns, "": {"ChargeDescription": "Not itemised", **charges.remainder}}
        for target in sorted({target for constants in fixed.values() for target in constants}):
            cases = " ".join(
                f"WHEN {_text(name)} THEN CAST({_text(held[target])} AS {KINDS[target]})"
                for name, held in fixed.items()
                if target in held
            )
            values[target] = f"(CASE _part.name {cases} ELSE {values.get(target, 'NULL')} END)"
        values["BilledCost"] = "_part.amount"
        problems.append("issue('BilledCost', _part.cell, _part.amount)")
        every = f"SELECT *, unnest([{', '.join(entries)}]) AS _part FROM ({lines})"
        unread = "_part.amount IS NULL AND _part.cell IS NOT NULL"
        return f"SELECT * FROM ({every}) WHERE _part.amount <> 0 OR ({unread})"

    def itemised(self, charges: Charges) -> str:
        """SQL of the sum of a line's amounts, unreadable ones left out."""
        return "(" + " + ".join(f"coalesce({self.number(name, _MONEY)}, 0)" for name in charges.columns) + ")"

    def rate_rows(self) -> str:
        """SQL of the rate card as a relation."""
        rows = [
            ", ".join(
                (
                    _text(rate.sku.casefold()),
                    _typed(format(rate.unit_price, "f"), _PRICE),
                    _typed(
                        None if rate.list_unit_price is None else format(rate.list_unit_price, "f"), _PRICE
                    ),
                    _typed(rate.start.isoformat() if rate.start else None, "TIMESTAMPTZ"),
                    _typed(rate.end.isoformat() if rate.end else None, "TIMESTAMPTZ"),
                )
            )
            for rate in self.map.rates or ()
        ]
        none = f"NULL::VARCHAR, NULL::{_PRICE}, NULL::{_PRICE}, NULL::TIMESTAMPTZ, NULL::TIMESTAMPTZ"
        values = ", ".join(f"({row})" for row in rows or [none])
        return f"(SELECT * FROM (VALUES {values}) AS _rate(_sku, _price, _list, _from, _until))"

    def priced(self, read: str) -> str:
        """Price quantities by the rate card: a hash join on the SKU, then the rate that holds when the charge begins."""
        when = "ChargePeriodStart" if "ChargePeriodStart" in self.map.values else "BillingPeriodStart"
        fields = "{'price': _price, 'list': _list, 'from': _from, 'until': _until}"
        cards = f"SELECT _sku, list({fields}) AS _rates FROM {self.rate_rows()} GROUP BY _sku"
        holds = f"(_r.from IS NULL OR {when} >= _r.from) AND (_r.until IS NULL OR {when} < _r.until)"
        joined = (
            f"SELECT _line.*, list_filter(_rates, lambda _r: {holds})[1] AS _held "
            f"FROM ({read}) AS _line LEFT JOIN ({cards}) AS _cards ON _cards._sku = lower(_line.SkuId)"
        )
        cost = f"TRY(CAST(PricingQuantity * _held.price AS {_MONEY}))"
        at_list = f"TRY(CAST(PricingQuantity * _held.list AS {_MONEY}))"
        none = (
            "CASE WHEN _held IS NULL THEN 'BilledCost: no rate for ' || coalesce(SkuId, 'a line without SKU') "
            "WHEN PricingQuantity IS NULL THEN 'BilledCost: no quantity to price' "
            f"WHEN {cost} IS NULL THEN 'BilledCost: the result is too large' END"
        )
        return (
            f"SELECT * EXCLUDE (_held, x_DataIssues), {cost} AS BilledCost, {cost} AS EffectiveCost, "
            f"{cost} AS ContractedCost, {at_list} AS ListCost, CAST(_held.price AS {_MONEY}) AS ContractedUnitPrice, "
            f"CAST(_held.list AS {_MONEY}) AS ListUnitPrice, 'Estimated' AS x_CostStatus, "
            f"nullif(concat_ws('; ', x_DataIssues, {none}), '') AS x_DataIssues FROM ({joined})"
        )

    def completed(self, read: str, names: set[str]) -> str:
        """Add what follows from the mapped columns: periods, provider names, categories of plain usage."""
        made, more = self.map, {}
        zone = _text(made.zone)
        length = f"INTERVAL {_text(made.charge_period)}" if made.charge_period else None
        if "ChargePeriodStart" not in names:
            more["ChargePeriodStart"] = "BillingPeriodStart"
            length = length or "INTERVAL '1 month'"
        begin = more.get("ChargePeriodStart", "ChargePeriodStart")
        if "ChargePeriodEnd" not in names and length:
            more["ChargePeriodEnd"] = f"timezone({zone}, timezone({zone}, {begin}) + {length})"
        # A billing period is a month of the vendor's calendar; we give its bounds as that month in UTC.
        month = f"date_trunc('month', timezone({zone}, {'BillingPeriodStart' if 'BillingPeriodStart' in names else begin}))"
        more["BillingPeriodStart"] = f"timezone('UTC', {month})"
        more["BillingPeriodEnd"] = f"timezone('UTC', {month} + INTERVAL '1 month')"
        for unit, quantity in (("PricingUnit", "PricingQuantity"), ("ConsumedUnit", "ConsumedQuantity")):
            if {unit, quantity} <= names:
                more[unit] = f"CASE WHEN {quantity} IS NOT NULL THEN {unit} END"
        usage = "'Usage'" if "ChargeCategory" not in names else "ChargeCategory"
        category = "'Other'" if "ServiceCategory" not in names else "ServiceCategory"
        defaults = {
            "EffectiveCost": "BilledCost",
            "ContractedCost": f"TRY(CAST(CAST(PricingQuantity AS {_QUANTITY}) * CAST(ContractedUnitPrice AS {_PRICE}) AS {_MONEY}))",
            "ListCost": f"TRY(CAST(CAST(PricingQuantity AS {_QUANTITY}) * CAST(ListUnitPrice AS {_PRICE}) AS {_MONEY}))",
            "ChargeCategory": "'Usage'",
            "ChargeFrequency": f"CASE WHEN {usage} = 'Usage' THEN 'Usage-Based' END",
            "PricingCategory": f"CASE WHEN {usage} = 'Usage' THEN 'Standard' END",
            "ChargeDescription": _description(names),
            "ServiceCategory": "'Other'",
            "ServiceSubcategory": f"'Other (' || {category} || ')'",
        }
        needs = {
            "ContractedCost": {"PricingQuantity", "ContractedUnitPrice"},
            "ListCost": {"PricingQuantity", "ListUnitPrice"},
            "PricingCategory": {"PricingQuantity"},
        }
        more |= {
            name: sql
            for name, sql in defaults.items()
            if name not in names and sql and needs.get(name, set()) <= names
        }
        seller = (
            "ServiceProviderName"
            if "ServiceProviderName" in names
            else _text(made.provider)
            if made.provider
            else None
        )
        if seller is not None:
            more |= {name: seller for name in _PROVIDERS if name not in names}
        replaced = [name for name in more if name in names]
        kept = f"* EXCLUDE ({', '.join(map(quoted, replaced))})" if replaced else "*"
        return f"SELECT {kept}, {', '.join(f'{sql} AS {quoted(name)}' for name, sql in more.items())} FROM ({read})"

    def total(self) -> str:
        """SQL over `native`: the file's own total."""
        made = self.map
        if made.charges is not None:
            amount = self.itemised(made.charges)
            if made.charges.total is not None:
                amount = f"coalesce({self.number(made.charges.total, _MONEY)}, {amount})"
        elif made.rates is not None:
            start = self.value(made.values.get("ChargePeriodStart") or made.values["BillingPeriodStart"])
            sku, quantity = (self.value(made.values[name]) for name in ("SkuId", "PricingQuantity"))
            holds = f"coalesce({start} >= _from, true) AND coalesce({start} < _until, true)"
            amount = (
                f"(SELECT TRY(CAST({quantity} * _price AS {_MONEY})) FROM {self.rate_rows()} "
                f"WHERE _sku = lower({sku}) AND {holds})"
            )
        else:
            amount = self.value(made.values["BilledCost"])
        charges = f"sum({amount}) FILTER (WHERE {self.wanted()})"
        if not made.totals:
            return charges
        stated = " OR ".join(self.match(match) for match in made.totals)
        return f"coalesce(sum({amount}) FILTER (WHERE {stated}), {charges})"


def _decimal(number: Decimal) -> str:
    text = format(number, "f")
    digits, scale = len(text.replace("-", "").replace(".", "").lstrip("0")), len(text.partition(".")[2])
    return f"CAST({_text(text)} AS DECIMAL({max(digits, scale, 1)},{scale}))"


def _divided(number: str, divisor: int, kind: str) -> str:
    """SQL of a quotient, rounded half away from zero at the type's scale. The engine's own division is binary."""
    if str(divisor).strip("0") == "1":
        return f"TRY(CAST({number} * {_decimal(Decimal(1) / divisor)} AS {kind}))"
    scaled = f"CAST(CAST({number} AS DECIMAL(38,10)) * CAST('1e10' AS DECIMAL(11,0)) AS HUGEINT) * 10000"
    quotient = f"((abs({scaled}) + {divisor // 2}) // {divisor}) * sign({number})::HUGEINT"
    return (
        f"TRY(CAST(CAST({quotient} AS DECIMAL(38,0)) * CAST('0.00000000000001' AS DECIMAL(14,14)) AS {kind}))"
    )


def _description(names: set[str]) -> str | None:
    sku = next((name for name in ("x_InstanceType", "SkuId") if name in names), None)
    parts = [name for name in ("ServiceName", sku) if name in names]
    return f"nullif(concat_ws(' ', {', '.join(parts)}), '')" if parts else None
