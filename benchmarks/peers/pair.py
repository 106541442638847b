"""Race workers fairly on a busy machine: all start, warm up, then take turns (A B C A B C ...).

  python pair.py [--rounds 5] [--inner 1] -- CMD A ::: CMD B ::: CMD C
Each command must speak the --serve protocol (READY json; then for a line 'N' answer a JSON list of N [wall, cpu] seconds).
Prints per worker the median and least wall and CPU seconds and their ratios to the first worker. On a machine
that others use too, run one thread per worker and trust the CPU seconds.
"""

import argparse
import json
import statistics
import subprocess
import sys

ap = argparse.ArgumentParser()
ap.add_argument("--rounds", type=int, default=5)
ap.add_argument("--inner", type=int, default=1)
ap.add_argument("rest", nargs=argparse.REMAINDER)
a = ap.parse_args()
words, cmds = [w for w in a.rest if w != "--"], [[]]
for w in words:
    cmds.append([]) if w == ":::" else cmds[-1].append(w)

workers = []
for c in cmds:
    p = subprocess.Popen(
        c,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for line in p.stdout:
        if line.startswith("READY "):
            workers.append((p, json.loads(line[6:]), []))
            break
    else:
        print("failed:", " ".join(c), file=sys.stderr)
for _ in range(a.rounds):
    for p, _, times in workers:
        p.stdin.write(f"{a.inner}\n")
        p.stdin.flush()
        times += json.loads(p.stdout.readline())
first = None
for p, meta, times in workers:
    with open(f"/proc/{p.pid}/status") as f:
        meta["peak_rss_mb"] = next(
            int(l.split()[1]) // 1024 for l in f if l.startswith("VmHWM")
        )
    p.stdin.close()
    wall, cpu = zip(*times)
    m = dict(
        median_step_s=statistics.median(wall),
        min_step_s=min(wall),
        median_cpu_s=statistics.median(cpu),
        min_cpu_s=min(cpu),
    )
    first = first or m
    meta.update(
        {k: round(v, 4) for k, v in m.items()},
        ratio_wall=round(m["median_step_s"] / first["median_step_s"], 3),
        ratio_cpu=round(m["median_cpu_s"] / first["median_cpu_s"], 3),
    )
    print(json.dumps(meta), flush=True)
