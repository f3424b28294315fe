"""The HTTP application: routes at the root and below /model, errors as JSON, an optional bearer token.

Everything is read only, but for the OTLP receiver where a folder for it is given. Requests run in worker threads, each with a cursor of the snapshot's connection.
"""

import hmac
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware

from gpuledger import __version__
from gpuledger.core.opencost import requests
from gpuledger.pipeline.ledger import Ledger
from gpuledger.surfaces.api import allocation, assets, clouds, custom, otlp, suggestions
from gpuledger.surfaces.api.answers import failure, of_error, parameters, success
from gpuledger.surfaces.api.metrics import CONTENT_TYPE, Counters, exposition
from gpuledger.surfaces.api.snapshot import Snapshots

_log = logging.getLogger("gpuledger.api")
_OPEN = frozenset({"/healthz", "/model/healthz"})  # answered without a token: probes have none
Clock = Callable[[], datetime]
Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the API is served. `hosts` None accepts any Host header; `token` None asks for none; `otlp` receives usage."""

    cors: tuple[str, ...] = ()
    token: str | None = None
    hosts: tuple[str, ...] | None = None
    otlp: Path | None = None


def now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


def create_app(ledger: Ledger, settings: Settings | None = None, clock: Clock = now) -> FastAPI:
    """Return the application over a ledger."""
    settings = settings or Settings()
    app = FastAPI(
        title="gpuledger", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json"
    )
    counters = Counters()
    routes = _routes(Snapshots(ledger), clock, counters)
    app.include_router(routes)
    app.include_router(routes, prefix="/model")
    if settings.otlp is not None:
        app.include_router(otlp.routes(settings.otlp, clock))
    app.add_exception_handler(StarletteHTTPException, _http_error)
    _watch(app, counters)
    _guard(app, settings)
    return app


def _guard(app: FastAPI, settings: Settings) -> None:
    if settings.token is not None:
        expected = f"Bearer {settings.token}".encode()

        @app.middleware("http")
        async def authorised(request: Request, handle: Handler) -> Response:
            given = request.headers.get("authorization", "").encode("latin-1", "replace")
            asks = request.method == "OPTIONS" or request.url.path in _OPEN
            if not asks and not hmac.compare_digest(given, expected):
                return failure(
                    401, "a bearer token is required", hint="Send the header Authorization: Bearer TOKEN."
                )
            return await handle(request)

    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET"],
            allow_headers=["authorization"],
        )
    if settings.hosts is not None:
        _only_for(app, settings.hosts)


def _only_for(app: FastAPI, hosts: tuple[str, ...]) -> None:
    @app.middleware("http")
    async def addressed(request: Request, handle: Handler) -> Response:
        given = request.headers.get("host", "")
        name = given.rpartition(":")[0] if given.rpartition(":")[2].isdigit() else given
        if name.lower() not in hosts:
            return failure(
                403, "this server answers to the names of this machine only", hint=f"Use {hosts[0]}."
            )
        return await handle(request)


def _watch(app: FastAPI, counters: Counters) -> None:
    @app.middleware("http")
    async def counted(request: Request, handle: Handler) -> Response:
        try:
            answer = await handle(request)
        except Exception as error:  # noqa: BLE001  # clients get JSON whatever happened; the log has the rest
            answer = of_error(error)
            if answer.status_code >= 500:  # noqa: PLR2004  # HTTP
                _log.exception("%s failed", request.url.path)
        route = request.scope.get("route")
        counters.add(getattr(route, "path", "other"), answer.status_code)
        return answer


async def _http_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, StarletteHTTPException | HTTPException)  # noqa: S101  # what it is registered for
    hint = "docs/opencost-api.md lists the routes." if error.status_code == 404 else None  # noqa: PLR2004  # HTTP
    return failure(error.status_code, str(error.detail), hint=hint)


def _routes(snapshots: Snapshots, clock: Clock, counters: Counters) -> APIRouter:
    routes = APIRouter()
    _allocations(routes, snapshots, clock)
    _assets(routes, snapshots, clock)
    _clouds(routes, snapshots, clock)
    _customs(routes, snapshots, clock)
    _about(routes, snapshots)

    @routes.get("/metrics")
    def metrics() -> Response:
        snapshot = snapshots.current()
        with snapshots.cursor() as con:
            text = exposition(con, snapshot, snapshots.ledger, clock(), counters)
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    return routes


def _allocations(routes: APIRouter, snapshots: Snapshots, clock: Clock) -> None:
    def compute(request: Request) -> Response:
        given = parameters(request)
        wanted = requests.allocation(given, clock())
        with snapshots.cursor(wanted.span) as con:
            found = allocation.answer(con, wanted)
        return success(found, requests.not_understood(given, requests.ALLOCATION))

    def summary(request: Request) -> Response:
        given = parameters(request)
        wanted = requests.allocation(given, clock())
        with snapshots.cursor(wanted.span) as con:
            found = allocation.answer(con, wanted)
        return success(
            allocation.summaries(found, wanted), requests.not_understood(given, requests.ALLOCATION)
        )

    def autocomplete(request: Request) -> Response:
        given = parameters(request)
        with snapshots.cursor(suggestions.window(given, clock())) as con:
            return success(suggestions.allocation(con, given, clock()))

    for path in ("/allocation", "/allocation/compute"):
        routes.get(path)(compute)
        routes.get(f"{path}/summary")(summary)
    routes.get("/allocation/autocomplete")(autocomplete)


def _assets(routes: APIRouter, snapshots: Snapshots, clock: Clock) -> None:
    @routes.get("/assets")
    def all_assets(request: Request) -> Response:
        given = parameters(request)
        wanted = assets.parse(given, clock())
        with snapshots.cursor(wanted.span) as con:
            return success(assets.answer(con, wanted), requests.not_understood(given, assets.KNOWN))

    @routes.get("/assets/autocomplete")
    def autocomplete(request: Request) -> Response:
        given = parameters(request)
        with snapshots.cursor(suggestions.window(given, clock())) as con:
            return success(suggestions.asset(con, given, clock()))


def _clouds(routes: APIRouter, snapshots: Snapshots, clock: Clock) -> None:
    def wanted(request: Request) -> tuple[clouds.Request, str | None]:
        given = parameters(request)
        return clouds.parse(given, clock()), requests.not_understood(given, clouds.KNOWN)

    @routes.get("/cloudCost")
    def sets(request: Request) -> Response:
        asked, warning = wanted(request)
        with snapshots.cursor() as con:
            return success(clouds.answer(con, asked), warning)

    @routes.get("/cloudCost/view/graph")
    def graph(request: Request) -> Response:
        asked, warning = wanted(request)
        with snapshots.cursor() as con:
            return success(clouds.graph(con, asked), warning)

    @routes.get("/cloudCost/view/totals")
    def totals(request: Request) -> Response:
        asked, warning = wanted(request)
        with snapshots.cursor() as con:
            return success(clouds.totals(con, asked), warning)

    @routes.get("/cloudCost/view/table")
    def table(request: Request) -> Response:
        asked, warning = wanted(request)
        with snapshots.cursor() as con:
            rows = clouds.table(con, asked)
        if request.query_params.get("format", "").startswith("csv"):
            return PlainTextResponse(clouds.as_csv(rows, asked.span), media_type="text/csv")
        return success(rows, warning)

    @routes.get("/cloudCost/autocomplete")
    def autocomplete(request: Request) -> Response:
        with snapshots.cursor() as con:
            return success(suggestions.cloud(con, parameters(request), clock()))

    @routes.get("/cloudCost/status")
    def status() -> Response:
        return success(clouds.status(snapshots.ledger.units()))


def _customs(routes: APIRouter, snapshots: Snapshots, clock: Clock) -> None:
    @routes.get("/customCost/total")
    def total(request: Request) -> Response:
        given = parameters(request)
        asked = custom.parse(given, clock())
        with snapshots.cursor() as con:
            return success(custom.total_of(con, asked), requests.not_understood(given, custom.KNOWN))

    @routes.get("/customCost/timeseries")
    def timeseries(request: Request) -> Response:
        given = parameters(request)
        asked = custom.parse(given, clock())
        with snapshots.cursor() as con:
            return success(custom.timeseries(con, asked), requests.not_understood(given, custom.KNOWN))


def _about(routes: APIRouter, snapshots: Snapshots) -> None:
    @routes.get("/healthz")
    def healthy() -> Response:
        snapshots.versions()
        return success("ok")

    def clusters() -> list[str]:
        with snapshots.cursor() as con:
            rows = con.execute(
                "SELECT DISTINCT cluster FROM node_interval UNION SELECT DISTINCT cluster FROM jobs ORDER BY 1"
            ).fetchall()
        return [row[0] for row in rows if row[0]]

    def info(name: str) -> Mapping[str, str]:
        return {"id": name, "name": name, "provider": "", "provisioner": "gpuledger", "version": __version__}

    @routes.get("/clusterInfo")
    def cluster_info() -> Response:
        found = clusters()
        return success({**info(found[0] if found else "default"), "clusters": found})

    @routes.get("/clusterInfoMap")
    def cluster_info_map() -> Response:
        return success({name: info(name) for name in clusters()})

    @routes.get("/installInfo")
    def install_info() -> Response:
        return success(
            {
                "version": __version__,
                "containers": [],
                "clusterInfo": {"nodeCount": None, "podCount": None},
            }
        )

    @routes.get("/getConfigs")
    def configs() -> Response:
        with snapshots.cursor() as con:
            row = con.execute(
                "SELECT mode(BillingCurrency) FROM cost_and_usage WHERE BillingCurrency IS NOT NULL"
            ).fetchone()
        return success({"currencyCode": (row[0] if row else None) or ""})
