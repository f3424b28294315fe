"""What each kind of commitment covers, and what its provider lets you do with one that stays idle.

The page beside each fact is the vendor's own on it (November 2026); a contract of yours may say otherwise.
"""

from dataclasses import dataclass
from typing import Final

_AWS: Final = "https://docs.aws.amazon.com"
_AZURE: Final = "https://learn.microsoft.com/azure/cost-management-billing"
_GOOGLE: Final = "https://cloud.google.com"


@dataclass(frozen=True, slots=True)
class Way:
    """Something to do with an idle commitment: `possible` None where only the vendor's people can say."""

    possible: bool | None
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What usage must have in common with a commitment to be covered by it.

    `automatic`: the provider applies it by the hour, without the workload being moved, wherever the rest fits.
    """

    key: str
    title: str
    family: bool = True
    region: bool = True
    zone: bool = False
    size: bool = False
    machine: bool = False
    automatic: bool = True
    whole: bool = False
    share: Way | None = None
    exchange: Way | None = None
    resell: Way | None = None
    lapse: Way | None = None

    def ways(self) -> tuple[tuple[str, Way], ...]:
        """Return what there is to do beside moving work, in the order in which to try it."""
        steps = (
            ("share", self.share),
            ("exchange", self.exchange),
            ("resell", self.resell),
            ("lapse", self.lapse),
        )
        return tuple((name, way) for name, way in steps if way is not None)


def _yes(text: str, source: str) -> Way:
    return Way(possible=True, text=text, source=source)


def _no(text: str, source: str) -> Way:
    return Way(possible=False, text=text, source=source)


_AWS_SHARE: Final = _yes(
    "Turn on discount sharing for both accounts: Billing and Cost Management > Billing preferences > RI and Savings Plans discount sharing (management account).",
    f"{_AWS}/awsaccountbilling/latest/aboutv2/ri-turn-off.html",
)
_PLAN_RETURN: Final = _no(
    "A savings plan can't be exchanged. One of at most 100 USD an hour can be returned within 7 days in the same calendar month: aws savingsplans return-savings-plan.",
    f"{_AWS}/savingsplans/latest/userguide/return-sp.html",
)
_PLAN_RESELL: Final = _no(
    "Savings plans can't be sold.", f"{_AWS}/savingsplans/latest/userguide/sp-purchase.html"
)
_PLAN_LAPSE: Final = _yes(
    "It ends by itself; don't queue a renewal, and buy less, at the quantile that `commitments plan` names.",
    f"{_AWS}/savingsplans/latest/userguide/sp-purchase.html",
)
_RI_LAPSE: Final = _yes(
    "Reserved instances don't renew by themselves.",
    f"{_AWS}/AWSEC2/latest/UserGuide/ec2-reserved-instances.html",
)
_RI_SELL: Final = _yes(
    "Standard ones can be listed on the Reserved Instance Marketplace after 30 days, with a month or more left.",
    f"{_AWS}/AWSEC2/latest/UserGuide/ri-market-general.html",
)
_RI_EXCHANGE: Final = _yes(
    "A convertible one can be exchanged for another of the same or higher value, of another family too: aws ec2 get-reserved-instances-exchange-quote.",
    f"{_AWS}/AWSEC2/latest/APIReference/API_AcceptReservedInstancesExchangeQuote.html",
)
_AZURE_EXCHANGE: Final = _yes(
    "Exchange it within its product family, another region or series too; what is bought must be worth at least what is left.",
    f"{_AZURE}/reservations/exchange-and-refund-azure-reservations",
)
_AZURE_REFUND: Final = _yes(
    "It can't be sold, but cancelled for a refund of at most 50,000 USD within twelve months and a billing scope.",
    f"{_AZURE}/reservations/exchange-and-refund-azure-reservations",
)
_AZURE_SCOPE: Final = _yes(
    "Set its scope to shared or to a management group: Update-AzReservation -OrderId ORDER -Id RESERVATION -AppliedScopeType Shared.",
    f"{_AZURE}/reservations/manage-reserved-vm-instance",
)
_GOOGLE_FIXED: Final = _no(
    "A committed use discount can't be cancelled; resource-based ones can be merged and split.",
    f"{_GOOGLE}/compute/docs/instances/signing-up-committed-use-discounts",
)
_CONTRACT: Final = Way(None, "Ask the provider: it is a contract of its own.", "")

TERMS: Final = {
    terms.key: terms
    for terms in (
        Terms(
            "aws-compute-savings-plan", "AWS Compute Savings Plan", family=False, region=False,
            share=_AWS_SHARE, exchange=_PLAN_RETURN, resell=_PLAN_RESELL, lapse=_PLAN_LAPSE,
        ),
        Terms(
            "aws-ec2-savings-plan", "AWS EC2 Instance Savings Plan",
            share=_AWS_SHARE, exchange=_PLAN_RETURN, resell=_PLAN_RESELL, lapse=_PLAN_LAPSE,
        ),
        Terms(
            "aws-sagemaker-savings-plan", "AWS SageMaker Savings Plan", family=False, region=False,
            share=_AWS_SHARE, exchange=_PLAN_RETURN, resell=_PLAN_RESELL, lapse=_PLAN_LAPSE,
        ),
        Terms(
            "aws-flexible-reservation", "AWS Reserved Instance (regional, any size of its family)", machine=True,
            share=_AWS_SHARE, exchange=_RI_EXCHANGE, resell=_RI_SELL, lapse=_RI_LAPSE,
        ),
        Terms(
            "aws-reservation", "AWS Reserved Instance (one size)", size=True, machine=True,
            share=_AWS_SHARE, exchange=_RI_EXCHANGE, resell=_RI_SELL, lapse=_RI_LAPSE,
        ),
        Terms(
            "aws-capacity-reservation", "AWS On-Demand Capacity Reservation", zone=True, size=True, machine=True,
            automatic=False, whole=True,
            share=_yes("Share it with the account: aws ram create-resource-share --resource-arns ARN --principals ACCOUNT.",
                f"{_AWS}/AWSEC2/latest/UserGuide/capacity-reservation-sharing.html",
            ),
            exchange=_no("There is nothing to exchange.", f"{_AWS}/AWSEC2/latest/UserGuide/capacity-reservations-using.html"),
            resell=_no("It can't be sold.", f"{_AWS}/AWSEC2/latest/UserGuide/capacity-reservations-using.html"),
            lapse=_yes("Cancel it, or lower its count: aws ec2 cancel-capacity-reservation --capacity-reservation-id ID. A future-dated one keeps its commitment duration.",
                f"{_AWS}/AWSEC2/latest/UserGuide/capacity-reservations-release.html",
            ),
        ),
        Terms(
            "aws-capacity-block", "AWS Capacity Block for ML", zone=True, size=True, machine=True, automatic=False, whole=True,
            share=_yes("Share it within the organization through AWS Resource Access Manager (not UltraServers).",
                f"{_AWS}/AWSEC2/latest/UserGuide/capacity-blocks-share.html",
            ),
            exchange=_no("It can't be changed.", f"{_AWS}/AWSEC2/latest/UserGuide/ec2-capacity-blocks.html"),
            resell=_no("It can't be sold.", f"{_AWS}/AWSEC2/latest/UserGuide/ec2-capacity-blocks.html"),
            lapse=_no("It can't be cancelled; it ends at its time.", f"{_AWS}/AWSEC2/latest/UserGuide/ec2-capacity-blocks.html"),
        ),
        Terms(
            "azure-capacity-reservation", "Azure capacity reservation", zone=True, size=True, machine=True, automatic=False, whole=True,
            lapse=_yes(
                "Delete it once no machine is associated with it: Remove-AzCapacityReservation.",
                "https://learn.microsoft.com/rest/api/compute/capacity-reservations/delete",
            ),
        ),
        Terms(
            "google-reservation", "Google reservation", zone=True, size=True, machine=True, automatic=False, whole=True,
            lapse=_yes(
                "Delete it, unless it is attached to a commitment: gcloud compute reservations delete NAME.",
                f"{_GOOGLE}/compute/docs/instances/reservations-delete",
            ),
        ),
        Terms(
            "azure-reservation", "Azure Reservation", share=_AZURE_SCOPE, exchange=_AZURE_EXCHANGE, resell=_AZURE_REFUND,
            lapse=_yes("Turn off its automatic renewal.", f"{_AZURE}/reservations/reservation-renew"),
        ),
        Terms(
            "azure-ptu-reservation", "Azure provisioned throughput reservation", family=False, share=_AZURE_SCOPE,
            exchange=_no("Reservations for Global, Data Zone and Regional deployments aren't interchangeable; deploy another model on the same units.",
                f"{_AZURE}/reservations/azure-openai",
            ),
            resell=_AZURE_REFUND,
            lapse=_yes("Turn off its automatic renewal; terms are a month or a year.", f"{_AZURE}/reservations/azure-openai"),
        ),
        Terms(
            "azure-savings-plan", "Azure savings plan for compute", family=False, region=False,
            share=_yes("Set its scope to shared or to a management group.", f"{_AZURE}/savings-plan/manage-savings-plan"),
            exchange=_no("A savings plan can't be exchanged; neither its commitment nor its term can change.",
                f"{_AZURE}/savings-plan/reservation-trade-in",
            ),
            resell=_no("It can't be sold or cancelled.", f"{_AZURE}/savings-plan/manage-savings-plan"),
            lapse=_yes("Turn off its automatic renewal.", f"{_AZURE}/savings-plan/manage-savings-plan"),
        ),
        Terms(
            "google-resource-cud", "Google resource-based committed use discount",
            share=_yes("Turn on sharing of resource-based commitments for the billing account.",
                f"{_GOOGLE}/compute/docs/committed-use-discounts/share-resource-cuds-across-projects",
            ),
            exchange=_GOOGLE_FIXED, resell=_no("It can't be sold.", _GOOGLE_FIXED.source),
            lapse=_yes("Turn off its automatic renewal.", _GOOGLE_FIXED.source),
        ),
        Terms(
            "google-spend-cud", "Google spend-based committed use discount", family=False, region=False,
            share=_yes("It applies to every project that the billing account pays for.", f"{_GOOGLE}/docs/cuds"),
            exchange=_no("It can't be cancelled or exchanged.", f"{_GOOGLE}/docs/cuds"),
            resell=_no("It can't be sold.", f"{_GOOGLE}/docs/cuds"),
            lapse=_yes("Turn off its automatic renewal.", f"{_GOOGLE}/docs/cuds-spend-based"),
        ),
        Terms(
            "provisioned-throughput", "Provisioned throughput", family=False, automatic=False,
            lapse=_yes("Scale the deployment down or delete it: it costs the same used or not (a Bedrock model with a term only at its end).",
                f"{_AZURE.removesuffix('/cost-management-billing')}/ai-foundry/openai/how-to/provisioned-throughput-onboarding",
            ),
        ),
        Terms(
            "contract", "Contract", family=False, region=False, automatic=True,
            share=_CONTRACT, exchange=_CONTRACT, resell=_CONTRACT, lapse=_CONTRACT,
        ),
        Terms("other", "Commitment", share=_CONTRACT, exchange=_CONTRACT, resell=_CONTRACT, lapse=_CONTRACT),
    )
}  # fmt: skip


def terms_of(kind: str, provider: str | None, category: str | None, words: str, *, flexible: bool) -> Terms:
    """Return the terms of a commitment by its kind on the bill, and the words of its type, offering and meters.

    `flexible` says that the bill counts it in normalised hours, which AWS does where any size of the family fits.
    """
    text, seller = words.casefold(), (provider or "").casefold()
    spend = category == "Spend"
    if kind in _OF_KIND:
        return TERMS[_OF_KIND[kind]]
    if kind == "capacity":
        return TERMS[_capacity(seller, text)]
    if "aws" in seller or "amazon" in seller:
        key = "aws-flexible-reservation" if flexible else "aws-reservation"
        if spend:
            word = next((word for word in ("sagemaker", "ec2") if word in text), "compute")
            key = f"aws-{word}-savings-plan"
    elif "microsoft" in seller or "azure" in seller:
        key = "azure-ptu-reservation" if "provisioned" in text else "azure-reservation"
        key = "azure-savings-plan" if spend else key
    elif "google" in seller:
        key = "google-spend-cud" if spend else "google-resource-cud"
    else:
        key = "other"
    return TERMS[key]


_OF_KIND: Final = {
    "throughput": "provisioned-throughput",
    "contract": "contract",
}


def _capacity(seller: str, text: str) -> str:
    if "microsoft" in seller or "azure" in seller:
        return "azure-capacity-reservation"
    if "google" in seller:
        return "google-reservation"
    return "aws-capacity-block" if "capacityblock" in text.replace(" ", "") else "aws-capacity-reservation"
