"""The table of contents: the Chalice object and one short function per Lambda. It declares, it does not decide."""

import os

from chalice.app import Chalice, CloudWatchEvent, Rate

from chalicelib import jobs, log
from chalicelib.api.routes import routes
from chalicelib.wiring import parts

log.configure()
app = Chalice(app_name="panelgate", configure_logs=False)
app.register_blueprint(routes)
if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    parts()  # Lambda lends its start a whole processor, and the first request none


@app.schedule(Rate(30, unit=Rate.MINUTES))
@log.outermost
def sync_catalogs(_event: CloudWatchEvent) -> dict[str, int]:
    """Fetch the catalogs of all enabled providers."""
    return jobs.sync_catalogs(parts())


@app.schedule(Rate(1, unit=Rate.MINUTES))
@log.outermost
def sweep_orders(_event: CloudWatchEvent) -> dict[str, int]:
    """Call those orders unknown whose sender was not heard of in time."""
    return jobs.sweep_orders(parts())


@app.schedule(Rate(1, unit=Rate.MINUTES))
@log.outermost
def settle_orders(_event: CloudWatchEvent) -> dict[str, int]:
    """Follow open orders, and settle those whose outcome is not known."""
    return jobs.settle_orders(parts())
