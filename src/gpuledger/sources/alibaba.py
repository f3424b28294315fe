"""Alibaba Cloud bills: billing item details and split items from an OSS bill subscription or a console export.

Three forms are read, in English and Chinese: the classic detail file (help page "Detailed file format": BillingCycle,
PretaxGrossAmount, PretaxAmount …), the console's export of it, and the upgraded bill ("Fields in upgraded bills", headers
such as BillingDetails/BillingMonth or 账单信息/账单月份). Files come as `UID_BillingItemDetail_YYYYMMDD` (daily),
`…_YYYYMM` (whole month, on the 4th), `…Monthly_YYYYMM` (rewritten daily), `UID_SplitItemDetailDaily_YYYYMM` (split items).

The same charges come in several of these files. Of each month the first of these is read and the others are left out and
told: whole month, daily files, monthly summary, instance details, split items. So split rows are never added to their
parents; alone, they become FOCUS rows with Allocated* columns. A daily file's late lines of a month whose whole file is
there are left out too.

ListCost is the gross amount, ContractedCost that less discounts, BilledCost what is payable (coupons off, vouchers not:
those are a means of payment); tax, where stated apart, is a charge of its own. Times are Beijing time; a billing period is
the bill's month, its bounds given as that month in UTC.

Missing: the bill has no amortisation. A subscription, reserved instance or savings plan costs its price in the month it is
paid (EffectiveCost = BilledCost), and usage that one covers costs what is left to pay. Alibaba's "cost details", which
amortise, "cannot be used for reconciliation" and aren't read. Negotiated unit prices and invoice ids are not in the files.
"""

import re
from collections import defaultdict

from gpuledger.core.contracts import Delivery, SourceFile, Tree
from gpuledger.core.deliveries import is_data
from gpuledger.diagnostics import Diagnostic

