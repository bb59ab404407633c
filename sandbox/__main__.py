"""`python -m sandbox --port N`: run the panels until SIGTERM or SIGINT."""

import argparse
import signal
import sys
import threading
from pathlib import Path

from sandbox.server import Sandbox
from sandbox.store import StoreError


def main(arguments: list[str] | None = None) -> int:
    """Run the sandbox; returns the exit code."""
    options = _parser().parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        sandbox = Sandbox(options.host, options.port, options.state, speed=options.speed)
        sandbox.start()
    except (OSError, ValueError, StoreError) as error:
        print(f"sandbox: {error}", file=sys.stderr)  # noqa: T201 - a command speaks to its user
        return 1
    print(f"sandbox listening on {sandbox.url}", flush=True)  # noqa: T201 - who started it waits for this line
    ended.wait()
    sandbox.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sandbox", description="Five pretend SMM panels, with faults on demand.")
    parser.add_argument("--port", type=int, required=True, help="the port to listen on; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep everything in this file over restarts")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster orders live (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
