"""The old system's steps, one file after another: gzip 9, both uploads side by side, a row, delete.

Reads its settings as JSON from the file named by its only argument.
"""

import concurrent.futures
import gzip
import json
import os
import sys

import boto3
import psycopg
from botocore.config import Config

settings = json.load(open(sys.argv[1]))


def client(cloud):
    return boto3.client(
        "s3",
        endpoint_url=cloud["endpoint"],
        aws_access_key_id=cloud["id"],
        aws_secret_access_key=cloud["secret"],
        region_name=cloud["region"],
        verify=settings["ca"],
        config=Config(
            s3={"addressing_style": "path"},
            # Neither cloud wants them, and they take time.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


clouds = [(client(cloud), cloud["bucket"]) for cloud in settings["clouds"]]
catalog = psycopg.connect(settings["catalog"], autocommit=True)
catalog.execute(
    "CREATE TABLE wal_backups (id bigserial PRIMARY KEY, filename text UNIQUE,"
    " size_bytes bigint, compressed_bytes bigint, r2_path text, b2_path text, status text,"
    " created_at timestamptz DEFAULT now())"
)


def put(cloud, key, body):
    s3, bucket = cloud
    s3.put_object(Bucket=bucket, Key=key, Body=body)


with concurrent.futures.ThreadPoolExecutor(len(clouds)) as pool:
    for name in sorted(os.listdir(settings["directory"])):
        path = os.path.join(settings["directory"], name)
        with open(path, "rb") as file:
            plain = file.read()
        packed = gzip.compress(plain, compresslevel=9, mtime=0)
        key = f"{settings['prefix']}{name}.gz"
        uploads = [pool.submit(put, cloud, key, packed) for cloud in clouds]
        for upload in uploads:
            upload.result()
        catalog.execute(
            "INSERT INTO wal_backups"
            " (filename, size_bytes, compressed_bytes, r2_path, b2_path, status)"
            " VALUES (%s, %s, %s, %s, %s, 'COMPLETED')",
            (name, len(plain), len(packed), key, key),
        )
        os.unlink(path)

print(f"Python {sys.version.split()[0]}, boto3 {boto3.__version__}")
