"""The simulation of units: like the formula where one holds, and the page is what it found."""

from __future__ import annotations

import json

import pytest

from benchmarks.unit_sizes.__main__ import PAGE, RESULT, SEED, page
from benchmarks.unit_sizes.simulation import Run, redone_on_paper, simulate


def small(**changes: float) -> Run:
    given = {
        "unit": 2_000,
        "mean_life": 3600.0,
        "images": 100_000_000,
        "workers": 250,
        "spread": 0.0,
    }
    return Run(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", [1_000, 2_000, 5_000])
def test_what_is_redone_is_what_the_formula_says(unit: int) -> None:
    run = small(unit=unit)
    assert simulate(run, 1).redone == pytest.approx(redone_on_paper(run), rel=0.1)


def test_without_deaths_nothing_is_redone_and_the_files_cost_what_they_must() -> None:
    found = simulate(small(mean_life=1e12), 0)
    assert (found.redone, found.failed_units, found.units) == (0, 0, 50_000)
    assert found.opening == pytest.approx(50_000 / (100_000_000 / 20))
    assert found.waiting == 0  # 200 units each, all as long
    assert found.hours == pytest.approx(200 * (2_000 / 20 + 1) / 3600)


def test_a_unit_whose_workers_die_twice_has_failed() -> None:
    run = small(unit=40_000)
    share = 1 - 2.718281828 ** (-(40_000 / 20 + 1) / 3600)  # of tries that a death ends
    found = simulate(run, 3)
    assert found.failed_units / found.units == pytest.approx(share**2, rel=0.25)


def test_the_page_and_a_row_are_what_the_command_writes() -> None:
    result = json.loads(RESULT.read_text())
    assert PAGE.read_text() == page(result)
    row = next(r for r in result["rows"] if (r["unit"], r["mean_life_hours"]) == (100_000, 6))
    again = simulate(Run(100_000, 6 * 3600.0), SEED)
    assert (again.redone, again.hours) == pytest.approx((row["redone"], row["hours"]), rel=1e-6)
