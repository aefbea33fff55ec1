"""``/v1/review``: list the kept images, look at one, say what it is.

Every request carries a token in a header of its own, which no other site's page can make a
browser send: that is the guard against forged requests too. FastAPI reads a body before it asks
for the token, however large it is and however long it takes, so bodies are read here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Message

from isoserve.service.auth import REVIEW, Tokens
from isoserve.service.errors import Problem
from isoserve.service.http.body import BodyLimits, read_body
from isoserve.service.http.routes.pages import PAGE_HEADERS
from isoserve.service.http.schemas import ProblemDocument
from isoserve.service.repository.repository import Repository
from isoserve.service.review.class_name import CLASS_NAME_RULE, can_name_a_folder
from isoserve.service.review.store import Filter, ReviewStore
from isoserve.service.review.table import Mark

log = logging.getLogger("isoserve.review")

TOKEN_HEADER = "X-Review-Token"
MOST_LISTED = 100
MOST_BODY_BYTES = 4096

_KINDS = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"RIFF", "image/webp"),
)

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


class ReviewImage(BaseModel):
    """A kept image: the verdict it got, and what a person said of it."""

    model_config = ConfigDict(protected_namespaces=())

    id: int
    taken: datetime
    model: str
    version: int
    label: str = Field(description="The predicted class.")
    probability: float
    p_value: float
    entropic_score: float
    rejected: bool = Field(description="At the operator's alpha of then.")
    mark: Mark | None
    class_name: str | None = Field(description="The class a person gave it; null for junk.")
    marked: datetime | None
    size: int = Field(description="Bytes of the image file.")


class ReviewPage(BaseModel):
    """Kept images, newest first."""

    images: list[ReviewImage]
    next: int | None = Field(description="Give it as 'before' for the images that follow.")
    counts: dict[str, int] = Field(description="All kept images by mark; 'none' has none yet.")


class MarkRequest(BaseModel):
    """What an image is; a null mark takes it back."""

    model_config = ConfigDict(extra="forbid")

    mark: Mark | None
    class_name: str | None = Field(None, description="Needed for known_class and new_class.")


def review_routes(
    store: ReviewStore, tokens: Tokens, repository: Repository, body_seconds: float
) -> APIRouter:
    """The routes, bound to this application's store; each needs one of the tokens."""

    class BoundedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
            handle = super().get_route_handler()
            limits = BodyLimits(MOST_BODY_BYTES, body_seconds)

            async def read_and_handle(request: Request) -> Response:
                body = await read_body(request.scope, request.receive, limits)

                async def receive() -> Message:
                    return {"type": "http.request", "body": body}

                return await handle(Request(request.scope, receive))

            return read_and_handle

    def check(
        request: Request,
        token: Annotated[
            str, Header(alias=TOKEN_HEADER, description="One of review_token_file.")
        ] = "",
    ) -> None:
        caller = tokens.caller(b"Bearer " + token.encode("latin-1", "replace"))
        caller = caller or request.scope.get("caller")
        if caller is None or REVIEW not in caller.roles:
            raise Problem(
                403, "review_token", f"send a token of review_token_file in {TOKEN_HEADER}"
            )

    router = APIRouter(
        prefix="/v1/review/images",
        tags=["review"],
        dependencies=[Depends(check)],
        responses={status: {"model": ProblemDocument} for status in (403, 503)},
        route_class=BoundedRoute,
    )

    @router.get("", summary="Images kept for review")
    @_answered_without_database
    def list_images(
        mark: Literal["none", "known_class", "new_class", "junk"] | None = None,
        rejected: bool | None = None,
        model: Annotated[str | None, Query(max_length=64)] = None,
        label: Annotated[str | None, Query(max_length=256)] = None,
        before: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 30,
    ) -> ReviewPage:
        rows = store.listed(Filter(mark, rejected, model, label), before, limit)
        return ReviewPage(
            images=[_document(row) for row in rows],
            next=rows[-1].id if len(rows) == limit else None,
            counts=store.counts(),
        )

    @router.get(
        "/{number}/file",
        summary="The image as it was sent",
        response_class=Response,
        responses={404: {"model": ProblemDocument}},
    )
    @_answered_without_database
    def image_file(number: int) -> Response:
        image = _within(number) and store.image(number)
        if not image:
            raise _no_such_image(number)
        headers = {**PAGE_HEADERS, "Cache-Control": "private, no-store"}
        return Response(image, media_type=_kind(image), headers=headers)

    @router.put(
        "/{number}/mark",
        summary="Say what the image is",
        status_code=204,
        responses={status: {"model": ProblemDocument} for status in (404, 422)},
    )
    @_answered_without_database
    def mark_image(number: int, said: MarkRequest) -> None:
        class_name = _checked_class(said, _classes(repository))
        if not _within(number) or not store.mark(number, said.mark, class_name):
            raise _no_such_image(number)

    return router


def _checked_class(said: MarkRequest, known: set[str]) -> str | None:
    name = said.class_name
    if said.mark not in ("known_class", "new_class"):
        if name is not None:
            raise _bad_class(name, "goes with known_class and new_class alone")
        return None
    if name is None or not can_name_a_folder(name):
        raise _bad_class(
            name,
            CLASS_NAME_RULE,
        )
    if said.mark == "known_class" and name not in known:
        raise _bad_class(name, "is not a class of a model that serves; mark it as new_class")
    if said.mark == "new_class" and name in known:
        raise _bad_class(name, "is a class already; mark it as known_class")
    return name


def _classes(repository: Repository) -> set[str]:
    served = [record.served for record in [*repository.models.values()]]
    return {label for entry in served if entry is not None for label in entry.model.labels}


def _document(row: Row[Any]) -> ReviewImage:
    fields = {name: getattr(row, name) for name in ReviewImage.model_fields}
    for name in ("taken", "marked"):
        moment = fields[name]
        if moment is not None and moment.tzinfo is None:  # SQLite keeps no time zone
            fields[name] = moment.replace(tzinfo=UTC)
    return ReviewImage(**fields)


def _kind(image: bytes) -> str:
    for magic, kind in _KINDS:
        if image.startswith(magic):
            return kind
    return "application/octet-stream"


def _answered_without_database(
    route: Callable[Parameters, Answer],
) -> Callable[Parameters, Answer]:
    """Turn a failing database into a 503, its message into the log alone."""

    @wraps(route)
    def answer(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Answer:
        try:
            return route(*args, **kwargs)
        except (SQLAlchemyError, OSError) as error:
            log.error("the review database fails: %s", str(error).partition("\n")[0])
            raise Problem(
                503, "review_database", "the review database does not answer", retry_after=5
            ) from error

    return answer


def _within(number: int) -> bool:
    return 0 < number < 2**63


def _bad_class(name: str | None, what: str) -> Problem:
    return Problem(422, "bad_parameter", f"class_name {name!r:.140} {what}")


def _no_such_image(number: int) -> Problem:
    return Problem(404, "no_such_image", f"no image {number} is kept; it may be past its bounds")
