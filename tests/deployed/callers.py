"""What runs in processes of its own: callers who know nothing of each other."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx


def call_at_once(url: str, key: str, fields: dict[str, Any], calls: int, threads: int) -> list[tuple[float, int, str]]:
    """Send the same request ``calls`` times from ``threads`` threads; return when each began, its status and body."""

    def call(client: httpx.Client) -> tuple[float, int, str]:
        began = time.time()
        reply = client.post(url, json=fields, headers={"Authorization": f"Bearer {key}"})
        return began, reply.status_code, reply.text

    with httpx.Client(timeout=60, trust_env=False) as client, ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda _: call(client), range(calls)))
