"""Locust's side of serve_load.py: clients that post pictures and compare what comes back."""

import hashlib
import json
import os
import random
import statistics
import time
import uuid
from collections import Counter
from pathlib import Path

from locust import HttpUser, LoadTestShape, constant, events, task

PICTURES = Path(os.environ["LOAD_PICTURES"])
CLIENTS = int(os.environ["LOAD_CLIENTS"])
SECONDS = float(os.environ["LOAD_SECONDS"])
WAVE = float(os.environ["LOAD_WAVE"])
EXPECTED: dict[str, str] = json.loads((PICTURES / "expected.json").read_text())
CONTENT = {name: (PICTURES / name).read_bytes() for name in EXPECTED}
WEIGHTS = json.loads(os.environ["LOAD_WEIGHTS"])

statuses: Counter[str] = Counter()
counts: Counter[str] = Counter()
seconds: list[float] = []
faults: list[str] = []


class Waves(LoadTestShape):
    """From few clients to all and back, again and again: within capacity, at it, and beyond."""

    def tick(self) -> tuple[int, float] | None:
        at = self.get_run_time()
        if at > SECONDS:
            return None
        phase = at / WAVE % 1
        return max(1, round(CLIENTS * (1 - abs(2 * phase - 1)))), 5


class Client(HttpUser):
    wait_time = constant(0)

    @task(4)
    def picture(self) -> None:
        name = chosen()
        began = time.monotonic()
        with self.client.post("/v1/deblur", data=CONTENT[name], catch_response=True) as answer:
            note("POST", answer)
            if answer.status_code == 200:
                seconds.append(time.monotonic() - began)
                compare(name, answer.content)
        pause(answer)

    @task(1)
    def job(self) -> None:
        name, path = chosen(), f"/v1/jobs/{uuid.uuid4().hex}"
        if not self.until(lambda: self.put(path, name)):
            return
        give_up = time.monotonic() + 300
        while time.monotonic() < give_up:
            time.sleep(0.5)
            with self.client.get(path, name="/v1/jobs/[id]", catch_response=True) as answer:
                note("GET job", answer)
                if answer.status_code == 404:
                    break
                if answer.status_code == 200 and answer.json()["state"] == "done":
                    self.fetch(name, path)
                    return
        counts["lost"] += 1

    def fetch(self, name: str, path: str) -> None:
        for _ in range(60):
            with self.client.get(f"{path}/result", name="result", catch_response=True) as answer:
                note("GET result", answer)
                if answer.status_code == 200:
                    compare(name, answer.content)
                    counts["jobs"] += 1
                    self.client.delete(path, name="/v1/jobs/[id]")
                    return
            time.sleep(1)
        counts["lost"] += 1

    def put(self, path: str, name: str):  # type: ignore[no-untyped-def]
        return self.client.put(path, data=CONTENT[name], name="/v1/jobs/[id]", catch_response=True)

    def until(self, ask) -> bool:  # type: ignore[no-untyped-def]
        """Offer a job until it is taken on."""
        for _ in range(100):
            with ask() as answer:
                note("PUT", answer)
                if answer.status_code in (200, 201):
                    return True
            pause(answer)
        return False


def chosen() -> str:
    return random.choices(list(EXPECTED), WEIGHTS)[0]


def note(what: str, answer) -> None:  # type: ignore[no-untyped-def]
    status = answer.status_code
    if status == 0:
        counts["unreachable"] += 1
    else:
        statuses[f"{what} {status}"] += 1
    honest = status < 500 or (status == 503 and "retry-after" in answer.headers)
    if not honest:
        faults.append(f"{what} {status}: {answer.text[:200]}")
    if status == 429 and "retry-after" not in answer.headers:
        faults.append(f"{what} 429 without Retry-After")
    answer.success()  # locust's own idea of failures is not asked for


def compare(name: str, content: bytes) -> None:
    counts["compared"] += 1
    if hashlib.sha256(content).hexdigest() != EXPECTED[name]:
        counts["differ"] += 1


def pause(answer) -> None:  # type: ignore[no-untyped-def]
    if answer.status_code == 0:
        time.sleep(1)
    elif answer.status_code in (429, 503):
        time.sleep(min(5, int(answer.headers.get("retry-after", 1))))


@events.quitting.add_listener
def report(**_: object) -> None:
    Path(os.environ["LOAD_REPORT"]).write_text(
        json.dumps(
            {
                "statuses": dict(statuses),
                "faults": faults[:20],
                **{
                    key: counts[key]
                    for key in ("compared", "differ", "unreachable", "jobs", "lost")
                },
                "median": round(statistics.median(seconds), 3) if seconds else None,
                "slowest": round(max(seconds), 3) if seconds else None,
            }
        )
    )
