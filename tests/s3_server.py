"""A real S3 server over loopback, moto's, that can die and return with what it holds."""

from __future__ import annotations

import logging
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

BUCKET = "models"


class S3Server:
    """Listens from the start; ``environment`` is what a client of it needs."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        _, self._port = self._server.get_host_and_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}),
        )
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def list_keys(self) -> list[str]:
        """Of all objects."""
        listing = self.client.list_objects_v2(Bucket=BUCKET)
        return [each["Key"] for each in listing.get("Contents", [])]

    def die(self) -> None:
        """Listen no more."""
        self._server.stop()

    def come_back(self) -> None:
        """Listen again, on the same port and with the same objects."""
        self._server = ThreadedMotoServer("127.0.0.1", self._port, verbose=False)
        self._server.start()
