"""The review queue: images kept for a person to label, so that "I don't know" becomes "now I do".

Off unless a database is named. What is kept are the images themselves, as they were sent, so it is
for operators who may keep them; bounds on age, count and bytes delete them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isoserve.models.errors import InputError

if TYPE_CHECKING:
    from isoserve.service.observability.metrics import Metrics
    from isoserve.service.repository.repository import Repository
    from isoserve.service.review.queue import ReviewQueue
    from isoserve.service.review.store import ReviewStore
    from isoserve.service.settings import Settings


def open_store(url: str) -> ReviewStore:
    """The database of this URL.

    Raises:
        InputError: the URL names none that can be opened, or SQLAlchemy is not installed.
    """
    try:
        from isoserve.service.review.store import ReviewStore
    except ModuleNotFoundError as error:
        raise InputError(
            f"the review queue needs {error.name}: pip install 'isoserve[review]'"
        ) from error
    return ReviewStore(url)


def open_review(settings: Settings, repository: Repository, metrics: Metrics) -> ReviewQueue | None:
    """The queue of these settings, None where they name no database.

    Raises:
        InputError: the database or the token file cannot be opened.
    """
    if not settings.review_database or settings.review_token_file is None:
        return None
    store = open_store(settings.review_database)
    from isoserve.service.review.queue import ReviewQueue

    return ReviewQueue(store, settings, repository, metrics)
