"""The generator: Debian's ``wrk``, posting one image over and over; what it reports, parsed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

SCRIPT = """
local file = io.open("{image}", "rb")
wrk.method = "POST"
wrk.path = "{path}"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = "image/jpeg"
done = function(summary, latency, requests)
  io.write(string.format("RESULT %d %d %d %d %d %d %f %f %f\\n",
    summary.requests, summary.duration, summary.errors.status, summary.errors.connect,
    summary.errors.read + summary.errors.write, summary.errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Load:
    """One run of the generator; milliseconds of latency over all answers."""

    requests: int
    per_second: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: int
    """Answers with a status of 400 and more, and connections that failed."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def drive(port: int, path: str, image: Path, connections: int, seconds: int) -> Load:
    """Post ``image`` to ``path`` in a closed loop over so many connections."""
    script = image.with_suffix(f".{port}.lua")
    script.write_text(SCRIPT.replace("{image}", str(image)).replace("{path}", path))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(script), f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"RESULT (.*)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk said nothing of use: {done.stdout} {done.stderr}")
    numbers = [float(word) for word in found[1].split()]
    requests, microseconds, *errors, p50, p90, p99 = numbers
    return Load(
        requests=int(requests),
        per_second=1e6 * (requests - errors[0]) / microseconds,
        p50_ms=p50 / 1e3,
        p90_ms=p90 / 1e3,
        p99_ms=p99 / 1e3,
        errors=int(sum(errors)),
    )
