"""Rows of Google Cloud's detailed billing export, in the form in which BigQuery extracts tables as JSON.

Schema: docs.cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/detailed-usage. NUMERIC is text, FLOAT a
number, times end in ' UTC'.
"""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from gpuledger.demo import files
from gpuledger.demo.company import identifier, plain, stream

PROVIDER: Final = "gcp"
ACCOUNT: Final = "01SYNT-HETIC0-EXAMPL"
TABLE: Final = "synthetic_gcp_billing_export_resource_v1_01SYNT_HETIC0_EXAMPL"
COMPUTE: Final = ("6F81-5844-456A", "Compute Engine")
VERTEX: Final = ("C7E2-9256-1C43", "Vertex AI")
STORAGE: Final = ("95FF-2EF5-5EA1", "Cloud Storage")
PROJECTS: Final = {
    "vision-research": ("example-vision-synthetic", "100000000001"),
    "data-platform": ("example-data-synthetic", "100000000002"),
    "rag-serving": ("example-rag-synthetic", "100000000003"),
    None: ("example-sandbox-synthetic", "100000000004"),
}


class Usage(NamedTuple):
    """Metered usage: quantity in the pricing unit and its price, the same usage in base units."""

    quantity: Decimal
    unit: str
    price: Decimal
    amount: Decimal
    base: str


def number(value: Decimal) -> float:
    """Value as BigQuery's FLOAT; refuses what its shortest text would not give back."""
    found = float(value)
    if Decimal(repr(found)) != value:
        raise ValueError(f"not exact as a float: {value}")
    return found


def stamp(moment: datetime) -> str:
    """UTC time as BigQuery extracts it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def labels(found: dict[str, str]) -> list[dict[str, str]]:
    """Labels as a repeated record."""
    return [{"key": key, "value": value} for key, value in found.items()]


class Rows:
    """Makes rows of one month."""

    def __init__(self, setting: files.Setting) -> None:
        self.setting = setting

    def sku(self, description: str) -> dict[str, str]:
        """SKU with an invented id that follows from its name."""
        code = identifier(stream(0, self.setting.month, f"gcp/{description}"), "0123456789ABCDEF", 12)
        return {"id": f"{code[:4]}-{code[4:8]}-{code[8:]}", "description": description}

    def row(
        self,
        service: tuple[str, str],
        sku: str,
        team: str | None,
        when: tuple[datetime, timedelta],
        used: Usage,
    ) -> dict[str, Any]:
        """Make a row of a service's SKU in a team's project; `when` is start and length."""
        start, length = when
        project, project_number = PROJECTS[team]
        cost = used.quantity * used.price
        return {
            "billing_account_id": ACCOUNT,
            "service": {"id": service[0], "description": service[1]},
            "sku": self.sku(sku),
            "usage_start_time": stamp(start),
            "usage_end_time": stamp(start + length),
            "project": {
                "id": project,
                "number": project_number,
                "name": project,
                "labels": labels({"synthetic": "true"}),
                "ancestry_numbers": "/200000000001/",
                "ancestors": [{"resource_name": f"projects/{project_number}", "display_name": project}],
            },
            "labels": [],
            "system_labels": [],
            "location": {
                "location": "us-central1",
                "country": "US",
                "region": "us-central1",
                "zone": "us-central1-a",
            },
            "tags": [],
            "price": {
                "effective_price": plain(used.price),
                "tier_start_amount": "0",
                "unit": used.unit,
                "pricing_unit_quantity": "1",
                "list_price": plain(used.price),
            },
            "subscription": None,
            "transaction_type": "GOOGLE",
            "seller_name": "Google LLC (synthetic bill)",
            "export_time": stamp(start + length + timedelta(hours=5, minutes=start.hour)),
            "cost": number(cost),
            "currency": "USD",
            "currency_conversion_rate": 1.0,
            "usage": {
                "amount": float(used.amount),
                "unit": used.base,
                "amount_in_pricing_units": number(used.quantity),
                "pricing_unit": used.unit,
            },
            "credits": [],
            "invoice": {"month": f"{self.setting.month.start:%Y%m}"},
            "cost_type": "regular",
            "adjustment_info": None,
            "cost_at_list": number(cost),
            "consumption_model": {"id": "7754-699E-0EBF", "description": "Default"},
        }
