import json
from datetime import UTC, datetime
from typing import Any

import pytest

from isoserve.models.card import CARD_KEY, CardError, ModelCard, read_card


def _fields() -> dict[str, Any]:
    return {
        "name": "pets",
        "classes": ["cat", "dog"],
        "input": {"height": 32, "width": 32},
        "network": "resnet9_32",
        "parameters": 1,
        "loss": "isomax2",
        "data": {"name": "pets", "digest": "00", "training_images": 9, "calibration_images": 3},
        "seed": 0,
        "recipe": {},
        "versions": {},
        "calibration": {
            "n": 3,
            "class_counts": [1, 2],
            "threshold": -2.0,
            "guaranteed_alpha": 0.04,
            "score_quantiles": [0.0] * 101,
            "temperature": 1.0,
        },
        "created": datetime(2026, 1, 1, tzinfo=UTC),
    }


def test_a_card_survives_the_file() -> None:
    card = ModelCard(**_fields())
    assert read_card({CARD_KEY: card.model_dump_json()}) == card


def test_a_file_without_a_card_is_no_model_of_ours() -> None:
    with pytest.raises(CardError, match=r"no 'isoserve.card'"):
        read_card({"other": "{}"})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"name": "../etc"}, "name"),
        ({"classes": ["cat"]}, "classes"),
        ({"classes": ["cat", "cat"]}, "differ"),
        ({"classes": ["cat", "dog", "cow"]}, "2 class_counts for 3 classes"),
        ({"loss": "hinge"}, "loss"),
        ({"input": {"height": 0, "width": 32}}, "input.height"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], why: str) -> None:
    card = ModelCard(**_fields()).model_dump(mode="json") | change
    with pytest.raises(CardError, match=why):
        read_card({CARD_KEY: json.dumps(card)})


def test_a_card_that_is_no_json_is_refused() -> None:
    with pytest.raises(CardError, match="invalid model card"):
        read_card({CARD_KEY: "{"})
