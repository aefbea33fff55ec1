"""The generator: Debian's ``wrk``, posting the same bodies over and over; its report, parsed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

SCRIPT = """
local bodies = {{}}
for number = 1, {count} do
  bodies[number] = io.open("{folder}/" .. number, "rb"):read("*a")
end
wrk.method = "POST"
wrk.path = "{path}"
wrk.body = bodies[1]
{headers}
{pause}
if #bodies > 1 then
  local requests, last = {{}}, 0
  init = function()
    for number, body in ipairs(bodies) do
      requests[number] = wrk.format(nil, nil, nil, body)
    end
  end
  request = function()
    last = last % #requests + 1
    return requests[last]
  end
end
local threads = {{}}
setup = function(thread) table.insert(threads, thread) end
refused = 0
response = function(status)
  if status == 429 then refused = refused + 1 end
end
done = function(summary, latency, requests)
  local refusals = 0
  for _, thread in ipairs(threads) do refusals = refusals + thread:get("refused") end
  io.write(string.format("RESULT %d %d %d %d %d %d %d %f %f %f\\n",
    refusals, summary.requests, summary.duration,
    summary.errors.status, summary.errors.connect,
    summary.errors.read + summary.errors.write, summary.errors.timeout,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Post:
    """What is posted, and where."""

    path: str
    bodies: Sequence[bytes]
    """In turn."""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "image/jpeg"})


@dataclass(frozen=True)
class Load:
    """One run of the generator; milliseconds of latency over all answers."""

    requests: int
    answered: int
    """Of them with a status below 400."""
    per_second: float
    """Answers with a status below 400."""
    p50_ms: float
    p90_ms: float
    p99_ms: float
    errors: int
    """Answers with a status of 400 and more but 429, and connections that failed."""
    refused: int
    """Answers of 429: by the server's own limits."""

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def drive(port: int, post: Post, connections: int, seconds: int, *, pause_ms: int = 0) -> Load:
    """Post in a closed loop over so many connections.

    What is answered with 429 is posted again at once, or after the pause that a connection makes
    before each request, so that a server that refuses answers many times as many requests as one
    that lets them wait.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    with tempfile.TemporaryDirectory() as folder:
        script = _script(post, Path(folder), pause_ms)
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
    refused, requests, microseconds, *errors, p50, p90, p99 = numbers
    answered = requests - errors[0]
    return Load(
        requests=int(requests),
        answered=int(answered),
        per_second=1e6 * answered / microseconds,
        p50_ms=p50 / 1e3,
        p90_ms=p90 / 1e3,
        p99_ms=p99 / 1e3,
        errors=int(sum(errors) - refused),
        refused=int(refused),
    )


def refused(load: Mapping[str, float]) -> int:
    """Answers of 429 in a load of a file; older files have them among the errors."""
    return int(load.get("refused", 0))


def _script(post: Post, folder: Path, pause_ms: int) -> Path:
    for number, body in enumerate(post.bodies, 1):
        (folder / str(number)).write_bytes(body)
    headers = "\n".join(f'wrk.headers["{key}"] = "{value}"' for key, value in post.headers.items())
    script = folder / "post.lua"
    script.write_text(
        SCRIPT.format(
            count=len(post.bodies),
            folder=folder,
            path=post.path,
            headers=headers,
            pause=f"delay = function() return {pause_ms} end" if pause_ms else "",
        )
    )
    return script
