"""The Azure bill of the example: the exports ActualCost and AmortizedCost with their manifests.

Layout and manifest: learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports. ActualCost
holds the reservation's fee and its usage at no cost; AmortizedCost holds the used and the unused part instead: the
bill is the former.
"""

from dataclasses import replace
from typing import Final

from gpuledger.demo import files
from gpuledger.demo.azure_rows import PROVIDER, columns, items
from gpuledger.demo.company import DAY, LABEL, ZERO, guid, plain, stream
from gpuledger.demo.truth import Truth

ACTUAL: Final = "synthetic-actual-cost"
AMORTIZED: Final = "synthetic-amortized-cost"


def _manifest(
    setting: files.Setting, name: str, folder: str, run_id: str, parts: list[files.Written]
) -> None:
    month = setting.month
    scope = "/providers/Microsoft.Billing/billingAccounts/59110001/providers/Microsoft.CostManagement/exports"
    files.write_json(
        setting.root / folder / "manifest.json",
        {
            "manifestVersion": "2024-04-01",
            "byteCount": sum(part.size for part in parts),
            "blobCount": len(parts),
            "dataRowCount": sum(part.rows for part in parts),
            "exportConfig": {
                "exportName": name,
                "resourceId": f"{scope}/{name}",
                "dataVersion": "2023-12-01-preview",
                "apiVersion": "2023-07-01-preview",
                "type": "ActualCost" if name == ACTUAL else "AmortizedCost",
                "timeFrame": "TheLastMonth",
                "granularity": "Daily",
            },
            "deliveryConfig": {
                "partitionData": True,
                "dataOverwriteBehavior": "CreateNewReport",
                "fileFormat": "Csv",
                "compressionMode": "gzip",
                "containerUri": "/subscriptions/5e0f0001-0000-4000-8000-0000000000a1/resourceGroups/synthetic/providers/Microsoft.Storage/storageAccounts/synthetic",
                "rootFolderPath": PROVIDER,
            },
            "runInfo": {
                "executionType": "Scheduled",
                "submittedTime": month.first_delivery.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
                "runId": run_id,
                "startDate": month.start.strftime("%Y-%m-%dT00:00:00"),
                "endDate": (month.end - DAY).strftime("%Y-%m-%dT00:00:00Z"),
            },
            "blobs": [
                {"blobName": part.path, "byteCount": part.size, "dataRowCount": part.rows} for part in parts
            ],
            "x_synthetic": LABEL,
        },
    )


def folder(setting: files.Setting, name: str) -> tuple[str, str]:
    """Folder of an export's run relative to the root, and the run's id."""
    month = setting.month
    run_id = guid(stream(setting.seed, month, f"azure/run/{name}"))
    dates = f"{month.start:%Y%m%d}-{month.end - DAY:%Y%m%d}"
    return f"{PROVIDER}/{name}/{dates}/{month.first_delivery:%Y%m%d%H%M}/{run_id}", run_id


def write(setting: files.Setting, truth: Truth) -> list[files.Written]:
    """Write both exports."""
    header = columns()
    rows_of_month = items(setting, truth)
    found = []
    for name in (ACTUAL, AMORTIZED):
        where, run_id = folder(setting, name)
        path = f"{where}/part_0_0001.csv.gz"
        rows = []
        for item in rows_of_month:
            if not (item.actual if name == ACTUAL else item.amortized):
                continue
            price = item.price if name == ACTUAL or item.amortized_price is None else item.amortized_price
            cells = item.cells | {
                "Quantity": plain(item.quantity),
                "EffectivePrice": plain(price),
                "Cost": plain(item.quantity * price),
            }
            rows.append([cells.get(column, "") for column in header])
            # The cash view is the one export, the amortised view the other.
            fact = (
                replace(item.fact, effective=ZERO, commitment=None)
                if name == ACTUAL
                else replace(item.fact, billed=ZERO, gpu=None)
            )
            truth.add(PROVIDER, path, len(rows), fact)
        count = files.write_csv(setting.root / path, header, rows)
        part = files.written(setting, setting.root / path, PROVIDER, count)
        _manifest(setting, name, where, run_id, [part])
        found.append(part)
    return found
