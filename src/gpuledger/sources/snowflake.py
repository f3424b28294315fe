"""Snowflake: exports of ORGANIZATION_USAGE.USAGE_IN_CURRENCY_DAILY, or a reseller's PARTNER_USAGE_IN_CURRENCY_DAILY.

Documented at docs.snowflake.com/en/sql-reference/organization-usage/usage_in_currency_daily. One line per day, account
and kind of service, in currency, CSV, JSON or Parquet. A day comes up to 72 hours late and may change until its month
closes: export whole months, again after the close.

Usage paid from a capacity commitment is shown at its price, as the view does, and names the contract that it burns
down (ContractApplied); the purchase of that capacity isn't in the view. Missing: list prices, discounts, tax, invoice
ids, and what caused the usage (warehouse, query, Cortex model): that is in ACCOUNT_USAGE, in credits.
"""

TYPE = "snowflake"
TITLE = "Snowflake USAGE_IN_CURRENCY_DAILY"
PROVIDER = "Snowflake"
VERSION = "USAGE_IN_CURRENCY_DAILY"
COLUMNS = {
    "organization_name": ("ORGANIZATION_NAME",),
    "customer_name": ("SOLD_TO_CUSTOMER_NAME", "SOLD_TO_ORGANIZATION_NAME"),
    "contract_number": ("CONTRACT_NUMBER", "SOLD_TO_CONTRACT_NUMBER"),
    "account_name": ("ACCOUNT_NAME",),
    "account_locator": ("ACCOUNT_LOCATOR",),
    "region": ("REGION",),
    "service_level": ("SERVICE_LEVEL",),
    "usage_date": ("USAGE_DATE",),
    "usage_type": ("USAGE_TYPE",),
    "usage_amount": ("USAGE",),
    "currency": ("CURRENCY",),
    "usage_in_currency": ("USAGE_IN_CURRENCY",),
    "balance_source": ("BALANCE_SOURCE",),
    "billing_type": ("BILLING_TYPE",),
    "rating_type": ("RATING_TYPE",),
    "service_type": ("SERVICE_TYPE",),
    "is_adjustment": ("IS_ADJUSTMENT",),
}
REQUIRED = ("usage_date", "usage_in_currency", "currency", "service_type|usage_type")
TOTAL = "sum(money(usage_in_currency))"
