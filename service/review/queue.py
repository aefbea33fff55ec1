"""The queue's parts, made of settings: the keeper that fills it and the routes that show it."""

from __future__ import annotations

from fastapi import APIRouter

from isoserve.service.auth import REVIEW, Tokens
from isoserve.service.observability.metrics import Metrics
from isoserve.service.repository.repository import Repository
from isoserve.service.review.keeper import Keeper, Policy
from isoserve.service.review.routes import review_routes
from isoserve.service.review.store import Bounds, ReviewStore
from isoserve.service.settings import Settings


class ReviewQueue:
    """One store, its keeper and its routes."""

    def __init__(
        self, store: ReviewStore, settings: Settings, repository: Repository, metrics: Metrics
    ) -> None:
        assert settings.review_token_file is not None
        self._store = store
        self._settings = settings
        self._repository = repository
        self._metrics = metrics
        self._tokens = Tokens(settings.review_token_file, frozenset((REVIEW,)))

    def routes(self) -> APIRouter:
        """What a person with a token may ask."""
        return review_routes(
            self._store, self._tokens, self._repository, self._settings.body_seconds
        )

    def keeper(self) -> Keeper:
        """A running keeper; close it in the end."""
        settings = self._settings
        bounds = Bounds(settings.review_images, settings.review_bytes, settings.review_days)
        policy = Policy(settings.alpha, settings.review_sample, bounds)
        return Keeper(self._store, policy, self._metrics.review_images)
