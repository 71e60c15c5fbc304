"""Secrets that stand in the headers of requests, checked when the configuration is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

_WHERE = "look at the ends of the file or variable"


def _require_token(secret: SecretStr) -> SecretStr:
    """The secret, if it can stand in a header as one word.

    Raises:
        ValueError: it cannot; the message does not show it.
    """
    if not all("!" <= character <= "~" for character in secret.get_secret_value()):
        msg = f"must have neither spaces, line ends nor letters beyond ASCII: {_WHERE}"
        raise ValueError(msg)
    return secret


def _require_text(secret: SecretStr) -> SecretStr:
    """The secret, if it can stand in a header: as `_require_token`, with spaces inside.

    Raises:
        ValueError: it cannot; the message does not show it.
    """
    text = secret.get_secret_value()
    if text != text.strip() or not all(" " <= character <= "~" for character in text):
        msg = f"must have neither spaces at its ends, line ends nor letters beyond ASCII: {_WHERE}"
        raise ValueError(msg)
    return secret


SecretToken = Annotated[SecretStr, Field(min_length=1), AfterValidator(_require_token)]
"""A key or token: one word of ASCII."""
SecretText = Annotated[SecretStr, Field(min_length=1), AfterValidator(_require_text)]
"""A header's value or a password: ASCII without spaces at its ends."""
HeaderName = Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")]
"""Name of a header: a token of RFC 9110, section 5.6.2."""
