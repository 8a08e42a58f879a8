#!/usr/bin/env python3
"""CPU per request of this proxy beside nginx and HAProxy (Debian's), interleaved in one run.

Each proxy has one worker, on a core of its own, in front of one application that answers with so many bytes. What is compared
is CPU time (user and system, from /proc/PID/stat) over requests: machines are shared, and requests per second say nothing. Of
each pair of rounds the ratio is taken, and of the ratios the median.

Needs nginx, haproxy, and wrk (Debian's packages of these names), and the release build of `portcullis`.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
SIZES = {"128 B": 128, "64 KiB": 64 * 1024}
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, log):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended with {process.returncode}: {log.read_text()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    sys.exit(f"{process.args[0]} does not listen on port {port}: {log.read_text()}")


def cpu_seconds(pid):
    """Of a process and its children, so far."""
    total, todo = 0, [pid]
    while todo:
        process = todo.pop()
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
        for task in pathlib.Path(f"/proc/{process}/task").iterdir():
            todo += [int(child) for child in (task / "children").read_text().split()]
    return total / TICKS


class Proxy:
    def __init__(self, name, port, process):
        self.name, self.port, self.process = name, port, process
        self.host = f"127.0.0.1:{port}"


class Bench:
    def __init__(self, folder, seconds, rounds):
        self.folder, self.seconds, self.rounds = folder, seconds, rounds
        self.processes = []

    def start(self, name, port, command, core, env=None):
        log = self.folder / f"{name.replace(' ', '-').replace('/', '-')}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *command], stdout=out, stderr=out, stdin=subprocess.DEVNULL, env=env
            )
        self.processes.append(process)
        wait_for(port, process, log)
        return Proxy(name, port, process)

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def nginx(self, name, port, server, core):
        config = self.folder / f"{name.replace(' ', '-')}.conf"
        config.write_text(
            f"""daemon off; worker_processes 1; pid {config}.pid; error_log stderr error;
            events {{ worker_connections 4096; }}
            http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {self.folder}; proxy_temp_path {self.folder};
              fastcgi_temp_path {self.folder}; uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};
              {server} }}"""
        )
        return self.start(name, port, ["nginx", "-c", str(config)], core)

    def application(self):
        port = free_port()
        site = self.folder / "site"
        site.mkdir()
        for size in SIZES.values():
            (site / str(size)).write_bytes(b"x" * size)
        self.nginx("application", port, f"sendfile on; server {{ listen 127.0.0.1:{port}; root {site}; }}", 1)
        return port

    def proxies(self, upstream, binary):
        port = free_port()
        yield self.nginx(
            "nginx",
            port,
            f"""upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000000; }}
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://app; proxy_http_version 1.1;
              proxy_set_header Connection ""; proxy_set_header Host $host; }} }}""",
            0,
        )
        port = free_port()
        config = self.folder / "haproxy.cfg"
        config.write_text(
            f"""global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
  http-reuse always
frontend in
  bind 127.0.0.1:{port}
  default_backend app
backend app
  server app 127.0.0.1:{upstream}
"""
        )
        yield self.start("haproxy", port, ["haproxy", "-f", str(config), "-db"], 0)
        for rules in (0, 1, 10, 100):
            yield self.portcullis(f"portcullis, {rules} prefiltered", upstream, binary, "bad-bot-blocker-1.0.0.wasm", rules)
        for rules in (1, 20):
            yield self.portcullis(f"portcullis, {rules} evaluated", upstream, binary, "version-probe-v1.wasm", rules)
        for routes in (10, 10_000):
            proxy = self.portcullis(f"portcullis, {routes} routes", upstream, binary, None, 0, routes)
            proxy.host = f"host-{routes // 2}.example"
            yield proxy

    def portcullis(self, name, upstream, binary, module, count, routes=0, env=None):
        port = free_port()
        rules = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        if count:
            shutil.copy(ROOT / "rules/dist" / module, rules / "rule.wasm")
        for number in range(count):
            (rules / f"{number}.yaml").write_text(
                "apiVersion: portcullis.dev/v1alpha1\nkind: WasmRule\n"
                f"metadata: {{name: rule-{number}}}\nspec: {{source: {{file: rule.wasm}}}}\n"
            )
        for first in range(0, routes, 1000):
            # The parser takes 1,024 documents of a file; and to look at thousands of files again and again would be what is measured.
            (rules / f"routes-{first}.yaml").write_text(
                "---\n".join(
                    "apiVersion: portcullis.dev/v1alpha1\nkind: WafRoute\n"
                    f"metadata: {{name: route-{number}}}\nspec:\n  hostnames: [host-{number}.example]\n"
                    f"  rules: [{{backend: {{url: 'http://127.0.0.1:{upstream}'}}}}]\n"
                    for number in range(first, min(routes, first + 1000))
                )
            )
        command = [binary, "serve", "--listen", f"127.0.0.1:{port}", "--upstream", f"http://127.0.0.1:{upstream}"]
        return self.start(name, port, [*command, "--rules", str(rules)], 0, env)

    def round(self, proxy, size):
        """Microseconds of CPU for a request."""
        before = cpu_seconds(proxy.process.pid)
        wrk = ["wrk", "-t1", "-c16", f"-d{self.seconds}s", "-H", f"User-Agent: {BROWSER}", "-H", f"Host: {proxy.host}"]
        output = subprocess.run(
            ["taskset", "-c", "1", *wrk, f"http://127.0.0.1:{proxy.port}/{size}"], capture_output=True, text=True, check=True
        ).stdout
        spent = cpu_seconds(proxy.process.pid) - before
        if "Non-2xx" in output or "Socket errors" in output:
            sys.exit(f"{proxy.name}: expected answers with 200, found\n{output}")
        requests = int(re.search(r"(\d+) requests in", output).group(1))
        return spent * 1e6 / requests

    def compare(self, proxies, base, size):
        """Prints each proxy's cost, and its ratio to the base of the same round."""
        costs = {proxy.name: [] for proxy in proxies}
        for proxy in proxies:
            self.round(proxy, size)  # pools and caches find their size
        for number in range(self.rounds):
            # Another one begins each round.
            turn = number % len(proxies)
            for proxy in proxies[turn:] + proxies[:turn]:
                costs[proxy.name].append(self.round(proxy, size))
        for name, spent in costs.items():
            ratios = [cost / other for cost, other in zip(spent, costs[base])]
            print(
                f"  {name:28} {statistics.median(spent):7.1f} us  {statistics.median(ratios):6.2f}x "
                f"({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", help="release build of portcullis")
    parser.add_argument("--seconds", type=int, default=2, help="of one round of one proxy")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    missing = [tool for tool in ("nginx", "haproxy", "wrk") if not shutil.which(tool)]
    if missing:
        sys.exit(f"expected {', '.join(missing)}, found nothing; run: apt-get install nginx-light haproxy wrk")
    with tempfile.TemporaryDirectory(prefix="portcullis-bench.") as folder:
        bench = Bench(pathlib.Path(folder), args.seconds, args.rounds)
        try:
            upstream = bench.application()
            proxies = list(bench.proxies(upstream, args.binary))
            print(f"CPU per request, HTTP/1.1, keep-alive, one worker; ratios to nginx of the same round, median of {args.rounds}")
            for label, size in SIZES.items():
                print(f" {label}")
                bench.compare(proxies, "nginx", size)
        finally:
            bench.stop()


if __name__ == "__main__":
    main()
