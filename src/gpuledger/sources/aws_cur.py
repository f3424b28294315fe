"""AWS Cost and Usage Report, the legacy one, csv.gz, zip or Parquet.

Headers are `lineItem/UnblendedCost`, or Athena's `line_item_unblended_cost`. Columns:
docs.aws.amazon.com/cur/latest/userguide/data-dictionary.html; layout and manifest: …/understanding-report-versions.html.
CUR 2.0 took over its columns, so both are mapped by the same SQL, aws_cur2.sql; what is known to be missing is said in
aws_cur2.py. The legacy report never names accounts.
"""

from pathlib import Path

from gpuledger.core.deliveries import by_manifest

TYPE = "aws-cur"
TITLE = "AWS Cost and Usage Report (legacy)"
PROVIDER = "AWS"
VERSION = "CUR"
SQL = "aws_cur2"
COLUMNS = dict.fromkeys(Path(__file__).with_name("aws_cur2.columns.txt").read_text("utf-8").split(), ())
# The product's name has a column of its own only here: it tells the two reports apart.
REQUIRED = (
    "line_item_line_item_type",
    "line_item_unblended_cost|line_item_net_unblended_cost",
    "line_item_usage_start_date",
    "bill_billing_period_start_date",
    "product_product_name",
)
PREFIXES = {
    "resource_tags_flat": ("resourceTags/", "resource_tags_"),
    "cost_category_flat": ("costCategory/", "cost_category_"),
}
COMMITMENTS = True
TOTAL = """sum(CASE
    WHEN line_item_net_unblended_cost IS NULL THEN money(line_item_unblended_cost)
    ELSE money(line_item_net_unblended_cost)
END)"""
discover = by_manifest
