"""A shop's page in a real browser: it orders and polls with a browser token, and is refused where it oversteps.

The shop is a web server of its own: it alone has the client key, and asks for tokens for its pages. The page calls the
gateway across origins, so that it is the browser that holds it to CORS, and not a header that a test reads.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import free_port
from tests.deployed.conftest import Deployment, SandboxPanel
from tests.deployed.test_way import link

pytestmark = pytest.mark.deployed
PROVIDER = "smosale"
QUANTITY = 50  # at 0.90 per 1000
CHARGE = 0.045

PAGE = """\
<!doctype html>
<title>A shop</title>
<script>
async function call(fields, headers) {
  const token = await (await fetch("/token", {method: "POST"})).text();
  try {
    const answer = await fetch(API + "/v3", {
      method: "POST",
      headers: {"Authorization": "Bearer " + token, "Content-Type": "application/json", ...headers},
      body: JSON.stringify(fields),
    });
    return {status: answer.status, body: await answer.json(), headers: Object.fromEntries(answer.headers)};
  } catch (error) {
    return {failed: error.name};
  }
}
</script>
"""


@dataclass(frozen=True)
class Seen:
    """What a page was able to read: nothing (status 0) where its browser let it read nothing."""

    status: int
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Shop:
    """A web server at an origin of its own; ``token`` is what it gives to its page."""

    origin: str
    token: str = ""


@contextmanager
def serving(api_url: str, host: str) -> Iterator[Shop]:
    """Serve a shop's page."""
    shop = Shop("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(PAGE.replace("API", json.dumps(api_url)), "text/html; charset=utf-8")

        def do_POST(self) -> None:
            self._answer(shop.token, "text/plain")

        def _answer(self, text: str, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        shop.origin = f"http://{host}:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield shop
        server.shutdown()


@dataclass(frozen=True)
class Browser:
    """A window of a browser, by the WebDriver protocol."""

    session: str

    def ask(self, command: str, body: Mapping[str, Any]) -> Any:
        reply = httpx.post(f"{self.session}/{command}", json=body, timeout=60, trust_env=False)
        assert reply.is_success, reply.text
        return reply.json()["value"]

    def call(self, shop: Shop, headers: Mapping[str, str] | None = None, /, **fields: Any) -> Seen:
        """Let a shop's page ask the gateway something."""
        self.ask("url", {"url": shop.origin})
        script = "const done = arguments[2]; call(arguments[0], arguments[1]).then(done);"
        told = self.ask("execute/async", {"script": script, "args": [fields, headers or {}]})
        if "failed" in told:
            assert told == {"failed": "TypeError"}, "this is how a browser says no"
            return Seen(0)
        return Seen(**told)


def _binary(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not on this machine: `make setup-browser`")
    return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium, driver = _binary("chromium"), _binary("chromedriver")
    profile, port = tmp_path_factory.mktemp("chromium"), free_port()
    arguments = [
        "--headless=new",
        f"--user-data-dir={profile}",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--no-first-run",
        "--no-proxy-server",
        *(["--no-sandbox"] if os.geteuid() == 0 else []),
    ]
    options = {"binary": chromium, "args": arguments}
    wanted = {"alwaysMatch": {"goog:chromeOptions": options, "timeouts": {"script": 45_000}}}
    with _driver(driver, port, profile) as url:
        reply = httpx.post(f"{url}/session", json={"capabilities": wanted}, timeout=60, trust_env=False)
        assert reply.is_success, reply.text
        window = Browser(f"{url}/session/{reply.json()['value']['sessionId']}")
        yield window
        httpx.delete(window.session, timeout=30, trust_env=False)


@contextmanager
def _driver(command: str, port: int, folder: Path) -> Iterator[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([command, f"--port={port}"], env=environment, stdout=log, stderr=log)  # noqa: S603 - found above
    url = f"http://127.0.0.1:{port}"
    try:
        _await_driver(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _await_driver(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert process.poll() is None, "the driver ended at its start"
        try:
            if httpx.get(f"{url}/status", timeout=2, trust_env=False).json()["value"]["ready"]:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail("the driver did not start within 30 s")


@dataclass(frozen=True)
class Scene:
    """A shop with a page, another page of it, a page of nobody's, and the key that only the shop has."""

    deployment: Deployment
    panel: SandboxPanel
    key: str
    shop: Shop
    second: Shop
    stranger: Shop

    @property
    def service(self) -> int:
        return self.deployment.service(PROVIDER)

    def token(self, **fields: Any) -> str:
        asked = {"actions": ["services", "add", "status", "orders"], "ttl": 600, "origin": self.shop.origin}
        reply = self.deployment.v3(self.key, action="token", **{**asked, **fields})
        assert reply.status_code == 200, reply.text
        text: str = reply.json()["token"]
        return text

    def add(self, target: str, **fields: Any) -> dict[str, Any]:
        return {"action": "add", "service": self.service, "link": target, "quantity": QUANTITY, **fields}


@pytest.fixture
def scene(deployment: Deployment, panels: Callable[[str], SandboxPanel]) -> Iterator[Scene]:
    with (
        serving(deployment.api_url, "127.0.0.1") as shop,
        serving(deployment.api_url, "localhost") as second,
        serving(deployment.api_url, "localhost") as stranger,
    ):
        origins = frozenset({shop.origin, second.origin})
        key = deployment.tenant(providers=frozenset({PROVIDER}), origins=origins)
        yield Scene(deployment, panels(PROVIDER), key, shop, second, stranger)


def test_a_page_orders_and_polls_and_sees_no_price(scene: Scene, browser: Browser) -> None:
    shop, target = scene.shop, link()
    shop.token = scene.token(subject="ann", services=[scene.service], max_charge=1)
    once = {"Idempotency-Key": "cart-1"}
    placed = browser.call(shop, once, **scene.add(target))
    again = browser.call(shop, once, **scene.add(target))
    order = placed.body["order"]
    seen = [
        placed,
        again,
        browser.call(shop, action="status", order=order),
        browser.call(shop, action="status", orders=[order]),
        browser.call(shop, action="orders"),
        browser.call(shop, action="services"),
    ]

    assert [answer.status for answer in seen] == [200] * len(seen)
    assert placed.body == again.body == {"order": order}
    assert seen[2].body["status"] in {"pending", "in_progress", "processing", "completed"}
    assert [row["order"] for row in seen[4].body["orders"]] == [order]
    assert [row["service"] for row in seen[5].body] == [scene.service]
    assert scene.panel.purchases(target) == 1
    for answer in seen:
        text = json.dumps(answer.body)
        assert not any(f'"{price}"' in text for price in ("balance", "charge", "charged", "rate"))
        assert str(CHARGE) not in text
        # What the contract exposes, and the browser lets the page read only then.
        assert {"x-request-id", "ratelimit", "ratelimit-policy"} <= answer.headers.keys()
    assert again.headers["idempotent-replayed"] == "true"


def test_a_page_that_oversteps_is_refused_and_can_read_why(scene: Scene, browser: Browser) -> None:
    shop, target = scene.shop, link()
    shop.token = scene.token(subject="bob")
    foreign = browser.call(shop, **scene.add(link())).body["order"]
    shop.token = scene.token(subject="ann", services=[scene.service], max_charge=CHARGE)

    oversteps = [
        browser.call(shop, **scene.add(target, service=scene.deployment.service(PROVIDER, 2))),
        browser.call(shop, **scene.add(target, quantity=2 * QUANTITY)),
        browser.call(shop, action="status", order=foreign),
        browser.call(shop, action="usage"),
        browser.call(shop, action="token", actions=["add"], ttl=60),
        browser.call(shop, action="balance"),
        browser.call(shop, action="cancel", order=foreign),
    ]
    assert [(seen.status, seen.body["code"]) for seen in oversteps] == [
        (404, "service_not_found"),
        (402, "spend_limit_reached"),
        (404, "order_not_found"),
        (403, "forbidden"),
        (403, "forbidden"),
        (403, "forbidden"),
        (403, "forbidden"),
    ]
    assert scene.panel.purchases(target) == 0
    assert browser.call(shop, **scene.add(target)).status == 200
    assert browser.call(shop, **scene.add(target)).body["code"] == "spend_limit_reached"
    assert scene.panel.purchases(target) == 1


def test_another_page_with_the_token_gets_nothing(scene: Scene, browser: Browser) -> None:
    target = link()
    for other in (scene.second, scene.stranger):
        other.token = scene.token()
    refused = browser.call(scene.second, **scene.add(target))
    assert (refused.status, refused.body["code"]) == (403, "forbidden")
    assert browser.call(scene.stranger, **scene.add(target)) == Seen(0)

    # A token for all pages of the tenant is for its own pages all the same.
    anywhere = scene.deployment.v3(scene.key, action="token", actions=["add"], ttl=60).json()["token"]
    scene.second.token = scene.stranger.token = anywhere
    assert browser.call(scene.stranger, **scene.add(target)) == Seen(0)
    assert scene.panel.purchases(target) == 0
    assert browser.call(scene.second, **scene.add(target)).status == 200
    assert scene.panel.purchases(target) == 1


def test_a_page_reads_that_its_token_is_over(scene: Scene, browser: Browser) -> None:
    issued = scene.deployment.clients.create(scene.key.split("_")[2])
    reply = scene.deployment.v3(issued.key, action="token", actions=["services"], ttl=60, origin=scene.shop.origin)
    scene.shop.token = reply.json()["token"]
    assert browser.call(scene.shop, action="services").status == 200
    scene.deployment.clients.revoke(issued.client.id)
    over = browser.call(scene.shop, action="services")
    assert (over.status, over.body["code"]) == (401, "invalid_api_key")
