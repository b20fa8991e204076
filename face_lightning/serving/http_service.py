"""HTTP application: recommendations, similar entities and words of a run."""

import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from face_lightning import __version__
from face_lightning.errors import FaceError
from face_lightning.recommending.recommender import Description, TopK
from face_lightning.serving.batching import RequestBatcher
from face_lightning.serving.limits import Limits
from face_lightning.serving.live import LiveRecommender, freeze_objects, watch
from face_lightning.serving.messages import (
    DescribeHistoryRequest,
    DescribeRequest,
    Health,
    HistoryRequest,
    Ranking,
    Rankings,
    RecommendRequest,
    Reloaded,
    SimilarRequest,
    WordLists,
    Words,
)

TOKEN = "FACE_SERVE_TOKEN"
_PREFIX = "FACE_SERVE_"
_MOST_RESULTS = 10_000  # of a request that is rendered in the event loop, which takes milliseconds
Index = Literal["exact", "hnsw", "ivf"]


@dataclass(frozen=True)
class Settings:
    """Settings of a server; workers read them from environment variables.

    Attributes:
        run: Folder of a finished run, or a symbolic link to one.
        device: Device to rank on.
        max_bytes: Maximum size of a request body.
        timeout: Timeout in seconds, both to receive a request and to answer it.
        watch_seconds: Seconds between checks for a new run; 0 to never check.
        index: "exact", or the kind of FAISS index that ranks all items.
        recall: Target recall@20 of the index.
        shared: Folder of the cache that worker processes share; empty for none.
    """

    run: str
    device: str = "cpu"
    max_bytes: int = 2**20
    timeout: float = 30.0
    watch_seconds: float = 5.0
    index: Index = "exact"
    recall: float = 0.99
    shared: str = ""

    def to_environment(self) -> None:
        """Pass the settings to worker processes."""
        for name, value in asdict(self).items():
            os.environ[_PREFIX + name.upper()] = str(value)

    @classmethod
    def from_environment(cls) -> "Settings":
        """Settings passed by `to_environment`."""
        values = {name: os.environ[_PREFIX + name.upper()] for name in cls.__dataclass_fields__}
        return cls(
            run=values["run"],
            device=values["device"],
            max_bytes=int(values["max_bytes"]),
            timeout=float(values["timeout"]),
            watch_seconds=float(values["watch_seconds"]),
            index=cast("Index", values["index"]),
            recall=float(values["recall"]),
            shared=values["shared"],
        )


def create_app(settings: Settings | None = None) -> FastAPI:
    """Load the run and build the application.

    Args:
        settings: Settings of the server; read from environment variables if None.

    Raises:
        FaceError: If the run cannot be loaded.
    """
    settings = settings or Settings.from_environment()
    index = None if settings.index == "exact" else settings.index
    shared = Path(settings.shared) if settings.shared else None
    live = LiveRecommender(Path(settings.run), settings.device, index, settings.recall, shared)
    stop = threading.Event()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        del app
        watcher = threading.Thread(target=watch, args=(live, settings.watch_seconds, stop), daemon=True)
        if settings.watch_seconds:
            watcher.start()
        freeze_objects()
        yield
        stop.set()

    app = FastAPI(title="face_lightning", version=__version__, lifespan=lifespan)
    app.state.live = live
    registry = CollectorRegistry()
    Gauge("face_reloads", "Runs loaded since the start.", registry=registry).set_function(lambda: live.num_reloads)
    _add_routes(app, live, is_exact=index is None)
    _add_operations(app, live, registry, settings.index)

    @app.exception_handler(FaceError)
    async def face_error(request: Request, error: FaceError) -> JSONResponse:
        del request
        return _error_response(400, str(error))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        """Name the invalid fields. FastAPI would echo the request, which may be large or contain NaN."""
        del request
        reasons = [f"{'.'.join(map(str, one['loc'][1:])) or 'body'}: {one['msg']}" for one in error.errors()[:5]]
        return _error_response(422, "; ".join(reasons))

    paths = frozenset(str(getattr(route, "path", "")) for route in app.routes)
    app.add_middleware(
        Limits,
        registry=registry,
        paths=paths,
        token=os.environ.get(TOKEN) or None,
        max_bytes=settings.max_bytes,
        timeout=settings.timeout,
    )
    return app


