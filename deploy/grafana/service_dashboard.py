"""The service's screen: rate, errors, duration, the queue and the stages."""

from __future__ import annotations

from panels import (
    OF_JOB,
    PREDICTIONS,
    RATE,
    Panel,
    Query,
    dashboard,
    dashed,
    heat_map,
    lines,
    number,
    placed,
    steps,
)

REQUESTS = f"isoserve_request_duration_seconds_count{{{PREDICTIONS}}}"
BUCKETS = f"isoserve_request_duration_seconds_bucket{{{PREDICTIONS}}}"
STAGES = (
    ("queue wait, an image", "isoserve_queue_wait_seconds"),
    ("decoding, an image", "isoserve_decode_duration_seconds"),
    ("inference, a batch", "isoserve_inference_duration_seconds"),
)


def stage_times() -> Panel:
    return lines(
        "Where the time goes",
        "Mean seconds of the stages of a prediction. The one that grew says what to do.",
        "s",
        *(
            Query(
                f"sum(rate({name}_sum{{{OF_JOB}}}{RATE}))"
                f" / sum(rate({name}_count{{{OF_JOB}}}{RATE}))",
                stage,
            )
            for stage, name in STAGES
        ),
    )


def budget(what: str, objective: float) -> str:
    """Part of the error budget of three days that is used up."""
    return f'isoserve:requests_{what}:share{{{OF_JOB}, window="3d"}} / {objective:g}'


def document() -> Panel:
    """The dashboard."""
    failed = REQUESTS.replace("}", ', status=~"5.."}')
    alerts = f'ALERTS{{alertname=~"Isoserve.*", alertstate="firing", {OF_JOB}}}'
    used = {"decimals": 2, **steps(("green", None), ("orange", 0.5), ("red", 1))}
    at_a_glance = [
        (
            6,
            number(
                "Instances up",
                "Instances that answer Prometheus.",
                "none",
                f"sum(up{{{OF_JOB}}})",
                colour="background",
                defaults=steps(("red", None), ("green", 1)),
            ),
        ),
        (
            6,
            number(
                "Predictions a second",
                "Requests for predictions, whatever the answer.",
                "reqps",
                f"sum(rate({REQUESTS}{RATE}))",
            ),
        ),
        (
            6,
            number(
                "Failure budget used",
                "5xx of three days against the 0.1 % that may be; 1 is all of it.",
                "none",
                f"max({budget('failed', 0.001)})",
                colour="background",
                defaults=used,
            ),
        ),
        (
            6,
            number(
                "Slowness budget used",
                "Single predictions over 0.25 s in three days against the 1 % that may be.",
                "none",
                f"max({budget('slow', 0.01)})",
                colour="background",
                defaults=used,
            ),
        ),
    ]
    by_status = lines(
        "Requests by status",
        "Requests for predictions by HTTP status. 4xx is the sender's, 429 the queue's, 5xx ours.",
        "reqps",
        Query(f"sum by (status) (rate({REQUESTS}{RATE}))", "{{status}}"),
        stacked=True,
    )
    errors = lines(
        "Failed requests",
        "Part of the requests for predictions that ended in a 5xx, and the objective.",
        "percentunit",
        Query(
            f"(sum(rate({failed}{RATE})) or vector(0)) / (sum(rate({REQUESTS}{RATE})) > 0)",
            "failed",
        ),
        Query("vector(0.001)", "objective"),
        overrides=[dashed("objective", "red")],
    )
    duration = lines(
        "Duration",
        "Seconds from a prediction request's headers to the end of its answer.",
        "s",
        *(
            Query(f"histogram_quantile({q}, sum by (le) (rate({BUCKETS}{RATE})))", f"{q:.0%}")
            for q in (0.5, 0.95, 0.99)
        ),
    )
    waiting = lines(
        "Waiting images",
        "Images that wait for a slot now, by instance.",
        "short",
        Query(f"isoserve_queue_depth{{{OF_JOB}}}", "{{instance}}"),
    )
    shed = lines(
        "Images turned away",
        "Images a second answered with 429, by the limit they met.",
        "reqps",
        Query(f"sum by (limit) (rate(isoserve_shed_total{{{OF_JOB}}}{RATE}))", "{{limit}}"),
        stacked=True,
    )
    images = lines(
        "Images a second",
        "Images judged, by instance.",
        "reqps",
        Query(f"sum by (instance) (rate(isoserve_images_total{{{OF_JOB}}}{RATE}))", "{{instance}}"),
        stacked=True,
    )
    batches = heat_map(
        "Batch size",
        "Images in one run of the network. Batches grow with the load; always the largest means "
        "that the queue never empties.",
        "none",
        f"sum by (le) (increase(isoserve_batch_size_bucket{{{OF_JOB}}}{RATE}))",
    )
    inference = heat_map(
        "Inference",
        "Seconds of one run of the network, whatever the batch.",
        "s",
        f"sum by (le) (increase(isoserve_inference_duration_seconds_bucket{{{OF_JOB}}}{RATE}))",
    )
    memory = lines(
        "Memory",
        "Resident memory by instance; there is none to show where an instance has several workers.",
        "bytes",
        Query(f"process_resident_memory_bytes{{{OF_JOB}}}", "{{instance}}"),
    )
    processor = lines(
        "Processor",
        "Cores in use by instance; inference is done on as many as there are slots.",
        "none",
        Query(f"rate(process_cpu_seconds_total{{{OF_JOB}}}{RATE})", "{{instance}}"),
    )
    connections = lines(
        "Refused connections",
        "Connections a second that were ended before a request was read, by reason: too many, too "
        "slow, or heads that are too large.",
        "cps",
        Query(
            f"sum by (reason) (rate(isoserve_refused_connections_total{{{OF_JOB}}}{RATE}))"
            " or vector(0)",
            "{{reason}}",
        ),
    )
    return dashboard(
        "isoserve-service",
        "Isoserve service",
        "Is the service quick, whole and keeping up?",
        placed(
            [
                (3, at_a_glance),
                (8, [(8, by_status), (8, errors), (8, duration)]),
                (8, [(8, images), (8, stage_times()), (8, inference)]),
                (8, [(8, waiting), (8, shed), (8, batches)]),
                (6, [(8, memory), (8, processor), (8, connections)]),
            ]
        ),
        variables=["job"],
        alerts=alerts,
    )
