"""AWS Cost and Usage Report 2.0 of Data Exports (`COST_AND_USAGE_REPORT`), csv.gz or Parquet, nested or flattened.

Columns: docs.aws.amazon.com/cur/latest/userguide/table-dictionary-cur2.html and its pages per group; layout and
manifest: …/dataexports-export-delivery.html. Amounts follow …/cur-sp.html (savings plans), …/amortized-reservation.html
(reservations), …/monitor-ondemand-reservations.html (capacity) and …/split-cost-allocation-data.html (containers).

Known to be missing: what AWS leaves out. ListCost of reserved usage without a public price is null; the upfront fee of
a Capacity Block is not spread over its hours, whose number the bill does not tell; unit prices are null on many fees.
"""

from pathlib import Path

from gpuledger.core.deliveries import by_manifest

TYPE = "aws-cur2"
TITLE = "AWS Cost and Usage Report 2.0 (Data Exports)"
PROVIDER = "AWS"
VERSION = "CUR 2.0"
# All columns that the mapping reads. The legacy report has the same under names such as `lineItem/UsageType`, which
# are equal once punctuation and case are gone; flattened exports and the legacy report spread `product` over columns.
COLUMNS = dict.fromkeys(Path(__file__).with_name("aws_cur2.columns.txt").read_text("utf-8").split(), ())
REQUIRED = (
    "line_item_line_item_type",
    "line_item_unblended_cost|line_item_net_unblended_cost",
    "line_item_usage_start_date",
    "bill_billing_period_start_date",
)
PREFIXES = {
    "resource_tags_flat": ("resource_tags_", "resource_tags.", "resourceTags/"),
    "cost_category_flat": ("cost_category_", "cost_category.", "costCategory/"),
}
COMMITMENTS = True
# Costs after private discounts where the bill has them, else before: what is invoiced.
TOTAL = """sum(CASE
    WHEN line_item_net_unblended_cost IS NULL THEN money(line_item_unblended_cost)
    ELSE money(line_item_net_unblended_cost)
END)"""
discover = by_manifest
