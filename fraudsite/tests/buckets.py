"""A pytest plugin with a real S3 server, on this machine, and a bucket of each test's own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import BotoCoreError

from fraudsite.testing import PROCESS_START_S, free_port

KEYS = {"key": "key", "secret": "secret"}


@contextmanager
def server() -> Iterator[str]:
    """Run an S3 server. Gives its address."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    give_up = time.monotonic() + PROCESS_START_S
    try:
        while True:
            try:
                client_of(address).list_buckets()
                break
            except BotoCoreError:
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of an S3 server of the tests' own."""
    with server() as address:
        yield address


@pytest.fixture
def bucket(s3_address: str, settings: Any) -> "Bucket":
    """A new bucket, which is the store."""
    made = Bucket(s3_address)
    settings.STORAGE_URL = made.environment["STORAGE_URL"]
    settings.STORAGE_OPTIONS = {"endpoint": s3_address} | KEYS
    return made


class Bucket:
    """A new bucket, as others see it."""

    def __init__(self, address: str) -> None:
        self.client, self.name = client_of(address), f"payments-{uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=self.name)
        self.environment = {
            "STORAGE_URL": f"s3://{self.name}/of/fraudsite",
            "STORAGE_ENDPOINT": address,
            "STORAGE_KEY": KEYS["key"],
            "STORAGE_SECRET": KEYS["secret"],
        }

    def names(self, folder: str) -> set[str]:
        """The names of what is in a folder of the store."""
        prefix = "of/fraudsite/"
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=f"{prefix}{folder}/").get("Contents", [])
        return {each["Key"].removeprefix(prefix) for each in found}


def client_of(address: str) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=address,
        aws_access_key_id=KEYS["key"],
        aws_secret_access_key=KEYS["secret"],
        region_name="us-east-1",
    )