def _add_routes(app: FastAPI, live: LiveRecommender, is_exact: bool) -> None:
    """Add the routes for clients. A request is answered by one Recommender, even if it is replaced meanwhile.

    Args:
        app: Application.
        live: Its Recommender.
        is_exact: Whether all items are ranked exactly; with an index, ranking several queries together gains nothing.
    """
    batcher = RequestBatcher()

    async def rank_together(method: Callable[..., TopK], ids: np.ndarray, **options: Any) -> Response:  # noqa: ANN401
        """Rank by a method of the Recommender for known ids, together with concurrent requests for the same."""
        rank = partial(method, **options)
        if len(ids) * options["k"] > _MOST_RESULTS:
            return await run_in_threadpool(lambda: _rankings(rank(ids)))
        return _rankings(await batcher.rank((method, *options.values()), ids, rank))

    @app.post("/recommend", response_model=Rankings)
    async def recommend(request: RecommendRequest) -> Response:
        """Recommend items to known users."""
        recommender = live.current
        if not is_exact or request.allow is not None or request.deny is not None:
            return await run_in_threadpool(lambda: _rankings(recommender.recommend(**dict(request))))
        users = recommender.entities.user_strings[recommender.user_rows(request.users, request.unknown)]
        return await rank_together(recommender.recommend, users, k=request.k, filter_seen=request.filter_seen)

    @app.post("/recommend/history", response_model=Rankings)
    def recommend_history(request: HistoryRequest) -> Response:
        """Recommend items to new users, given their histories."""
        return _rankings(live.current.recommend_history(**dict(request)))

    @app.post("/similar/items", response_model=Rankings)
    async def similar_items(request: SimilarRequest) -> Response:
        """Similar items."""
        recommender = live.current
        items = recommender.entities.item_strings[recommender.item_rows(request.ids, request.unknown)]
        return await rank_together(recommender.similar_items, items, k=request.k)

    @app.post("/similar/users", response_model=Rankings)
    async def similar_users(request: SimilarRequest) -> Response:
        """Similar users."""
        recommender = live.current
        users = recommender.entities.user_strings[recommender.user_rows(request.ids, request.unknown)]
        return await rank_together(recommender.similar_users, users, k=request.k)

    @app.post("/describe")
    def describe(request: DescribeRequest) -> WordLists:
        """Words of users and items."""
        return _words(live.current.describe(users=request.users, items=request.items))

    @app.post("/describe/history")
    def describe_history(request: DescribeHistoryRequest) -> WordLists:
        """Words of new users, given their histories."""
        return _words(live.current.describe_history(request.histories, request.unknown))


def _add_operations(app: FastAPI, live: LiveRecommender, registry: CollectorRegistry, index: Index) -> None:
    """Add the routes for operators."""

    @app.get("/health")
    def health() -> Health:
        """Describe the run that is served; the status is "stale" if a newer run could not be loaded."""
        recommender = live.current
        users, items = map(len, recommender.embeddings())
        return Health(
            status="ok" if live.error is None else "stale",
            fingerprint=recommender.entities.fingerprint,
            users=users,
            items=items,
            index=index,
            recall=live.recall,
            reloads=live.num_reloads,
            error=live.error,
        )

    @app.post("/reload")
    def reload() -> Reloaded:
        """Reload the run in this worker; the others check for a new run every `watch_seconds`."""
        return Reloaded(reloaded=live.reload(force=True), error=live.error)

    @app.get("/metrics")
    def metrics() -> Response:
        """Counters and latencies of this worker, for Prometheus."""
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _error_response(status: int, reason: str) -> JSONResponse:
    text = reason.encode("utf-8", "backslashreplace").decode()  # UTF-8 cannot encode the lone surrogates of a request
    return JSONResponse({"detail": f"{text:.1000}"}, status_code=status)


def _rankings(top: TopK) -> Response:
    """Response with the schema `Rankings`, rendered here as FastAPI would validate it once more."""
    counts = np.isfinite(top.scores).sum(axis=1) if top.scores.size else np.zeros(len(top.query_ids), int)
    rows: Any = zip(top.query_ids.tolist(), top.ids.tolist(), top.scores.tolist(), counts.tolist(), strict=True)
    results = [Ranking(id=query, ids=ids[:n], scores=scores[:n]) for query, ids, scores, n in rows]
    return Response(Rankings(results=results).model_dump_json(), media_type="application/json")


def _words(descriptions: list[Description]) -> WordLists:
    return WordLists(results=[Words(**one._asdict()) for one in descriptions])
