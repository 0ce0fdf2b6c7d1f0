"""Makes the calls of a token rotation as a cron script would: requests for Meta's Graph API, boto3 for AWS Secrets Manager.

The task comes as JSON on standard input: addresses, tokens, and how many calls of each kind one rotation makes. One session and one
client serve all rotations, which is the best case for a script. What is printed: CPU and time of the calls alone, and of the start.
"""

import hashlib
import hmac
import json
import os
import resource
import sys
import time
import uuid

import boto3
import requests
from botocore.config import Config

VERSION = "v26.0"


class Script:
    def __init__(self, task):
        self.graph = task["graph"]
        self.app, self.app_secret = task["app"], task["app_secret"]
        self.session = requests.Session()
        self.session.trust_env = False
        self.manager = boto3.client(
            "secretsmanager",
            endpoint_url=task["manager"],
            region_name="eu-west-1",
            aws_access_key_id="AKIAEMULATOR",
            aws_secret_access_key="secret",
            config=Config(retries={"total_max_attempts": 1}),
        )
        self.made = 0

    def get(self, path, token, **params):
        proof = hmac.new(self.app_secret.encode(), token.encode(), hashlib.sha256).hexdigest()
        params["appsecret_proof"] = proof
        headers = {"Authorization": f"Bearer {token}"}
        return self.answer(self.session.get(f"{self.graph}/{VERSION}/{path}", params=params, headers=headers, timeout=30))

    def answer(self, response):
        self.made += 1
        response.raise_for_status()
        return response.json()

    def refresh(self, token):
        params = {
            "grant_type": "fb_exchange_token",
            "client_id": self.app,
            "client_secret": self.app_secret,
            "set_token_expires_in_60_days": "true",
            "fb_exchange_token": token,
        }
        response = self.session.get(f"{self.graph}/{VERSION}/oauth/access_token", params=params, timeout=30)
        return self.answer(response)["access_token"]

    def introspect(self, token):
        headers = {"Authorization": f"Bearer {self.app}|{self.app_secret}"}
        params = {"input_token": token}
        response = self.session.get(f"{self.graph}/{VERSION}/debug_token", params=params, headers=headers, timeout=30)
        assert self.answer(response)["data"]["is_valid"]

    def aws(self, call, **arguments):
        self.made += 1
        return call(**arguments)

    def rotate(self, token, calls):
        count = lambda kind: calls.get(kind, 0)
        secret = token["secret"]
        for _ in range(count("DescribeSecret")):
            self.aws(self.manager.describe_secret, SecretId=secret)
        new = token["text"]
        for _ in range(count("refresh")):
            new = self.refresh(token["text"])
        for _ in range(count("introspect")):
            self.introspect(new)
        for _ in range(count("me")):
            self.get("me", new, fields="id")
        labels = []
        for number in range(count("PutSecretValue")):
            version, label = str(uuid.uuid4()), f"script-{number}"
            self.aws(
                self.manager.put_secret_value,
                SecretId=secret,
                ClientRequestToken=version,
                SecretString=new,
                VersionStages=[label],
            )
            labels.append((label, version))
        for _ in range(count("GetSecretValue")):
            self.aws(self.manager.get_secret_value, SecretId=secret, VersionStage="AWSCURRENT")
        moves = count("UpdateSecretVersionStage")
        for label, version in labels[:moves]:
            self.aws(
                self.manager.update_secret_version_stage,
                SecretId=secret,
                VersionStage=label,
                RemoveFromVersionId=version,
            )
        versions = [version for _, version in labels] or [None]
        for number in range(moves - min(moves, len(labels))):
            label = f"mark-{number}"
            self.aws(
                self.manager.update_secret_version_stage,
                SecretId=secret,
                VersionStage=label,
                MoveToVersionId=versions[-1],
            )


def main():
    task = json.load(sys.stdin)
    known = {"DescribeSecret", "refresh", "introspect", "me", "PutSecretValue", "GetSecretValue", "UpdateSecretVersionStage"}
    unknown = {kind for kind, count in task["calls"].items() if count} - known
    if unknown:
        sys.exit(f"the script does not make these calls: {sorted(unknown)}")
    script = Script(task)
    started, kernel = time.process_time(), os.times().system
    wall = time.monotonic()
    for token in task["tokens"]:
        script.rotate(token, task["calls"])
    print(
        json.dumps(
            {
                "rotations": len(task["tokens"]),
                "calls": script.made,
                "cpu_s": time.process_time() - started,
                "kernel_s": os.times().system - kernel,
                "wall_s": time.monotonic() - wall,
                "start_cpu_s": started,
                "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    )


main()
