"""Every kind of rule fails on a row that breaks it, names the rule, and passes on one that keeps it."""

from collections.abc import Mapping

import pytest
from tests.focus.rows import COMMITMENT, charge, check, failed, failing, text_rows, typed, without

from gpuledger.focus.model import VERSIONS

Changes = Mapping[str, str | None]
TAX: Changes = {
    "ChargeCategory": "Tax", "ListUnitPrice": None, "ContractedUnitPrice": None, "PricingQuantity": None,
    "PricingUnit": None, "PricingCategory": None, "SkuId": None, "SkuPriceId": None, "SkuMeter": None,
    "SkuPriceDetails": None, "ConsumedQuantity": None, "ConsumedUnit": None, "ChargeFrequency": "Recurring",
}  # fmt: skip


def test_the_conformant_charge_breaks_nothing() -> None:
    assert failing(charge()) == {}
    assert failing(charge(**TAX)) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_it_conforms_in_every_version_with_that_versions_columns(version: str) -> None:
    row = charge() if version < "1.4" else without(charge(), "ProviderName", "PublisherName")
    new = {"1.0": ("ServiceSubcategory", "SkuMeter", "SkuPriceDetails", "InvoiceId"), "1.1": ("InvoiceId",)}
    providers = ("HostProviderName", "ServiceProviderName") if version < "1.3" else ()
    assert failing(without(row, *new.get(version, ()), *providers), version=version) == {}


# rule id, the cells that break it, how many cells or rows fail
BREACHES: list[tuple[str, Changes, int]] = [
    ("CAU-BilledCost-C-003-M", {"BilledCost": None}, 1),
    ("CAU-ListUnitPrice-C-004-C", {**TAX, "ListUnitPrice": "1"}, 1),
    ("CAU-ListUnitPrice-C-005-C", {"ListUnitPrice": None}, 1),
    ("CAU-ListUnitPrice-C-008-M", {"ListUnitPrice": "-3", "ListCost": "-15"}, 1),
    ("CAU-ListCost-C-009-C", {"ListCost": "15.01"}, 1),
    ("CAU-ContractedCost-C-009-C", {"ContractedCost": "0"}, 1),
    ("CAU-ChargeCategory-C-003-M", {"ChargeCategory": "usage"}, 1),
    ("CAU-ChargeClass-C-005-C", {"ChargeClass": "Refund"}, 1),
    ("CAU-ChargeFrequency-C-004-C", {"ChargeCategory": "Purchase", "ConsumedQuantity": None, "ConsumedUnit": None}, 1),
    ("CAU-ServiceSubcategory-C-003-M", {"ServiceSubcategory": "Quantum"}, 1),
    ("CAU-ServiceSubcategory-C-004-M", {"ServiceSubcategory": "Block Storage"}, 1),
    ("CAU-BillingPeriodStart-C-001-M", {"BillingPeriodStart": "October"}, 1),
    ("CAU-BillingPeriodStart-C-002-M", {"BillingPeriodStart": "2026-10-01 00:00:00"}, 1),
    ("CAU-BillingPeriodStart-C-002-M", {"BillingPeriodStart": "2026-10-01T00:00:00+02:00"}, 1),
    ("OWN-CAU-ChargePeriod-ORDER", {"ChargePeriodEnd": "2026-10-01T00:00:00Z"}, 1),
    ("CAU-BilledCost-C-001-M", {"BilledCost": "twelve"}, 1),
    ("CAU-BilledCost-C-002-M", {"BilledCost": "+12.5"}, 1),
    ("CAU-BilledCost-C-002-M", {"BilledCost": "12,5"}, 1),
    ("CAU-BilledCost-C-002-M", {"BilledCost": "1E+2"}, 1),
    ("CAU-BilledCost-C-004-M", {"BilledCost": "NaN"}, 1),
    ("CAU-BillingCurrency-C-003-M", {"BillingCurrency": "usd"}, 1),
    ("CAU-BillingCurrency-C-006-M", {"BillingCurrency": "Credits"}, 1),
    ("CAU-PricingUnit-C-003-O", {"PricingUnit": "GB_Hours"}, 1),
    ("CAU-ResourceName-C-002-M", {"ResourceName": "  "}, 1),
    ("NullHandling-A-002-M:ResourceName", {"ResourceName": "Not Applicable"}, 1),
    ("CAU-Tags-C-001-M", {"Tags": "team=vision"}, 1),
    ("CAU-Tags-C-001-M", {"Tags": '["vision"]'}, 1),
    ("CAU-Tags-C-001-M", {"Tags": '{"team": {"name": "vision"}}'}, 1),
    ("CAU-Tags-C-001-M", {"Tags": '{"team": "a", "team": "b"}'}, 1),
    ("CAU-Tags-C-006-M", {"Tags": '{"team": null}'}, 1),
    ("CAU-SkuPriceDetails-C-017-C", {"SkuPriceDetails": '{"Tier": "a"}'}, 1),
    ("CAU-SkuPriceDetails-C-002-O", {"SkuPriceDetails": '{"x_tier": "a"}'}, 1),
    ("CAU-SkuPriceDetails-C-020-M", {"SkuPriceDetails": '{"gpuCount": 8}'}, 1),
    ("CAU-SkuPriceDetails-C-021-M", {"SkuPriceDetails": '{"GpuCount": "eight"}'}, 1),
    ("CAU-SkuPriceDetails-C-004-C", {**TAX, "SkuPriceDetails": "{}"}, 1),
    ("CAU-ConsumedQuantity-C-004-C", {**TAX, "ConsumedQuantity": "5", "ConsumedUnit": "Hours"}, 1),
    ("CAU-ResourceType-C-005-C", {"ResourceType": None}, 1),
    ("CAU-HostProviderName-C-006-M", {"HostProviderName": None}, 1),
    ("CAU-BilledCost-C-005-C", {"InvoiceIssuerName": "Reseller"}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "changes", "count"), BREACHES)
