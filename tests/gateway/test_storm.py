"""Random orders in bad weather: a short storm in each run of the tests, a long one in `make test-faults`."""

import os

import pytest

from tests.market import Market
from tests.storm import EXCLUSIVE, Storm
from tests.tally import STORM

ORDERS = int(os.environ.get("PANELGATE_STORM", "80"))


def test_a_storm_doubles_nothing_loses_nothing_and_leaves_no_cent_of_difference(
    market: Market, request: pytest.FixtureRequest
) -> None:
    report = Storm.over(market, seed=1, panel=0.17, store=0.01).run(ORDERS)
    told = "\n".join(report.lines())
    request.node.user_properties.append((STORM, told))
    assert report.is_clean, told
    # Two lost orders of one size within the quiet period cannot be told apart: about one in a hundred.
    assert report.share_of(EXCLUSIVE) > 0.95, told
