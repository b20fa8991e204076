"""Schemas of requests and responses."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StringConstraints

Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=256)] | StrictInt
Queries = Annotated[list[Id], Field(min_length=1, max_length=1000, description="original ids")]
Choice = Annotated[list[Id] | None, Field(max_length=100_000)]
Histories = Annotated[dict[str, Annotated[list[Id], Field(max_length=10_000)]], Field(min_length=1, max_length=1000)]
Count = Annotated[int, Field(strict=True, ge=1, le=1000, description="number of results per query")]
Unknown = Annotated[Literal["error", "skip"], Field(description="treatment of unknown ids")]


class Request(BaseModel):
    """Base class of requests; unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid")


class RecommendRequest(Request):
    """Recommendations for known users."""

    users: Queries
    k: Count = 20
    filter_seen: Annotated[
        Literal["all", "train", "train+val"] | None, Field(description="splits whose items are left out")
    ] = "all"
    allow: Choice = None
    deny: Choice = None
    unknown: Unknown = "error"


class HistoryRequest(Request):
    """Recommendations for new users, given their histories."""

    histories: Histories
    k: Count = 20
    filter_seen: bool = True
    allow: Choice = None
    deny: Choice = None
    unknown: Unknown = "error"


class SimilarRequest(Request):
    """Similar users or items."""

    ids: Queries
    k: Count = 20
    unknown: Unknown = "error"


class DescribeRequest(Request):
    """Words of users and items."""

    users: Annotated[list[Id], Field(max_length=1000)] = []
    items: Annotated[list[Id], Field(max_length=1000)] = []


class DescribeHistoryRequest(Request):
    """Words of new users, given their histories."""

    histories: Histories
    unknown: Unknown = "error"


class Ranking(BaseModel):
    """Top-k results of one query, best first."""

    id: str
    ids: list[str]
    scores: list[float]


class Rankings(BaseModel):
    """Rankings of all queries, in the order of the request."""

    results: list[Ranking]


class Words(BaseModel):
    """Words of a user or an item."""

    kind: str
    id: str
    label: str
    words: list[str]


class WordLists(BaseModel):
    """Words of all entities, in the order of the request."""

    results: list[Words]


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "stale"]
    fingerprint: str
    users: int
    items: int
    index: str
    recall: Annotated[float, Field(description="recall of the exact top 20 on a sample of users")]
    reloads: int
    error: str | None


class Reloaded(BaseModel):
    """Outcome of a reload."""

    reloaded: bool
    error: str | None
