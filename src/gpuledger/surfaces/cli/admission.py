"""`gpuledger admission`: the policy as a Kubernetes webhook."""

import contextlib
import logging
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.surfaces.admission.server import Tls
    from gpuledger.surfaces.admission.state import State

_HOSTS = ("gpuledger-admission.gpuledger.svc", "gpuledger-admission.gpuledger", "localhost", "127.0.0.1")


@click.group(name="admission", short_help="Enforce the policy in Kubernetes, before anything is scheduled.")
def command() -> None:
    """Enforce the policy in Kubernetes, before anything is scheduled."""


@command.command(name="serve")
@click.option(
    "--policy", "policy_file", metavar="FILE", help="Default: gpuledger-policy.toml (or .yaml) here."
)
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")  # noqa: S104 - the API server calls from elsewhere
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9443, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--leases", metavar="URL", help="Store of leases: sqlite:///FILE, or postgresql://… for several replicas."
)
@click.option(
    "--leases-env", metavar="NAME", help="Environment variable that holds that URL, with its password."
)
@click.option("--snapshot", metavar="FILE", help="Rates and earlier runs, from `gpuledger policy snapshot`.")
@click.option("--cert", metavar="FILE", help="Certificate (PEM). Without one, our own is made and renewed.")
@click.option("--key", metavar="FILE", help="Its key (PEM).")
@click.option(
    "--cert-dir", default="admission-certs", show_default=True, metavar="DIR", help="Where our own are kept."
)
@click.option(
    "--dns-name",
    "names",
    multiple=True,
    default=_HOSTS,
    show_default=True,
    metavar="NAME",
    help="Name or address that our certificate is for (repeatable).",
)
@click.option("--kube", is_flag=True, help="Ask the cluster for namespaces, whose labels can be defaults.")
@click.option("--cluster", metavar="NAME", help="Name of the cluster, for rules that name clusters.")
@click.option(
    "--log", "log_file", metavar="FILE", help="Decision log, a JSON object a line. Default: standard output."
)
@pass_context
def serve(context: Context, /, **given: Any) -> None:  # noqa: ANN401 - click's options
    """Answer the API server's AdmissionReviews over HTTPS, until stopped.

    /mutate fills in defaults, stamps who asked, tells the price and reserves what budgets grant; /validate only
    decides. Decisions are made from memory; a changed policy is read without a restart, a broken one is not.
    """
    from gpuledger.errors import UsageError
    from gpuledger.pipeline import policy_files
    from gpuledger.surfaces.admission import server
    from gpuledger.surfaces.admission.app import Webhook
    from gpuledger.surfaces.admission.state import State

    del context
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    path = policy_files.find(given["policy_file"])
    if path is None:
        raise UsageError(
            "there is no policy", hint="Give --policy FILE; docs/policy.md has one to begin with."
        )
    if (given["cert"] is None) != (given["key"] is None):
        raise UsageError("--cert and --key belong together", hint="Give both, or neither.")
    state = State(
        path,
        Path(given["snapshot"]) if given["snapshot"] else None,
        given["cluster"],
        _namespaces if given["kube"] else None,
    )
    state.load()
    leases = _leases(given["leases"], given["leases_env"], state)
    with contextlib.ExitStack() as files:
        log_file = given["log_file"]
        stream = (
            files.enter_context(Path(log_file).open("a", encoding="utf-8", buffering=1))
            if log_file
            else sys.stdout
        )
        webhook = Webhook(state, leases, stream)
        server.run(webhook, state, _tls(given), given["host"], given["port"])


def _tls(given: Mapping[str, Any]) -> "Tls":
    from gpuledger.surfaces.admission.server import Tls

    return Tls(
        Path(given["cert"]) if given["cert"] else None,
        Path(given["key"]) if given["key"] else None,
        Path(given["cert_dir"]),
        given["names"],
    )


def _leases(url: str | None, variable: str | None, state: "State") -> Any:  # noqa: ANN401 - Leases, imported where it is used
    import os

    from gpuledger.errors import UsageError

    if variable is not None:
        url = os.environ.get(variable)
        if not url:
            raise UsageError(
                f"the environment has no {variable}", hint="Set it to the URL of the store of leases."
            )
    if url is None and not state.memory.policy.budget:
        return None
    from gpuledger.pipeline.leases import DEFAULT_URL, Leases

    return Leases(url or DEFAULT_URL, grace=timedelta(minutes=state.memory.policy.lease_minutes))


def _namespaces() -> Mapping[str, Mapping[str, Any]]:
    """Ask the cluster for its namespaces."""
    from gpuledger.telemetry.kubernetes import access
    from gpuledger.telemetry.kubernetes.api import Api, Resource

    api = Api(access.find(None, None))
    try:
        found, _ = api.listed(Resource("", "v1", "namespaces", "Namespace", namespaced=False))
        return {str(one["metadata"]["name"]): one for one in found}
    finally:
        api.close()