def test_a_breach_is_found(rule: str, changes: Changes, count: int) -> None:
    # A good second row keeps columns of a null cell in use, and must not fail.
    found = failing(charge(**changes), charge(ResourceId="i-2"))
    assert found.get(rule) == count


def test_a_correction_may_lack_what_ordinary_usage_needs() -> None:
    row = charge(ChargeClass="Correction", ListUnitPrice=None, PricingQuantity=None, PricingUnit=None,
                 ConsumedQuantity=None, ConsumedUnit=None, ListCost="-3")  # fmt: skip
    found = failing(row, charge())
    assert not found.keys() & {
        "CAU-ListUnitPrice-C-005-C", "CAU-PricingQuantity-C-005-C", "CAU-ConsumedQuantity-C-006-C"
    }  # fmt: skip


def test_null_charge_class_does_not_silence_a_rule() -> None:
    """`ChargeClass <> 'Correction'` is null for ordinary rows, so rules written so never fire."""
    assert failing(charge(ListCost="1"))["CAU-ListCost-C-009-C"] == 1


def test_rounded_products_pass() -> None:
    row = charge(ListUnitPrice="0.333333333333", PricingQuantity="3", ListCost="1", ContractedUnitPrice=None)
    assert "CAU-ListCost-C-009-C" not in failing(row)


def test_keys_across_rows() -> None:
    other = charge(
        ServiceCategory="Storage", ServiceSubcategory="Block Storage", SkuId="SKU-2", SkuMeter="Disk"
    )
    found = failing(charge(), other)
    assert found["CAU-ServiceName-C-005-C"] == 2
    assert found["CAU-ServiceName-C-008-C"] == 2
    assert found["CAU-SkuPriceId-C-008-M"] == 2
    same_sku = charge(SkuMeter="Disk")
    assert failing(charge(), same_sku, charge(SkuId="SKU-9", SkuPriceId="P9"))["CAU-SkuMeter-C-006-O"] == 2


COMMITTED: Changes = {
    "CommitmentDiscountId": "sp-1", "CommitmentDiscountStatus": "Used", "CommitmentDiscountCategory": "Spend",
    "CommitmentDiscountType": "Savings Plan", "CommitmentDiscountName": "plan", "CommitmentDiscountQuantity": "12.5",
    "CommitmentDiscountUnit": "USD", "PricingCategory": "Committed", "BilledCost": "0",
}  # fmt: skip
PURCHASE: Changes = {
    **COMMITTED, "CommitmentDiscountStatus": None, "ChargeCategory": "Purchase", "ChargeFrequency": "Recurring",
    "BilledCost": "12.5", "EffectiveCost": "0", "ConsumedQuantity": None, "ConsumedUnit": None, "ResourceId": "sp-1",
    "PricingCategory": "Standard",
}  # fmt: skip