TYPE = "alibaba"
TITLE = "Alibaba Cloud bill details"
PROVIDER = "Alibaba Cloud"
VERSION = "Alibaba bill details"
# Headers are compared by letters and digits, so brackets are left out here. The upgraded bill's group names
# (BillingDetails/…, 账单信息/…) are spelled out where they were seen, and left off beside.
COLUMNS = {
    "billing_cycle": ("BillingCycle", "BillingDetails/BillingMonth", "BillingMonth", "账期", "账单信息/账单月份", "账单月份"),
    "billing_date": ("BillingDate", "BillingDetails/BillingDate", "账单信息/账单日期", "账单日期", "日期"),
    "split_date": ("SplitBillingDate", "分账日期"),
    "account_id": (
        "AccountID", "BillAccountID", "IdentityDetails/ResourcePurchaseAccountId", "账号ID",
        "身份信息/资源购买账号ID", "资源购买账号ID",
    ),
    "account_name": (
        "AccountName", "BillAccountName", "IdentityDetails/ResourcePurchaseAccount", "账号",
        "身份信息/资源购买账号", "资源购买账号",
    ),
    "owner_id": (
        "OwnerID", "IdentityDetails/ResourceOwnerAccountId", "Owner账号ID", "身份信息/资源归属账号ID", "资源归属账号ID",
    ),
    "owner_name": (
        "OwnerAccountName", "OwnerName", "IdentityDetails/ResourceOwnerAccount",
        "IdentityDetails/ResourceOwnerAccountName", "Owner账号", "身份信息/资源归属账号", "资源归属账号",
    ),
    "subscription_type": ("SubscriptionType", "消费类型"),
    "fee_type": ("LineItemType", "BillingDetails/LineItemType", "账单信息/费用类型", "费用类型", "Item", "账单类型"),
    "transaction_type": ("TransactionType", "BillingDetails/TransactionType", "账单信息/交易类型", "交易类型"),
    "billing_type": ("BillingType", "计费方式"),
    "product_code": ("ProductCode", "ProductDetails/ProductCode", "产品Code", "产品信息/产品Code"),
    "product_name": ("ProductName", "ProductDetails/ProductName", "产品", "产品信息/产品名称", "产品名称"),
    "product_detail": ("ProductDetail", "ProductDetails/CommodityName", "产品明细", "产品信息/商品名称", "商品名称"),
    "commodity_code": ("CommodityCode", "ProductDetails/CommodityCode", "产品明细Code", "产品信息/商品Code", "商品Code"),
    "billing_item": (
        "BillingItem", "ProductDetails/BillingItemName", "计费项", "产品信息/计费项名称", "计费项名称",
    ),
    "billing_item_code": ("BillingItemCode", "ProductDetails/BillingItemCode", "产品信息/计费项Code", "计费项Code"),
    "instance_id": ("InstanceID", "ResourceDetails/InstanceId", "实例ID", "资源信息/实例ID出账粒度", "实例ID出账粒度"),
    "native_resource_id": ("ResourceDetails/ResourceId", "资源信息/资源ID", "资源ID"),
    "nick_name": ("NickName", "ResourceDetails/ResourceName", "实例昵称", "实例名称", "资源信息/资源名称", "资源名称"),
    "resource_group": ("ResourceGroup", "ResourceDetails/ResourceGroup", "资源组", "资源信息/资源组"),
    "tag": ("Tag", "ResourceDetails/ResourceTag", "实例标签", "资源信息/资源标签", "资源标签", "标签"),
    "instance_config": ("InstanceConfig", "ResourceDetails/InstanceConfig", "实例配置", "资源信息/实例配置"),
    "instance_spec": ("InstanceSpec", "ResourceDetails/InstanceSpec", "实例规格", "资源信息/实例规格"),
    "region": ("Region", "ResourceDetails/Region", "地域", "资源信息/地域"),
    "region_code": ("RegionCode", "ResourceDetails/RegionCode", "资源信息/地域Code", "地域Code"),
    "zone": ("Zone", "ResourceDetails/Zone", "可用区", "资源信息/可用区"),
    "usage_start": (
        "UsageStartTime", "BillingDetails/ServiceStartTime", "账单开始时间", "开始时间", "账单信息/服务开始时间", "服务开始时间",
    ),
    "usage_end": (
        "UsageEndTime", "BillingDetails/ServiceEndTime", "账单结束时间", "结束时间", "账单信息/服务结束时间", "服务结束时间",
    ),
    "list_price": ("ListPrice", "PricingDetails/ListPrice", "单价", "定价信息/官网目录价", "官网目录价"),
    "list_price_unit": ("ListPriceUnit", "PricingDetails/PriceUnit", "单价单位", "定价信息/价格单位", "价格单位"),
    "usage_amount": ("Usage", "UsageDetails/Usage", "用量", "用量信息/用量"),
    "usage_unit": ("UsageUnit", "UsageDetails/UsageUnit", "用量单位", "用量信息/用量单位"),
    "gross": ("PretaxGrossAmount", "FeeDetails/GrossAmount", "原价", "费用信息/目录总价", "目录总价"),
    "discount": ("InvoiceDiscount", "DiscountDetails/DiscountAmount", "优惠金额", "优惠信息/优惠金额"),
    "coupons": ("DeductedByCoupons", "优惠券抵扣", "优惠券抵扣信息/优惠券抵扣金额", "优惠券抵扣金额"),
    "covered_gross": ("订阅抵扣信息/订阅抵扣目录总价", "订阅抵扣目录总价"),
    "package_quantity": ("DeductedByResourcePackage", "资源包抵扣"),
    "payable": (
        "PretaxAmount", "PayableDetails/TaxExclusivePayableAmount", "TaxExclusivePayableAmount", "应付金额",
        "应付信息/应付金额含税", "应付金额含税",
    ),
    "tax": ("Tax", "税费", "税额"),
    "currency": ("Currency", "PricingDetails/Currency", "币种", "定价信息/定价币种", "定价币种"),
    "record_id": ("RecordID", "标识信息/账单明细ID", "账单明细ID", "订单号/账单号", "LineItemDetails/LineItemId"),
    "order_id": ("OrderId", "LineItemDetails/OrderId", "标识信息/订单号", "订单号"),
    "cost_unit": ("CostUnit", "财务单元"),
    "split_item_id": ("SplitItemID", "分拆项ID", "分账项ID"),
    "split_item_name": ("SplitItemName", "分拆项名称", "分账项名称"),
}  # fmt: skip
REQUIRED = ("billing_cycle", "payable", "product_code|product_name", "currency")
# Whatever else the upgraded bill says about a subscription that covered the line.
PREFIXES = {"deduction": ("订阅抵扣信息/", "SubscriptionDeductionDetails/")}

