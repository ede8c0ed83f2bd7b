"""Credentials are told by their formats; hashes, placeholders and examples are none.

The samples are drawn by lot here: a file of this repository holds none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import time

import pytest

from blocks.credentials import find_credentials

LUCK = random.Random(7)
LETTERS = string.ascii_letters + string.digits


def lot(length: int, alphabet: str = LETTERS) -> str:
    return "".join(LUCK.choices(alphabet, k=length))


def in_json(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def pem(kind: str = "RSA ", end: str = "\n") -> str:
    body = end.join(lot(64) for _ in range(4))
    return f"-----BEGIN {kind}PRIVATE KEY-----{end}{body}{end}-----END {kind}PRIVATE KEY-----"


UPPER = string.ascii_uppercase + "234567"
SAMPLES = [
    ("AWS access key", "AKIA" + lot(16, UPPER)),
    ("AWS secret key", f"aws_secret_access_key = {lot(39)}/"),
    ("AWS secret key", f'"SecretAccessKey": "{lot(40)}"'),
    ("GitHub token", "ghp_" + lot(36)),
    ("GitHub token", "ghs_" + lot(36)),
    ("GitHub token", f"github_pat_{lot(22)}_{lot(59)}"),
    ("GitLab token", "glpat-" + lot(20)),
    ("GitLab token", f"glpat-{lot(27)}.01.{lot(9)}"),
    ("Slack token", f"xoxb-{lot(12, string.digits)}-{lot(12, string.digits)}-{lot(24)}"),
    (
        "Slack webhook",
        f"https://hooks.slack.com/services/T{lot(8, UPPER)}/B{lot(8, UPPER)}/{lot(24)}",
    ),
    ("Stripe key", "sk_live_" + lot(24)),
    ("OpenAI key", f"sk-{lot(20)}T3BlbkFJ{lot(20)}"),
    ("OpenAI key", f"sk-proj-{lot(74)}T3BlbkFJ{lot(74)}"),
    ("Anthropic key", f"sk-ant-api03-{lot(93)}AA"),
    ("Google API key", "AIza" + lot(35)),
    ("npm token", "npm_" + lot(36)),
    ("PyPI token", f"pypi-AgEIcHlwaS5vcmc{lot(120)}"),
    ("Hugging Face token", "hf_" + lot(34)),
    ("DigitalOcean token", "dop_v1_" + lot(64, "0123456789abcdef")),
    ("SendGrid key", f"SG.{lot(22)}.{lot(43)}"),
    ("Azure storage key", f"AccountKey={lot(86)}=="),
    ("JSON web token", f"{in_json({'alg': 'HS256'})}.{in_json({'sub': '1'})}.{lot(43)}"),
    ("private key", pem()),
    ("private key", pem("", "\r\n")),
    ("private key", pem("OPENSSH ", "\\n")),
    ("password in a URL", f"postgres://app:{lot(12)}@db.corp.io/app"),
]


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
@pytest.mark.parametrize(
    "around", ["{}", "key = '{}'\n", "X={}\r\nY=1", "# {} pragma: allowlist secret", '["{}"]']
)
def test_each_format_is_told_wherever_it_stands(kind: str, sample: str, around: str) -> None:
    text = around.format(sample).encode()
    (found,) = find_credentials(text)
    assert found.kind == kind
    assert found.value in text[found.start : found.end]


@pytest.mark.parametrize(("kind", "sample"), SAMPLES)
def test_what_it_is_stays_out_of_its_repr(kind: str, sample: str) -> None:
    (found,) = find_credentials(sample.encode())
    assert found.value.decode() not in repr(found)


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "AKIA" + "X" * 16,
        "ghp_" + "x" * 36,
        "ghp_1234567890abcdefghijklmnopqrstuvwxyz",
        "ghp_" + lot(20),
        lot(10) + "ghp_" + lot(36),
        "sk_test_" + lot(24),
        "aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']",
        "aws_secret_access_key: " + hashlib.sha1(b"x").hexdigest(),
        "git_sha = " + hashlib.sha256(b"x").hexdigest(),
        "eyJ" + lot(30) + ".eyJ" + lot(30) + "." + lot(40),
        f"{in_json({'alg': 'none'})}.{in_json({'sub': '1'})}.",
        "if text.startswith('-----BEGIN RSA PRIVATE KEY-----'):",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        "-----BEGIN PUBLIC KEY-----\n" + lot(64),
        "postgres://user:password@db.corp.io/app",
        "postgres://app:${DB_LOGIN}@db.corp.io/app",
        "postgres://app:hunter2hunter2@localhost/app",
        "postgres://app:hunter2hunter2@db:5432/app",
        "https://bob:hunter2hunter2@example.com/",
        "git@github.com:acme/rocket.git",
    ],
)
def test_placeholders_examples_and_hashes_are_none(text: str) -> None:
    assert not [*find_credentials(text.encode())]


def test_lock_files_and_test_data_are_innocent() -> None:
    digests = [hashlib.sha512(str(i).encode()).digest() for i in range(300)]
    lines = [f'"integrity": "sha512-{base64.b64encode(d).decode()}",' for d in digests]
    lines += [f"    --hash=sha256:{d.hex()[:64]} \\" for d in digests]
    lines += [f"data:image/png;base64,{base64.b64encode(b''.join(digests)).decode()}"]
    assert not [*find_credentials("\n".join(lines).encode())]


@pytest.mark.parametrize(
    "piece",
    [
        "eyJ",
        "eyJaaaaaaaaaa.",
        "sk-",
        "sk-T3BlbkFJ",
        "://a:",
        "://a:aaaaaaa@b.",
        "-----BEGIN A A A ",
        "-----BEGIN PRIVATE KEY-----",
        "secret_access_key",
    ],
)
def test_the_time_is_linear_in_a_line(piece: str) -> None:
    """Each takes some 10 ms; one that begins anew within a word takes seconds."""
    text = (piece * 100_000)[:300_000].encode()
    began = time.process_time()
    assert not [*find_credentials(text)]
    assert time.process_time() - began < 0.3