def test_commitment_sums() -> None:
    assert failing(charge(**COMMITTED), charge(**PURCHASE)) == {}
    wasted = charge(**{**PURCHASE, "BilledCost": "20"})
    assert failing(charge(**COMMITTED), wasted) == {"CAU-EffectiveCost-C-012-C": 2}
    stray = charge(**{**COMMITTED, "CommitmentDiscountStatus": None})
    found = failing(stray, charge(**PURCHASE))
    assert found["CAU-CommitmentDiscountStatus-C-004-C"] == 1
    assert found["CAU-EffectiveCost-C-013-C"] == 1


def test_commitment_rules_that_the_official_model_has_wrong() -> None:
    assert "CAU-CommitmentDiscountStatus-C-005-M" not in failing(charge(**COMMITTED), charge(**PURCHASE))
    expired = failing(charge(**{**COMMITTED, "CommitmentDiscountStatus": "Expired"}), charge(**PURCHASE))
    assert expired["CAU-CommitmentDiscountStatus-C-005-M"] == 1
    two_units = charge(**{**COMMITTED, "CommitmentDiscountUnit": "Hours", "ResourceId": "i-2"})
    found = failing(charge(**COMMITTED), two_units, charge(**{**PURCHASE, "BilledCost": "25"}))
    assert found == {"CAU-CommitmentDiscountUnit-C-008-M": 3}


def split(ratio: str, pod: str | None, **changes: str | None) -> dict[str, str | None]:
    return charge(
        AllocatedMethodId="gpu-seconds",
        AllocatedMethodDetails=f'{{"Elements": [{{"AllocatedRatio": {ratio}, "UsageUnit": "Hours"}}]}}',
        AllocatedResourceId=pod,
        AllocatedResourceName=pod,
        AllocatedTags=None if pod is None else '{"job": "train"}',
        **changes,
    )


def test_split_costs() -> None:
    assert failing(split("0.25", "pod-1"), split("0.5", "pod-2"), split("0.25", None)) == {}
    assert failing(split("0.25", "pod-1"), split("0.5", "pod-2")) == {
        "CAU-AllocatedMethodDetailsObject-O-014-M": 2
    }
    # With a key the rows need not look alike, and no longer pass for one split.
    keyed = [split("1", "pod-1", x_OriginChargeId="a"), split("1", "pod-2", x_OriginChargeId="b")]
    assert failing(*keyed) == {}
    orphan = charge(AllocatedMethodId=None, AllocatedMethodDetails=None, AllocatedResourceId="pod",
                    AllocatedResourceName="pod", AllocatedTags="{}")  # fmt: skip
    found = failing(orphan, split("1", "pod-1"))
    assert found["CAU-AllocatedResourceId-C-004-C"] == 1
    assert found["CAU-AllocatedTags-C-003-C"] == 1
    assert failing(split("1", "pod", Tags='{"job": "train"}')) == {"CAU-AllocatedTags-C-006-M": 1}
    slash = split("1", "pod", Tags='{"app.io/name": "x"}') | {"AllocatedTags": '{"app.io/name": "x"}'}
    assert failing(slash) == {"CAU-AllocatedTags-C-006-M": 1}


