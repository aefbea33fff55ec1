"""A model whose runs wait for the test."""

from __future__ import annotations

from pathlib import Path

import pytest
from gated_model import load_gated

from isoserve.service.repository.versions import ServingModel


@pytest.fixture
def served(tmp_path: Path) -> ServingModel:
    return load_gated(tmp_path)
