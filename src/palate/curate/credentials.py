"""Secrets in a text: keys, tokens, passwords in addresses. Patterns of detect-secrets, and ours.

detect-secrets reads lines of source code and says which value is secret; here its patterns give
the place of the value too. Nothing is verified with a provider, so nothing leaves the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain

Place = tuple[int, int]
Finder = Callable[[str], Iterator[Place]]

# What detect-secrets 1.5 does not know: the prefixes that the vendors document for their keys.
_OURS = re.compile(
    r"\bsk-ant-[\w-]{20,}|\bsk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{32,}|"
    r"\bAIza[\w-]{35}|\bhf_[A-Za-z0-9]{30,}|\bgithub_pat_\w{22,}|\bxapp-\d-[A-Z0-9]+-\d+-[a-f0-9]+|"
    r"(?<=[Bb]earer )[\w.~+/-]{20,}=*"
)
_KEY_BLOCK_END = re.compile(r"-----END [A-Z0-9 ]+-----|\Z")
_TOKEN_REST = re.compile(r"[\w.=-]*")


def secret_finders() -> list[Finder]:
    """Functions that yield (start, end) of the secrets in a text, one for each kind.

    Raises `ImportError` where detect-secrets is not installed.
    """
    from detect_secrets.plugins.aws import AWSKeyDetector
    from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
    from detect_secrets.plugins.basic_auth import BasicAuthDetector
    from detect_secrets.plugins.discord import DiscordBotTokenDetector
    from detect_secrets.plugins.github_token import GitHubTokenDetector
    from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
    from detect_secrets.plugins.jwt import JwtTokenDetector
    from detect_secrets.plugins.mailchimp import MailchimpDetector
    from detect_secrets.plugins.npm import NpmDetector
    from detect_secrets.plugins.openai import OpenAIDetector
    from detect_secrets.plugins.private_key import PrivateKeyDetector
    from detect_secrets.plugins.pypi_token import PypiTokenDetector
    from detect_secrets.plugins.sendgrid import SendGridDetector
    from detect_secrets.plugins.slack import SlackDetector
    from detect_secrets.plugins.square_oauth import SquareOAuthDetector
    from detect_secrets.plugins.stripe import StripeDetector
    from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
    from detect_secrets.plugins.twilio import TwilioKeyDetector

    whole = chain.from_iterable(
        plugin.denylist
        for plugin in (
            AzureStorageKeyDetector,
            DiscordBotTokenDetector,
            GitHubTokenDetector,
            GitLabTokenDetector,
            MailchimpDetector,
            NpmDetector,
            OpenAIDetector,
            PypiTokenDetector,
            SendGridDetector,
            SlackDetector,
            SquareOAuthDetector,
            StripeDetector,
            TelegramBotTokenDetector,
            TwilioKeyDetector,
        )
    )
    access_key, named_key = AWSKeyDetector.denylist
    return [
        *(_all_of(pattern) for pattern in whole),
        _all_of(_OURS),
        _all_of(access_key),
        _first_group(named_key),
        *(_first_group(pattern) for pattern in BasicAuthDetector.denylist),
        *(_key_blocks(pattern) for pattern in PrivateKeyDetector.denylist),
        *(_tokens(p, JwtTokenDetector.is_formally_valid) for p in JwtTokenDetector.denylist),
    ]


def _all_of(pattern: re.Pattern[str]) -> Finder:
    return lambda text: (match.span() for match in pattern.finditer(text))


def _first_group(pattern: re.Pattern[str]) -> Finder:
    """Only the value: `://user:VALUE@`, `aws_secret_key = "VALUE"`."""
    return lambda text: (match.span(1) for match in pattern.finditer(text))


def _key_blocks(pattern: re.Pattern[str]) -> Finder:
    """From the line that a private key begins with to the line that ends it, or to the end."""

    def find(text: str) -> Iterator[Place]:
        for match in pattern.finditer(text):
            end = _KEY_BLOCK_END.search(text, match.end())
            assert end is not None, "the end of the text matches"
            yield text.rfind("\n", 0, match.start()) + 1, end.end()

    return find


def _tokens(pattern: re.Pattern[str], valid: Callable[[str], bool]) -> Finder:
    """JSON Web Tokens; the pattern stops before the signature, which belongs to it."""

    def find(text: str) -> Iterator[Place]:
        for match in pattern.finditer(text):
            if valid(match.group()):
                rest = _TOKEN_REST.match(text, match.end())
                yield match.start(), rest.end() if rest else match.end()

    return find
