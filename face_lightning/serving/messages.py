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
    """A request; unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class RecommendRequest(Request):
    """Items for known users."""

    users: Queries
    k: Count = 20
    filter_seen: Annotated[
        Literal["all", "train", "train+val"] | None, Field(description="splits whose items are left out")
    ] = "all"
    allow: Choice = None
    deny: Choice = None
    unknown: Unknown = "error"


class HistoryRequest(Request):
    """Items for new users, given their histories."""

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
    """Words of new users."""

    histories: Histories
    unknown: Unknown = "error"


class Ranking(BaseModel):
    """Results of one query, best first."""

    id: str
    ids: list[str]
    scores: list[float]


class Rankings(BaseModel):
    """A ranking for each query, in their order."""

    results: list[Ranking]


class Words(BaseModel):
    """Words of a user or an item."""

    kind: str
    id: str
    label: str
    words: list[str]


class WordLists(BaseModel):
    """Words of each entity, in their order."""

    results: list[Words]


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok", "stale"]
    fingerprint: str
    users: int
    items: int
    index: str
    recall: Annotated[float, Field(description="share of the exact 20 best items, on a sample of users")]
    reloads: int
    error: str | None


class Reloaded(BaseModel):
    """Outcome of a reload."""

    reloaded: bool
    error: str | None
