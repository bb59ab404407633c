"""What a dialect is: how one family of panels reads requests and writes replies."""

from collections.abc import Callable, Mapping
from typing import Protocol

from sandbox.messages import Call, PanelError, Reply, Request
from sandbox.panel import Panel

Action = Callable[[Panel, Call], Reply]


class Dialect(Protocol):
    """One family's manners."""

    @property
    def actions(self) -> Mapping[str, Action]:
        """What can be asked, by the word in `action`."""

    def read(self, request: Request) -> Call:
        """Understand a request as far as possible. Never raises."""

    def refuse(self, panel: Panel, error: PanelError) -> Reply:
        """Say no."""

    def complain(self, sentence: str) -> Reply:
        """Say no in words of one's own."""
