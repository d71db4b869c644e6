"""How long `reid verify a.jpg b.jpg` takes from nothing, and where the time goes.

    python benchmarks/cold_verify.py [--runs 20] [--model NAME]

Draws two crops and compares them in processes of their own: the command as it is typed, and a process that takes the
same steps and looks at the clock after each. Medians in milliseconds; files are in the system's cache, nothing of reid
is running. "python" is a process that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from reid.engines.choice import processor
from reid.street import draw_street

STEPS = """
import sys, time
clock = [("", time.perf_counter())]
done = lambda what: clock.append((what, time.perf_counter()))
import reid.cli
done("import the command line")
import numpy
done("import numpy")
import reid.images
done("import cv2, Pillow and simplejpeg")
import onnxruntime
done("import onnxruntime")
import reid.reid, reid.data
done("import the rest")
model = reid.reid.ReId(sys.argv[1], threads=1)
done("open the model and its calibration, try it on one picture")
pair = [tuple(reid.data.read(path)[0] for path in sys.argv[2:4])]
done("look at what was given")
model.verify(pair)
done("decode, embed and judge")
import json
print(json.dumps({what: 1000 * (at - before) for (_, before), (what, at) in zip(clock, clock[1:])}))
"""


def wall(command: list[str]) -> tuple[float, str]:
    started = time.perf_counter()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return 1000 * (time.perf_counter() - started), out


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--runs", type=int, default=20)
    parse.add_argument("--model", default="general")
    args = parse.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        a, b = (crop.path for crop in draw_street(Path(folder) / "street", people=2)[:2])
        whole, nothing, steps = [], [], []
        for _ in range(args.runs + 1):
            whole.append(wall([sys.executable, "-m", "reid", "verify", a, b, "--model", args.model])[0])
            nothing.append(wall([sys.executable, "-c", ""])[0])
            steps.append(json.loads(wall([sys.executable, "-c", STEPS, args.model, a, b])[1]))
    print(
        json.dumps(
            {
                "processor": processor(),
                "cores": os.cpu_count(),
                "reid verify a.jpg b.jpg, ms": round(statistics.median(whole[1:])),
                "python, ms": round(statistics.median(nothing[1:])),
                "steps, ms": {name: round(statistics.median(s[name] for s in steps[1:]), 1) for name in steps[0]},
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
