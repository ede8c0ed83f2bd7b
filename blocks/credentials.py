"""Credentials in text, told by the published formats of those who give them out.

A small table of our own, after a look at what there is (November 2026): detect-secrets has had no
release since May 2024 and its regular expression for JSON web tokens takes quadratic time; the kept
fork, bc-detect-secrets, knows neither GitLab's nor OpenAI's nor fine-grained GitHub tokens;
CredSweeper brings a machine learning runtime; Kingfisher is kept and good, but compiles its rules
for seconds in each process. Here nothing is guessed from entropy: that finds hashes.

Time is linear in the text: each expression begins with a literal at which no word goes on, and
repeats no more often than a credential is long.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """Where in a text a credential is, in bytes; what it is stays out of logs and its `repr`."""

    kind: str
    start: int
    end: int
    value: bytes

    def __repr__(self) -> str:
        return f"Credential({self.kind}, {self.start}, {self.end})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """`value` begins with one of `prefixes`; group 1 of it is what only chance would make up."""

    kind: str
    prefixes: tuple[bytes, ...]
    value: bytes
    source: str


_FORMATS = (
    _Format(
        kind="AWS access key",
        prefixes=(b"AKIA", b"ASIA"),
        value=rb"([A-Z2-7]{16})",
        source="docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html",
    ),
    _Format(
        kind="GitHub token",
        prefixes=(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"),
        value=rb"([A-Za-z0-9]{36,255})",
        source="github.blog/2021-04-05-behind-githubs-new-authentication-token-formats",
    ),
    _Format(
        kind="GitHub token",
        prefixes=(b"github_pat_",),
        value=rb"([A-Za-z0-9]{22}_[A-Za-z0-9]{59})",
        source="docs.github.com/code-security/secret-scanning; gitleaks, github-fine-grained-pat",
    ),
    _Format(
        kind="GitLab token",
        prefixes=(
            b"glpat-",
            b"gldt-",
            b"glrt-",
            b"glcbt-",
            b"glptt-",
            b"glft-",
            b"gloas-",
            b"glsoat-",
            b"glimt-",
            b"glagent-",
        ),
        value=rb"([\w-]{20,300})(?:\.[\w-]{2,20}){0,3}",
        source="docs.gitlab.com/security/tokens/#token-prefixes",
    ),
    _Format(
        kind="Slack token",
        prefixes=(b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-", b"xoxe-", b"xapp-"),
        value=rb"(\d[\w-]{19,300})",
        source="docs.slack.dev/authentication/tokens",
    ),
    _Format(
        kind="Slack webhook",
        prefixes=(b"hooks.slack.com/services/",),
        value=rb"T[A-Z0-9]{7,14}/B[A-Z0-9]{7,14}/([A-Za-z0-9]{20,40})",
        source="docs.slack.dev/messaging/sending-messages-using-incoming-webhooks",
    ),
    _Format(
        kind="Stripe key",
        prefixes=(b"sk_live_", b"rk_live_"),
        value=rb"([A-Za-z0-9]{16,247})",
        source="docs.stripe.com/keys",
    ),
    _Format(
        kind="OpenAI key",
        prefixes=(b"sk-",),
        value=rb"([\w-]{20,160}T3BlbkFJ[\w-]{20,160})",
        source="gitleaks, openai-api-key (`T3BlbkFJ` is OpenAI in base 64)",
    ),
    _Format(
        kind="Anthropic key",
        prefixes=(b"sk-ant-",),
        value=rb"[a-z]{3,5}\d\d-([\w-]{80,200})",
        source="gitleaks, anthropic-api-key and anthropic-admin-api-key",
    ),
    _Format(
        kind="Google API key",
        prefixes=(b"AIza",),
        value=rb"([\w-]{35})",
        source="cloud.google.com/docs/authentication/api-keys; gitleaks, gcp-api-key",
    ),
    _Format(
        kind="npm token",
        prefixes=(b"npm_",),
        value=rb"([A-Za-z0-9]{36})",
        source="github.blog/changelog/2021-09-23-npm-has-a-new-access-token-format",
    ),
    _Format(
        kind="PyPI token",
        prefixes=(b"pypi-AgEIcHlwaS5vcmc", b"pypi-AgENdGVzdC5weXBpLm9yZw"),
        value=rb"([\w-]{50,1000})",
        source="the package index's documentation of API secrets: a macaroon of its location",
    ),
    _Format(
        kind="Hugging Face token",
        prefixes=(b"hf_",),
        value=rb"([A-Za-z0-9]{34})",
        source="gitleaks, huggingface-access-token",
    ),
    _Format(
        kind="DigitalOcean token",
        prefixes=(b"dop_v1_", b"doo_v1_", b"dor_v1_"),
        value=rb"([a-f0-9]{64})",
        source="docs.digitalocean.com/reference/api/create-personal-access-token",
    ),
    _Format(
        kind="SendGrid key",
        prefixes=(b"SG.",),
        value=rb"([\w-]{22}\.[\w-]{43})",
        source="gitleaks, sendgrid-api-token",
    ),
    _Format(
        kind="Azure storage key",
        prefixes=(b"AccountKey=",),
        value=rb"([A-Za-z0-9+/]{86}==)",
        source="learn.microsoft.com/azure/storage/common/storage-configure-connection-string",
    ),
)

_FEWEST_BYTES, _FEWEST_DISTINCT = 16, 6
_MOST_BYTES_TO_A_KEY = 600
_AWS_SECRET = re.compile(
    rb"secret_?access_?key[\"']?\s{0,8}(?:=>|:=|[:=])\s{0,8}[\"']?"
    rb"([a-z0-9/+]{40})(?![a-z0-9/+=])",
    re.IGNORECASE,
)
_JWT = re.compile(
    rb"eyJ(?<![\w-]eyJ)([\w-]{10,4000})\.(eyJ[\w-]{5,8000})\.([\w-]{20,1500})(?![\w-])"
)
_PRIVATE_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BODY = re.compile(rb"[A-Za-z0-9+/]{32,}")
_URL = re.compile(
    rb"://([\w.~%+-]{1,64}):([^\s/:?#@\[\]\"'`\\]{6,128})@((?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24})(?![\w.-])"
)
_PLACEHOLDER = re.compile(rb"[<>{}$*%()]|^x+$|pass|pwd|secret|token|change|example|your|dummy")
_RESERVED = re.compile(
    rb"(?:^|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|local)$", re.IGNORECASE
)


def find_credentials(text: bytes) -> Iterator[Credential]:
    """Find credentials in a text, kind by kind; what is plainly made up for an example is none."""
    for search in (_known_formats, _aws_secrets, _tokens_in_json, _private_keys, _in_urls):
        yield from search(text)


def _prepared() -> list[tuple[bytes, str, re.Pattern[bytes]]]:
    """Compile the table; with a literal first and what may not come before it looked at after."""
    return [
        (
            prefix,
            each.kind,
            re.compile(
                re.escape(prefix)
                + rb"(?<![\w-]"
                + re.escape(prefix)
                + rb")"
                + each.value
                + rb"(?![\w-])"
            ),
        )
        for each in _FORMATS
        for prefix in each.prefixes
    ]


_PREPARED = _prepared()


def _known_formats(text: bytes) -> Iterator[Credential]:
    for prefix, kind, regex in _PREPARED:
        if prefix in text:
            yield from _matches(text, kind, regex, lambda found: _is_by_chance(found[1]))


def _matches(
    text: bytes,
    kind: str,
    regex: re.Pattern[bytes],
    is_one: Callable[[re.Match[bytes]], bool],
) -> Iterator[Credential]:
    for found in regex.finditer(text):
        if is_one(found):
            yield Credential(kind=kind, start=found.start(), end=found.end(), value=found[0])


def _is_by_chance(value: bytes) -> bool:
    """Whether a value may be drawn by lot: not `xxxxxxxx`, not `12345678`, no example."""
    n_steps = sum(right - left in {0, 1} for left, right in pairwise(value))
    return (
        len(set(value)) >= min(_FEWEST_DISTINCT, len(value))
        and n_steps * 2 < len(value)
        and b"example" not in value.lower()
    )


def _aws_secrets(text: bytes) -> Iterator[Credential]:
    """A secret access key looks like any other text: it is one where it is called one."""
    lowered = text.lower()
    if b"access_key" not in lowered and b"accesskey" not in lowered:
        return
    for found in _AWS_SECRET.finditer(text):
        if _is_by_chance(found[1]) and not re.fullmatch(rb"[0-9a-f]+", found[1]):
            yield Credential(
                kind="AWS secret key", start=found.start(), end=found.end(), value=found[1]
            )


def _tokens_in_json(text: bytes) -> Iterator[Credential]:
    """Source: RFC 7519; header and payload are JSON, and there is a signature."""
    if b"eyJ" in text:
        yield from _matches(text, "JSON web token", _JWT, _is_web_token)


def _is_web_token(found: re.Match[bytes]) -> bool:
    head = _json_in(b"eyJ" + found[1])
    return head is not None and "alg" in head and _json_in(found[2]) is not None


def _json_in(part: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _private_keys(text: bytes) -> Iterator[Credential]:
    """A header with something of a key behind it; code that looks for headers has none.

    Source: RFC 7468, RFC 4880 section 6.2.
    """
    for found in _PRIVATE_KEY.finditer(text):
        near = text[found.end() : found.end() + _MOST_BYTES_TO_A_KEY].partition(b"-----")[0]
        body = _KEY_BODY.search(near)
        if body and _is_by_chance(body[0]):
            end = found.end() + body.end()
            yield Credential(kind="private key", start=found.start(), end=end, value=body[0])


def _in_urls(text: bytes) -> Iterator[Credential]:
    """Source: RFC 3986 section 3.2.1; names of hosts for examples: RFC 2606 and 6761."""
    if b"://" in text:
        yield from _matches(text, "password in a URL", _URL, _is_real_login)


def _is_real_login(found: re.Match[bytes]) -> bool:
    user, password, host = found[1].lower(), found[2].lower(), found[3]
    is_made_up = user == password or _PLACEHOLDER.search(password)
    return not (is_made_up or _RESERVED.search(host))
