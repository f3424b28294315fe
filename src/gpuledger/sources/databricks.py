"""Databricks: exports of system.billing.usage, with system.billing.list_prices and account_prices beside them.

Documented at docs.databricks.com/en/admin/system-tables/billing and …/pricing. CSV, JSON or Parquet; structs and maps as
JSON text where the format has no such thing. Usage and price files may lie in one folder: what a file is shows in its
columns, and a price file whose name has `account_prices` in it holds negotiated prices, which win.

Usage is quantities only, so the cost is quantity × the price that held when the usage began (Databricks' own example
queries take the start in one place and the end in another): the account's price, else the effective list price
(x_CostStatus Estimated: a discount may be missing). Without a price the cost is unknown. The table is append-only:
originals, retractions (negative) and restatements are all added. A correction that was recorded after its month is
billed in the month of its record, ChargeClass Correction.

DBUs of classic compute are Databricks' fee; the machines are on the cloud's bill. Missing: the machines' cost, purchased
commitments and their drawdown, credits, tax, invoice ids, regions.
"""

TYPE = "databricks"
TITLE = "Databricks system.billing"
PROVIDER = "Databricks"
VERSION = "system.billing.usage"
COLUMNS = {
    "record_id": (),
    "account_id": (),
    "workspace_id": (),
    "sku_name": (),
    "cloud": (),
    "usage_start_time": (),
    "usage_end_time": (),
    "usage_date": (),
    "custom_tags": (),
    "usage_unit": (),
    "usage_quantity": (),
    "usage_metadata": (),
    "identity_metadata": (),
    "record_type": (),
    "ingestion_date": (),
    "billing_origin_product": (),
    "product_features": (),
    "usage_type": (),
    # list_prices, account_prices
    "price_start_time": (),
    "price_end_time": (),
    "currency_code": (),
    "pricing": (),
    "price_default": ("pricing.default",),
}
REQUIRED = ("sku_name", "cloud", "usage_quantity|price_start_time")

# Written apart from the mapping: a plain range join, where the mapping looks prices up in a list per SKU.
_PRICES = """
    SELECT DISTINCT
        sku_name AS sku, cloud AS at, usage_unit AS unit, regexp_matches(_file, 'account_?prices', 'i') AS own,
        account_id AS account, instant(price_start_time) AS since, instant(price_end_time) AS until,
        CAST(coalesce(pricing ->> '$.effective_list.default', price_default, pricing ->> '$.default') AS DECIMAL(38, 12))
            AS price
    FROM native WHERE price_start_time IS NOT NULL
"""
_HOLDS = "{p}.sku = u.sku_name AND {p}.at = u.cloud AND {p}.unit IS NOT DISTINCT FROM u.usage_unit AND {when}"
_WHEN = "instant(u.usage_start_time) >= {p}.since AND ({p}.until IS NULL OR instant(u.usage_start_time) < {p}.until)"
TOTAL = f"""any_value((
    WITH prices AS ({_PRICES})
    SELECT sum(TRY(CAST(quantity(u.usage_quantity) * coalesce(a.price, l.price) AS DECIMAL(32, 18))))
    FROM native AS u
    LEFT JOIN prices AS l ON NOT l.own AND {_HOLDS.format(p="l", when=_WHEN.format(p="l"))}
    LEFT JOIN prices AS a ON a.own AND (a.account IS NULL OR a.account = u.account_id)
        AND {_HOLDS.format(p="a", when=_WHEN.format(p="a"))}
    WHERE u.usage_quantity IS NOT NULL
))"""