_NAME = re.compile(
    r"(?P<uid>[^/_]+)_(?:Partner)?(?P<kind>BillingItemDetail|InstanceDetail|SplitItemDetail)(?P<span>Monthly|Daily)?"
    r"_(?P<date>\d{8}|\d{6})(?!\d)[^/]*$"
)
_MONTH_OF_LINE = "left(replace(billing_cycle, '-', ''), 6)"
_WHOLE_MONTHS = (
    "(SELECT list(DISTINCT regexp_extract(_file, 'Detail_([0-9]{6})([^0-9]|$)', 1)) FROM native"
    " WHERE regexp_matches(_file, 'Detail_[0-9]{6}([^0-9]|$)'))"
)
_LATE = f"coalesce(regexp_matches(_file, 'Detail_[0-9]{{8}}([^0-9]|$)') AND list_contains({_WHOLE_MONTHS}, {_MONTH_OF_LINE}), false)"
TOTAL = f"coalesce(sum(money(payable)) FILTER (WHERE NOT {_LATE}), 0) + coalesce(sum(money(tax)) FILTER (WHERE NOT {_LATE}), 0)"


def discover(tree: Tree) -> list[Delivery]:
    """One delivery per account, of one form of its bill per month; files with other names are one delivery."""
    named: dict[str, dict[str, dict[int, list[SourceFile]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    others = []
    for file in tree.files:
        if not is_data(file.path):
            continue
        found = _NAME.search(file.path)
        if found is None:
            others.append(file)
        else:
            rank = _rank(found["kind"], found["span"] or "", len(found["date"]))
            named[found["uid"]][found["date"][:6]][rank].append(file)
    deliveries = [_account(tree, uid, months) for uid, months in sorted(named.items())]
    return [*deliveries, *([Delivery(files=tuple(others))] if others else [])]


def _rank(kind: str, span: str, digits: int) -> int:
    """Order the forms of a month's bill, best first: finest complete one."""
    whole, daily, summary = ("", 6), ("", 8), ("Monthly", 6)
    order = [("BillingItemDetail", *form) for form in (whole, daily, summary)]
    order += [("InstanceDetail", *form) for form in (whole, daily, summary)]
    form = (kind, span, digits)
    return order.index(form) if form in order else len(order)


def _account(tree: Tree, uid: str, months: dict[str, dict[int, list[SourceFile]]]) -> Delivery:
    taken: list[SourceFile] = []
    left: list[SourceFile] = []
    for forms in months.values():
        best = min(forms)
        for rank, files in forms.items():
            (taken if rank == best else left).extend(files)
    told = Diagnostic(
        "other-form-of-the-same-bill", "info", f"{tree.location}: {left[0].path}" if left else tree.location,
        f"{len(left)} file(s) of account {uid} hold the same charges in another form and were not read",
        "Of each month the most complete form is read: whole month, daily files, summary, instances, split items.",
    )  # fmt: skip
    chosen = tuple(sorted(taken, key=lambda file: file.path))
    return Delivery(files=chosen, source=uid, diagnostics=(told,) if left else ())
