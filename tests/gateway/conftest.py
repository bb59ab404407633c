"""Stalls for the proofs: stages of one panel and one customer that belong to one test."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.stall import Stall
from tests.world import World


@pytest.fixture
def new_stall(new_stage: Callable[[], str], dynamodb: Any, secrets_manager: Any) -> Callable[..., Stall]:
    """Return what makes a stall of one of the sandbox's panels, whose store may be wrapped."""

    def new(slug: str, wrapped: Callable[[Any], Any] = lambda client: client) -> Stall:
        return Stall.new(new_stage(), wrapped(dynamodb), secrets_manager, slug)

    return new


@pytest.fixture
def new_world(new_stage: Callable[[], str], dynamodb: Any, secrets_manager: Any) -> Callable[[], World]:
    return lambda: World.new(new_stage(), dynamodb, secrets_manager)


@pytest.fixture
def stall(new_stall: Callable[..., Stall]) -> Stall:
    return new_stall("smosale")
