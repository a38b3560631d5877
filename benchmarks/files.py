"""Files of transactions, through the API and real workers: `python -m benchmarks.files`.

Four parts, each of which can be chosen:

- `rate`: rows per second of a file that is scored, beside a bare script that reads the same file, calls the same model
  and writes the same result, in turn. A file is checked, scored, and has rules, reasons and a refusal for each bad row.
  Also the processor time of both, which other work on the machine changes little: of worker and web server, and of the
  script without its start.
- `memory`: the highest resident memory of the worker while it reads and scores one large file.
- `workers`: rows per second of two workers beside one. They need a core each, and the web server and the database some.
- `realtime`: p99 of predict calls at a steady rate with their own worker, while a bulk worker scores a file, beside
  quiet. Needs h2load (Debian: nghttp2-client).
"""

import csv
import re
import sys
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx
import numpy as np

from benchmarks.stand import Load, at_rate, table, worked_s
from fraudsite.tests.deployment import Deployment, deployment, run

PARTS = ("rate", "memory", "workers", "realtime")
BLOCK = 50_000
POLL_S = 0.2
PIECE = 1 << 20
# The same work without Fraudsite: the columns of the result that a model gives, in one process, a chunk at a time.
BARE = """
import sys, time
import django
django.setup()
import numpy as np
import pandas as pd
from django.conf import settings
from training import registry
from training.core import families
source, target, chunk = sys.argv[1], sys.argv[2], int(sys.argv[3])
version = registry.champion("ulb")
bundle = registry.load(version)
scorer = families.scorer_of(bundle)
scorer.warm()
began, worked = time.perf_counter(), time.process_time()
rows = 0
for part in pd.read_csv(source, chunksize=chunk):
    scores = scorer.score(part[list(bundle.feature_names)].to_numpy(np.float32)).astype(np.float64)
    result = pd.DataFrame({
        "line": np.arange(rows + 2, rows + 2 + len(part)), "status": "scored",
        "transaction_id": part["transaction_id"], "fraud_score": scores,
        "decision": np.where(scores >= version.review_threshold, "review", "approve"),
        "alert": scores >= version.review_threshold, "threshold": version.review_threshold, "model_version": version.pk,
    })
    result.to_csv(target, mode="a" if rows else "w", header=not rows, index=False)
    rows += len(part)
print(rows / (time.perf_counter() - began), (time.process_time() - worked) / rows * 1e6)
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all if left out")
    parser.add_argument("--rows", type=int, default=200_000, help="of the files of rate, workers and realtime")
    parser.add_argument("--memory-rows", type=int, default=10_000_000, help="of the file of memory")
    parser.add_argument("--rounds", type=int, default=3, help="each side in turn so many times")
    parser.add_argument("--seconds", type=int, default=20, help="of each load of predict calls")
    parser.add_argument("--per-s", type=float, default=50, help="predict calls per second")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    chosen = options.parts or PARTS
    if "rate" in chosen:
        rate(options.rows, options.rounds)
    if "memory" in chosen:
        memory(options.memory_rows)
    if "workers" in chosen:
        workers(options.rows, options.rounds)
    if "realtime" in chosen:
        realtime(options.rows, options.seconds, options.per_s)


def rate(rows: int, rounds: int) -> None:
    with deployment("postgresql") as ours:
        path = file_of(ours, rows)
        seen: dict[str, list[float]] = {"a file, scored": [], "bare script": []}
        worked_us: dict[str, list[float]] = {"worker0": [], "web": [], "bare script": []}
        score(ours, file_of(ours, 5_000))  # a warm-up
        for _ in range(rounds):
            before = {name: worked_s(ours.processes[name].pid) for name in ("worker0", "web")}
            seen["a file, scored"].append(score(ours, path))
            for name, spent in before.items():
                worked_us[name].append((worked_s(ours.processes[name].pid) - spent) / rows * 1e6)
            command = [sys.executable, "-c", BARE, str(path), str(ours.directory / "bare.csv"), "5000"]
            per_s, us = run(command, ours.environment).split()[-2:]
            seen["bare script"].append(float(per_s))
            worked_us["bare script"].append(float(us))
        print(figures(seen))
        print(f"\na file / bare script: {median(seen['a file, scored']) / median(seen['bare script']):.2f}×\n")
        cells = [[name, ", ".join(f"{each:.1f}" for each in all_)] for name, all_ in worked_us.items()]
        print(table(["", "processor time of a row, µs"], cells))
        worker_us, web_us, bare_us = (median(all_) for all_ in worked_us.values())
        print(f"\nbare script / worker and web server, by processor time: {bare_us / (worker_us + web_us):.2f}×\n")


def memory(rows: int) -> None:
    with deployment("postgresql", BATCH_FILE_LIMIT_BYTES=1 << 40, BATCH_FILE_UNPACKED_LIMIT_BYTES=1 << 40) as ours:
        score(ours, file_of(ours, 5_000))  # a warm-up
        before = peak_mb(ours, "worker0")
        per_s = score(ours, file_of(ours, rows))
        print(f"{rows:,} rows at {per_s:,.0f} a second: the worker had {before:,.0f} MB before, and at most ", end="")
        print(f"{peak_mb(ours, 'worker0'):,.0f} MB; web processes {peak_mb(ours, 'web'):,.0f} MB.\n")


def workers(rows: int, rounds: int) -> None:
    seen: dict[str, list[float]] = {}
    for count in (1, 2):
        # A deployment has one of the realtime queue in any case; it is idle.
        queues = ("realtime", *["bulk"] * count)
        with deployment("postgresql", workers=count + 1, queues=queues) as ours:
            path = file_of(ours, rows)
            score(ours, file_of(ours, 20_000))  # a warm-up
            seen[f"{count} bulk worker{'s' * (count > 1)}"] = [score(ours, path) for _ in range(rounds)]
    print(figures(seen))
    one, two = (median(values) for values in seen.values())
    print(f"\ntwo workers / one: {two / one:.2f}×\n")


def realtime(rows: int, seconds: int, per_s: float) -> None:
    with deployment("postgresql", workers=2, queues=("realtime", "bulk")) as ours:
        path = file_of(ours, rows)
        score(ours, file_of(ours, 5_000))  # a warm-up

        def load() -> Load:
            given = {"per_s": per_s, "seconds": seconds, "directory": ours.directory}
            return at_rate(f"{ours.url}/api/v1/predict", ours.rows, authorization=ours.authorization, **given)  # type: ignore[arg-type]

        load()
        quiet = load()
        with files_all_the_time(ours, path):
            busy = load()
    cells = [[name, f"{each.p50_ms:.1f}", f"{each.p99_ms:.1f}", str(each.failed)] for name, each in
             (("quiet", quiet), ("while a file is scored", busy))]  # fmt: skip
    print(table(["", "p50, ms", "p99, ms", "failed"], cells))
    print(f"\np99 while a file is scored / quiet: {busy.p99_ms / quiet.p99_ms:.2f}×\n")


@contextmanager
def files_all_the_time(ours: Deployment, path: Path) -> Iterator[None]:
    """Send one file after the other in the block."""
    over = threading.Event()

    def send_on() -> None:
        while not over.is_set():
            score(ours, path, over)

    thread = threading.Thread(target=send_on)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def file_of(ours: Deployment, rows: int) -> Path:
    """A CSV file of made-up transactions, one in a thousand a fraud."""
    path = ours.directory / f"{rows}.csv"
    if path.exists():
        return path
    names = ["Time", *(f"V{number}" for number in range(1, 29)), "Amount", "transaction_id"]
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for first in range(0, rows, BLOCK):
            values = random.normal(0, 1, (min(BLOCK, rows - first), 28)).round(4)
            values[random.random(len(values)) < 0.001, :18] *= 6
            amounts = random.lognormal(3, 1, len(values)).round(2).tolist()
            for number, (row, amount) in enumerate(zip(values.tolist(), amounts, strict=True), first):
                writer.writerow([float(number % 172_000), *row, amount, f"t-{number}"])
    return path


def score(ours: Deployment, path: Path, over: threading.Event | None = None) -> float:
    """Have a file scored and read its result. Returns rows per second, from the first byte sent to the last one read.
    If it is `over`, the file is cancelled."""
    headers = {"Authorization": ours.authorization}
    with httpx.Client(base_url=ours.url, headers=headers, timeout=600) as http:
        began = time.perf_counter()
        query, media = {"mode": "score", "schema": "ulb"}, {"Content-Type": "text/csv"}
        sent = http.post("/api/v1/batches", params=query, content=pieces(path), headers=media)
        assert sent.status_code == 202, sent.text
        address = sent.headers["Location"]
        while (file := http.get(address).json())["state"] in ("waiting", "scoring"):
            if over and over.is_set():
                http.post(f"{address}/cancel")
                return 0.0
            time.sleep(POLL_S)
        assert file["state"] == "done", file
        with http.stream("GET", f"{address}/result") as response:
            assert response.status_code == 200
            for _ in response.iter_bytes(PIECE):
                pass
        took_s = time.perf_counter() - began
        http.delete(address)
    assert not file["refused"], file
    return file["scored"] / took_s


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def peak_mb(ours: Deployment, name: str) -> float:
    """The highest resident memory that a process or a child of it has had, in MB."""
    return _peak_mb(ours.processes[name].pid)


def _peak_mb(pid: int) -> float:
    [kilobytes] = re.findall(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    children = {child for tasks in Path(f"/proc/{pid}/task").glob("*/children") for child in tasks.read_text().split()}
    return max(int(kilobytes) / 1024, *(_peak_mb(int(child)) for child in children), 0.0)


def figures(seen: dict[str, list[float]]) -> str:
    return table(
        ["", "rows per s"], [[name, ", ".join(f"{each:,.0f}" for each in all_)] for name, all_ in seen.items()]
    )


if __name__ == "__main__":
    main()
