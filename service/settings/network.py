"""Where the server listens, who may ask it, and how much it takes in."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from isoserve.service.environment import EnvironmentModel
from isoserve.service.settings.seconds import Seconds


class NetworkSettings(EnvironmentModel):
    """A part of ``Settings``."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    grpc_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port for the Open Inference Protocol over gRPC; 0 means none.",
    )
    token_file: Path | None = Field(
        None,
        description="File of bearer tokens, one a line, read again when it changes; with none, "
        "every request is answered. A line is TOKEN, or NAME ROLE TOKEN with the roles predict, "
        "review and manage, commas between several; a TOKEN alone may predict and manage.",
    )
    allowed_hosts: str = Field(
        "",
        description="Names that requests may call this server by, with commas between them; "
        "*.example.com takes any below it, * any at all. Empty: on a loopback address browsers and "
        "management may only use localhost or an address, elsewhere all but browsers that manage "
        "may use any.",
    )
    cors_origins: str = Field(
        "",
        description="Origins of other sites whose pages may ask this server, such as "
        "https://example.com, with commas between them; * is any. They cannot manage it.",
    )
    open_paths: str = Field(
        "/healthz/,/v2/health/,/metrics,/,/web/,/review",
        description="Beginnings of the paths that need no token, with commas between them; / is "
        "the page alone, which asks for a token itself.",
    )
    max_body_bytes: int = Field(
        20 * 2**20, ge=1, description="Largest body of a request with one image."
    )
    max_batch_body_bytes: int = Field(
        100 * 2**20, ge=1, description="Largest body of a request with several images."
    )
    max_batch_images: int = Field(64, ge=1, description="Most images in one batch request.")
    body_seconds: Seconds = Field(
        15.0, description="A body that has not arrived whole after this long is cut off."
    )
    held_body_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="Most bytes of all bodies in memory together, over HTTP and gRPC; beyond it "
        "requests get 429. Compressed bodies may be inflated to a quarter of it. The parts of a "
        "batch's body are held beside it.",
    )
    max_connections: int = Field(
        4096, ge=1, description="Most connections at a time; beyond it they get 503."
    )
    max_header_bytes: int = Field(
        16 * 2**10, ge=256, description="Largest request line and headers together."
    )
    header_seconds: Seconds = Field(
        10.0, description="Headers that have not arrived whole after this long are cut off."
    )
    idle_seconds: Seconds = Field(
        75.0,
        description="A connection without a request is closed after this long, and so is one whose "
        "answers are not taken.",
    )
    grace_seconds: Seconds = Field(
        20.0,
        description="After SIGTERM, how long requests that are being answered may still take.",
    )