DETAILS: list[tuple[str, str]] = [
    ("CAU-AllocatedMethodDetails-C-003-M", "0.5"),
    ("CAU-AllocatedMethodDetailsObject-O-001-M", '{"Elements": {}}'),
    ("CAU-AllocatedMethodDetailsObject-O-002-M", '{"Elements": [1]}'),
    ("CAU-AllocatedMethodDetailsObject-O-003-M", '{"Elements": [{"AllocatedRatio": 1, "x_A": [1]}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-005-M", '{"Elements": [{"allocatedRatio": 1}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-009-C", '{"Elements": [{"AllocatedRatio": 1, "Basis": "cpu"}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-012-M", '{"Elements": [{"UsageUnit": "Hours"}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-013-M", '{"Elements": [{"AllocatedRatio": "1"}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-016-C", '{"Elements": [{"AllocatedRatio": 1, "UsageQuantity": 5}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-018-O", '{"Elements": [{"AllocatedRatio": 1, "UsageUnit": "h*"}]}'),
    ("CAU-AllocatedMethodDetailsObject-O-021-M",
     '{"Elements": [{"AllocatedRatio": 1, "UsageUnit": "Hours", "UsageQuantity": "5"}]}'),
    ("OWN-CAU-AllocatedRatio-RANGE", '{"Elements": [{"AllocatedRatio": 1.5}, {"AllocatedRatio": -0.5}]}'),
    ("JsonObjectFormat-A-003-M:AllocatedMethodDetails", '{"Elements": [{"AllocatedRatio": 1}], "Elements": []}'),
    ("JsonObjectFormat-A-006-M:AllocatedMethodDetails", '{"Elements": [{"AllocatedRatio": 1}, 1]}'),
    ("JsonObjectFormat-A-007-M:AllocatedMethodDetails",
     '{"Elements": [{"AllocatedRatio": 0.5}, {"AllocatedRatio": 0.5}]}'),
    ("JsonObjectFormat-A-008-M:AllocatedMethodDetails", '{"Elements": [null]}'),
    ("JsonObjectFormat-A-011-O:AllocatedMethodDetails", '{"Elements": [{"AllocatedRatio": 1, "x_A": {"b": 1}}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "details"), DETAILS)
def test_details_of_a_split(rule: str, details: str) -> None:
    assert failing(split("1", "pod") | {"AllocatedMethodDetails": details})[rule] == 1


def applied(*elements: str) -> str:
    return f'{{"Elements": [{", ".join(elements)}]}}'


GOOD = '{"ContractId": "contract-1", "ContractCommitmentId": "term-1", "ContractCommitmentAppliedCost": 5}'
APPLIED: list[tuple[str, str]] = [
    ("CAU-ContractApplied-C-001-M", "term-1"),
    ("CAU-ContractAppliedObject-O-001-M", '{"Terms": []}'),
    ("CAU-ContractAppliedObject-O-003-M", applied('"term-1"')),
    ("CAU-ContractAppliedObject-O-006-O", applied(GOOD.replace("}", ', "x_note": 1}'))),
    ("CAU-ContractAppliedObject-O-007-M", applied(GOOD)),
    ("CAU-ContractAppliedObject-O-010-M", applied(GOOD.replace("}", ', "Note": 1}'))),
    ("CAU-ContractAppliedObject-O-014-M", applied(GOOD.replace("ContractId", "contractId"))),
    ("CAU-ContractAppliedObject-O-019-C", applied('{"ContractCommitmentId": "t", "ContractCommitmentAppliedCost": 5}')),
    ("CAU-ContractAppliedObject-O-020-M", applied(GOOD.replace('"contract-1"', "1"))),
    ("CAU-ContractAppliedObject-O-021-M", applied(GOOD.replace("contract-1", " "))),
    ("CAU-ContractAppliedObject-O-043-M", applied(GOOD.replace("5", '"5"'))),
    ("CAU-ContractAppliedObject-O-046-C", applied(GOOD.replace("5", "null"))),
    ("CAU-ContractAppliedObject-O-065-C", applied(GOOD.replace("}", ', "ContractCommitmentAppliedUnit": "GB"}'))),
    ("CAU-ContractAppliedObject-O-066-C", applied(GOOD.replace("}", ', "ContractCommitmentAppliedQuantity": 2}'))),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "content"), APPLIED)
def test_contracts_applied(rule: str, content: str) -> None:
    assert failing(charge(ContractApplied=content))[rule] == 1


def test_contract_keys_are_read_in_both_spellings() -> None:
    old = GOOD.replace("ContractId", "ContractID").replace("ContractCommitmentId", "ContractCommitmentID")
    assert set(failing(charge(ContractApplied=applied(old)))) == {"CAU-ContractAppliedObject-O-007-M"}


def test_contracts_across_rows() -> None:
    other = GOOD.replace("contract-1", "contract-2")
    found = failing(charge(ContractApplied=applied(GOOD)), charge(ContractApplied=applied(other)))
    assert found["CAU-ContractAppliedObject-O-038-M"] == 2
    purchase = charge(**{**PURCHASE, "ContractApplied": applied(GOOD)})
    assert failing(purchase)["CAU-ContractAppliedObject-O-039-C"] == 1


def test_one_of_cost_and_quantity_in_1_4() -> None:
    both = GOOD.replace(
        "}", ', "ContractCommitmentAppliedQuantity": 2, "ContractCommitmentAppliedUnit": "GB"}'
    )
    row = without(charge(ContractApplied=applied(both)), "ProviderName", "PublisherName")
    assert failing(row, version="1.4") == {"OWN-CAU-ContractApplied-ONE": 1}
    assert failing(row | {"ContractApplied": applied(GOOD)}, version="1.4") == {}


def test_charges_refer_to_known_commitments() -> None:
    row = text_rows(charge(ContractApplied=applied(GOOD)))
    known, unknown = text_rows(COMMITMENT), text_rows({**COMMITMENT, "ContractCommitmentId": "term-2"})
    assert "OWN-CAU-ContractApplied-REF" not in failed(check(row, commitments=known))
    assert failed(check(row, commitments=unknown))["OWN-CAU-ContractApplied-REF"] == 1


COMMITMENT_BREACHES: list[tuple[str, Changes]] = [
    ("CCT-ContractCommitmentCost-C-004-C", {"ContractCommitmentCost": None}),
    ("CCT-ContractCommitmentQuantity-C-004-C", {"ContractCommitmentCategory": "Usage"}),
    ("CCT-ContractCommitmentUnit-C-005-C", {"ContractCommitmentUnit": "Hours"}),
    ("CCT-ContractCommitmentCategory-C-003-M", {"ContractCommitmentCategory": "Other"}),
    ("CCT-BillingCurrency-C-004-C", {"BillingCurrency": None}),
    ("CCT-ContractPeriodEnd-C-002-M", {"ContractPeriodEnd": "2027-01-01"}),
    ("OWN-CCT-ContractPeriod-ORDER", {"ContractPeriodEnd": "2025-01-01T00:00:00Z"}),
]


@pytest.mark.parametrize(("rule", "changes"), COMMITMENT_BREACHES)
def test_commitment_terms(rule: str, changes: Changes) -> None:
    second = {**COMMITMENT, "ContractCommitmentId": "term-2"}
    assert failing({**COMMITMENT, **changes}, second, dataset="ContractCommitment")[rule] == 1


def test_commitment_ids_are_unique() -> None:
    assert failing(COMMITMENT, dataset="ContractCommitment") == {}
    other = {**COMMITMENT, "ContractId": "contract-2"}
    found = failing(COMMITMENT, other, dataset="ContractCommitment")
    assert found == {"CCT-ContractCommitmentId-C-007-M": 2, "CCT-ContractCommitmentId-C-009-M": 2}


def test_columns_themselves() -> None:
    assert failing(without(charge(), "ListCost"))["CAU-CostAndUsage-D-032-M"] == 1
    assert failing({**charge(), "Id": "1"}) == {"ColumnHandling-A-010-M": 1}
    assert failing({**charge(), "x_row": "1"}) == {"ColumnHandling-A-011-O": 1}
    assert failing({"x_Row": "1", **charge()})["ColumnHandling-A-012-O"] > 1
    assert failing({**charge(), "_row": "1", "filename": "a.csv"}) == {}
    spelled = {("billedcost" if name == "BilledCost" else name): value for name, value in charge().items()}
    assert failing(spelled) == {"CAU-CostAndUsage-D-006-M": 1}


def test_removed_columns_are_no_columns_of_1_4() -> None:
    found = failing(charge(), version="1.4")
    assert found.keys() == {"ColumnHandling-A-010-M", "ColumnHandling-A-012-O"}
    assert found["ColumnHandling-A-010-M"] == 2


def test_tax_at_effective_cost_binds_in_1_4_only() -> None:
    tax = without(charge(**TAX, EffectiveCost="9"), "ProviderName", "PublisherName")
    assert failing(tax, version="1.4") == {"OWN-CAU-EffectiveCost-TAX": 1}
    assert failing(charge(**TAX, EffectiveCost="9")) == {}


def test_types_of_typed_columns() -> None:
    good = typed(charge(), BilledCost="12.5::DECIMAL(32,18)", ListCost="15::DOUBLE", Tags="MAP {'team': 'vision'}",
                 ChargePeriodStart="TIMESTAMPTZ '2026-10-01 00:00:00+00'")  # fmt: skip
    assert failed(check(good)) == {}
    bad = typed(charge(), BillingAccountId="12::BIGINT", ChargePeriodStart="DATE '2026-10-01'",
                BilledCost="TIMESTAMP '2026-10-01'", EffectiveCost="'NaN'::DOUBLE")  # fmt: skip
    found = failed(check(bad))
    assert {"CAU-BillingAccountId-C-002-M", "CAU-ChargePeriodStart-C-001-M", "CAU-BilledCost-C-001-M",
            "CAU-EffectiveCost-C-004-M", "CAU-EffectiveCost-C-002-M"} <= found.keys()  # fmt: skip
