#!/usr/bin/env python3
"""The engine's benchmark of two commits in one run: bench_against.py COMMIT [ROUNDS].

Builds engine/examples/bench of COMMIT and of the working tree, runs them in turns, and prints of each row both medians of
medians and their ratio. Turns, because what else a machine does changes from minute to minute.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# A row of measure::print: name, median, two quartiles, ratio.
ROW = re.compile(r"^(\S.*?)\s{2,}([\d.]+)\s+[\d.]+\s+[\d.]+\s+[\d.]+$")


def build(tree, target, into):
    command = ["cargo", "build", "--release", "--workspace", "--exclude", "portcullis-e2e", "--example", "bench"]
    subprocess.run(command, cwd=tree, env=os.environ | {"CARGO_TARGET_DIR": str(target)}, check=True)
    built = [path for path in target.glob("**/release/examples/bench") if path.is_file()]
    if len(built) != 1:
        sys.exit(f"bench_against.py: expected one built example, found {built}")
    shutil.copy(built[0], into)


def measured(program):
    rows = {}
    for line in subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines():
        if found := ROW.match(line):
            rows[found[1]] = float(found[2])
    return rows


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit("usage: bench_against.py COMMIT [ROUNDS]")
    commit, rounds = sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 3
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "bench-against"
    with tempfile.TemporaryDirectory(prefix="portcullis-bench.") as scratch:
        scratch = Path(scratch)
        before = scratch / "before-tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", before, commit], cwd=ROOT, check=True)
        try:
            # Both judge with the same modules.
            shutil.copytree(ROOT / "rules" / "dist", before / "rules" / "dist")
            build(before, target, scratch / "before")
            build(ROOT, target, scratch / "after")
            runs = [(measured(scratch / "before"), measured(scratch / "after")) for _ in range(rounds)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)
    print(f"{'us of CPU, median of ' + str(rounds):<60} {commit:>9} {'now':>9} {'ratio':>7}")
    for name in runs[0][1]:
        if all(name in old for old, _ in runs):
            old, new = (statistics.median(run[at][name] for run in runs) for at in (0, 1))
            print(f"{name:<60} {old:>9.3f} {new:>9.3f} {new / old:>7.2f}")


main()
