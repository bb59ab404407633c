"""What each call asks of the store, of Secrets Manager and of the panel, counted where it leaves the process."""

from collections import Counter
from collections.abc import Callable

from benchmarks.stage import Container, Stage
from benchmarks.table import show
from chalicelib.results import FRESH

BATCH = 20
HEAD = ("call", "store", "secrets", "panel", "operations of the store")
# Past the age at which a status is asked for anew, and not past any other.
LATER_SECONDS = FRESH / 1_000_000 + 1


def run(stage: Stage) -> None:
    """Print what each call takes in a container that has served such a call before, and in one that has not."""
    cold, container = stage.container(), stage.container()
    rows = [_counted("add, the container's first", cold, lambda: cold.call("add", **stage.order()))]
    order = stage.order()
    number = container.call("add", **order)["order"]
    container.call("services")
    container.call("status", order=number)
    rows += [
        _counted("balance", container, lambda: container.call("balance")),
        _counted("services", container, lambda: container.call("services")),
        _counted("add", container, lambda: container.call("add", **stage.order())),
        _counted("add, repeated with its key", container, lambda: container.call("add", **order)),
        _counted("status, from the store", container, lambda: container.call("status", order=number)),
    ]
    many = [container.call("add", **stage.order())["order"] for _ in range(BATCH)]
    container.time.ahead += LATER_SECONDS
    rows.append(
        _counted(f"status of {BATCH}, asked of the panel", container, lambda: container.call("status", orders=many))
    )
    rows.append(
        _counted(f"status of {BATCH}, from the store", container, lambda: container.call("status", orders=many))
    )
    rows.append(_counted("status, asked of the panel", container, lambda: container.call("status", order=number)))
    show("Round trips of one call (warm, unless said)", HEAD, rows)


def _counted(name: str, container: Container, call: Callable[[], object]) -> tuple[str, int, int, int, str]:
    counts = container.counts
    counts.clear()
    call()
    operations = Counter(counts.store)
    named = ", ".join(f"{count} × {name}" if count > 1 else name for name, count in operations.items())
    return name, len(counts.store), len(counts.secrets), len(counts.upstream), named
