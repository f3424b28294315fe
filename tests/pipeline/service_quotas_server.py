"""Service Quotas as AWS documents it, played by the tests' own server: moto's knows the quotas of VPC only.

Source: AWS, "Service Quotas API Reference" (GetServiceQuota, GetAWSDefaultServiceQuota, common errors) and the JSON 1.1
protocol. Signatures are checked with botocore's own signer. Nothing here was compared with AWS itself.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


@dataclass
class ServiceQuotas:
    """Applied and default values of EC2's quotas by code. `refuse` is an error that every request gets."""

    applied: dict[str, float] = field(default_factory=dict)
    default: dict[str, float] = field(default_factory=dict)
    refuse: tuple[int, str] | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def running(self) -> Iterator["ServiceQuotas"]:
        """Serve on a free port of this machine."""
        state = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                """Be silent."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, answer = state._answer(self, body)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield self
            server.shutdown()

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, Any]]:
        if self.refuse is not None:
            return self.refuse[0], {"__type": self.refuse[1], "Message": "told to refuse"}
        if not _signed(request, self.url, body):
            return 400, {"__type": "InvalidSignatureException", "Message": "the signature does not match"}
        target, _, operation = request.headers["x-amz-target"].partition(".")
        asked = json.loads(body)
        self.asked.append((operation, asked))
        values = {"GetServiceQuota": self.applied, "GetAWSDefaultServiceQuota": self.default}.get(operation)
        if target != "ServiceQuotasV20190624" or values is None:
            return 400, {"__type": "UnknownOperationException"}
        code = asked["QuotaCode"]
        if asked["ServiceCode"] != "ec2" or code not in values:
            return 400, {
                "__type": "NoSuchResourceException",
                "Message": "The request failed because the specified service is not available.",
            }
        return 200, {
            "Quota": {
                "ServiceCode": "ec2",
                "QuotaCode": code,
                "Value": values[code],
                "Unit": "None",
                "Adjustable": True,
            }
        }


def _signed(request: BaseHTTPRequestHandler, url: str, body: bytes) -> bool:
    said = request.headers["authorization"]
    names = said.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    region = said.partition("Credential=")[2].split("/")[2]
    again = AWSRequest("POST", f"{url}/", data=body, headers={name: request.headers[name] for name in names})
    again.context["timestamp"] = request.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY, SECRET), "servicequotas", region)
    text = signer.string_to_sign(again, signer.canonical_request(again))
    return bool(said.endswith(f"Signature={signer.signature(text, again)}"))
