"""What traces cost: `python -m benchmarks.tracing` (see docs/performance.md for what it needs).

Two installations, with traces and without, answer predict calls at 64 connections in turn, each first in every second
pair. The collector only counts.
"""

import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import median

from benchmarks.realtime import CONNECTIONS
from benchmarks.stand import Load, as_fast_as_possible, table
from fraudsite.tests.deployment import Deployment, deployment


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument(
        "--pairs", type=int, default=9, help="with and without in turn so many times; the median counts"
    )
    parser.add_argument("--share", type=float, default=0.01, help="of the calls that are recorded")
    options = parser.parse_args()

    def busy(site: Deployment) -> Load:
        return as_fast_as_possible(
            f"{site.url}/predict",
            site.rows,
            connections=CONNECTIONS,
            seconds=options.seconds,
            authorization=site.authorization,
        )

    with collector() as (address, received):
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "TRACES_SHARE": options.share}
        with deployment("postgresql") as without, deployment("postgresql", **settings) as traced:
            sites = {"without": without, "traced": traced}
            for site in sites.values():
                busy(site)  # a warm-up
            rows, ratios = [], []
            for number in range(options.pairs):
                order = ["without", "traced"] if number % 2 else ["traced", "without"]
                loads = {name: busy(sites[name]) for name in order}
                ratios.append(loads["traced"].per_s / loads["without"].per_s)
                cells = [f"{load.per_s:,.0f} ({load.p99_ms:.1f}, {load.failed})" for _, load in sorted(loads.items())]
                rows.append([str(number + 1), *cells, f"{ratios[-1]:.3f}"])
                print(" | ".join(rows[-1]), flush=True)
    print(f"\n{CONNECTIONS} connections, a share of {options.share:g} recorded; per s (p99 ms, failed)\n")
    print(table(["pair", "traced", "without", "traced / without"], rows))
    print(f"\ntraced / without, median: {median(ratios):.3f}")
    print(f"Spans: {sum(received):,} bytes in {len(received)} messages")
    if not received and options.share:
        raise SystemExit("No span arrived, so nothing was compared.")


@contextmanager
def collector() -> Iterator[tuple[str, list[int]]]:
    """Takes whatever is sent to it. Gives its address, and the sizes of what came."""
    received: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(len(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", received
    finally:
        server.shutdown()


if __name__ == "__main__":
    main()
