"""FastAPI as most write it: one image a call in the thread pool, no batching."""

from __future__ import annotations

import os
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.serving.rivals.pipeline import Pipeline

app = FastAPI()
pipeline = Pipeline()


@app.post("/predict")
async def predict(request: Request) -> dict[str, Any]:
    body = await request.body()
    return await run_in_threadpool(lambda: pipeline.answers([pipeline.decode(body)])[0])


if __name__ == "__main__":
    uvicorn.run(
        "benchmarks.serving.rivals.fastapi_plain:app",
        port=int(os.environ["PORT"]),
        workers=int(os.environ["CORES"]),
        log_level="error",
        access_log=False,
    )
