"""Passwords and tokens stay out of every text that leaves: screens, logs, files, tags, pages.

``public`` shows a tracking URI without them, ``hidden`` any text that others wrote, such as an error of MLflow's or of
a database driver. The standard library alone.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import sys
import threading
import traceback
from ipaddress import IPv6Address
from types import TracebackType
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from tracking.errors.words import harmless

STARS = "***"
# Variables that hold a URI with secrets in it, or a secret as such.
_URIS = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_BACKEND_STORE_URI")
_SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
_SECRET_NAME = re.compile(r"(?:PASSWORD|PASSWD|_PWD|PASSPHRASE|TOKEN|SECRET|API_?KEY|(?:ACCESS|SECRET|PRIVATE)_KEY)$")
_SECRET_KEY = re.compile(
    r"pass(?!file)|pwd|token|secret|credential|api_?key|access_?key|private_?key|signature|jwt|^(sig|key|auth)$", re.I
)
# The same in free text, where "key=value" may be anything.
_PLAIN_KEY = re.compile(
    r"pwd|passw|passphrase|[_-]token$|^token$|secret|api[_-]?key|(access|account)_?key|signature$|^sig$|-credential$",
    re.I,
)
_URI = re.compile(r"(?<![\w+.-])[a-z][a-z0-9+.-]+://[^\s'\"<>`]+", re.I)
# A key and its value as ODBC writes them: braces hold what has semicolons in it.
_PAIR = re.compile(
    r"(?<![\w./-])(?P<key>[\w.-]{1,60})(?P<is>[ ]?=[ ]?['\"]?)(?P<value>\{(?:[^}]|\}\})*\}?|[^;&\s'\"<>`]*)"
)
_JSON_PAIR = re.compile(
    r"(?P<is>(?P<q>['\"])(?P<key>[\w.-]{1,60})(?P=q)[ ]*:[ ]*['\"])(?P<value>(?:\\.|[^'\"\\\r\n])*)"
)
# A URI that lacks its slashes, or all of its scheme.
_NO_SCHEME = re.compile(
    r"(?<![\w/:.-])((?:[a-z][a-z0-9+]+:/?)?(?!https?:|(?:postgres|mysql|mssql|sqlite)[a-z0-9+]*:)[^/:@\s'\"<>=]+:)"
    r"((?!/)[^@\s'\"<>]+)(?=@[\w.\[-])"
)
# What a server that repeats a request says of its headers, and tokens that are known by their form.
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-amz-security-token|x-api-key)(['\"]?\s*:\s*['\"]?)"
    r"(?:(?:basic|bearer|token|digest|negotiate|aws4-hmac-sha256)\s+)?[^\s'\"<>][^'\"<>\r\n]*",
    re.I,
)
_BASIC = re.compile(r"(?<=basic\s)[A-Za-z0-9+/_-]{4,}={0,2}", re.I)
_TOKEN = re.compile(
    r"\b(?:gh[pousr]_|github_pat_|hf_|glpat-|xox[abprs]-|dapi|sk-)[\w-]{16,}|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*|(?<=Bearer )(?=\S*\d)[\w.~+/-]{8,}=*"
)
_NO_PASSWORD = ("", "x-oauth-basic")  # beside a token in the place of the user
# A shorter piece of a password is hidden where it is quoted; one that is not long, where it is a word.
_SHORT, _LONG = 4, 8
_DELIMITERS, _MAX_CUTS = re.compile(r"[/@:?#&;\[\]]"), 40
_DATABASES = ("postgresql", "postgres", "mysql", "mssql")

_known: set[str] = set()


def public(uri: str) -> str:
    """The URI without passwords and tokens, fit for a screen or a file; the same for whatever password it had."""
    return _parted(uri)[0]


def address(uri: str) -> str:
    """A web address without user and password, for a browser to ask for them."""
    return re.sub(rf"(?<=://)[^/]*{re.escape(STARS)}@", "", public(uri))


def is_parsable(uri: str) -> bool:
    """Whether MLflow and SQLAlchemy take the URI apart where its writer meant them to, whatever the password holds."""
    scheme, _, rest = uri.partition("://")
    is_web = scheme.lower() in ("http", "https")
    end = _user_end(rest, is_web=is_web)
    try:
        host = urlsplit(uri).hostname
        if "[" in urlsplit(uri).netloc:
            IPv6Address(host or "")  # as Python 3.11.4 and later look at it
        return end is None or ("@" not in rest[:end] and (not is_web or host == urlsplit(public(uri)).hostname))
    except ValueError:
        return False


def remember(uri: str) -> None:
    """From now on ``hidden`` knows this URI's secrets also where they are without the URI around them."""
    _known.add(uri)


def hidden(text: str) -> str:
    """A text without secrets, however they are written there: those of the store's URI and of every other one in it,
    those that variables of the environment hold by their names, and what a server repeats of a request."""
    uris, secrets = set(_known), set[str]()
    for name, value in os.environ.items():
        if name in _URIS or _URI.match(value):
            uris |= {value} if name in _URIS else set(value.split())
        elif name in _SECRETS or (_SECRET_NAME.search(name) and len(value) >= _LONG):
            secrets |= {value, quote(value), quote(value, safe="")}
    for uri in sorted(uris, key=len, reverse=True):
        shown, found = _parted(uri)
        text = text.replace(uri, shown)
        # What the URI shows as well, a user's name that is the password too, is not secret and would garble the text.
        secrets |= {secret for secret in found if secret not in shown}
    text = _URI.sub(lambda found: public(found[0]), text)
    for secret in sorted(secrets - {"", STARS}, key=len, reverse=True):
        text = _without(text, secret)
    for pattern, shown in ((_HEADER, rf"\1\2{STARS}"), (_TOKEN, STARS)):
        text = pattern.sub(shown, text)
    text = _BASIC.sub(_hide_basic, text)
    for pairs in (_PAIR, _JSON_PAIR):
        text = pairs.sub(_hide_pair, text)
    return _NO_SCHEME.sub(lambda found: f"{found[1]}{STARS}" if ":/" in found[1] else found[0], text)


def guard() -> None:
    """Hide in what this process says when it fails or warns: tracebacks and the lines of MLflow's loggers."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _say
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = lambda args: _say(args.exc_type, args.exc_value, args.exc_traceback)
    guard_logs()


def guard_logs(*more: str) -> None:
    """Hide in what MLflow, the libraries under it and the loggers ``more`` log to the terminal."""
    handlers = [h for name in ("mlflow", "alembic", "sqlalchemy", *more) for h in logging.getLogger(name).handlers]
    for handler in {*handlers, *([logging.lastResort] if logging.lastResort else [])}:
        if _hide_record not in handler.filters:
            handler.addFilter(_hide_record)


def _hide_record(record: logging.LogRecord) -> bool:
    record.msg, record.args = hidden(record.getMessage()), None
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = hidden("".join(traceback.format_exception(*record.exc_info)).rstrip())
    return True


def _say(kind: type[BaseException], error: BaseException | None, where: TracebackType | None) -> None:
    if not issubclass(kind, SystemExit):
        sys.stderr.write(harmless(hidden("".join(traceback.format_exception(kind, error, where)))))


def _parted(uri: str) -> tuple[str, set[str]]:
    """What may be shown of a URI, and its secrets with the pieces that a parser might take them apart into."""
    scheme, colon, rest = uri.partition("://")
    if not colon and (lost := None if uri.startswith("arn:") else _NO_SCHEME.match(uri)):
        return f"{lost[1]}{STARS}{uri[lost.end() :]}", _forms(lost[2])
    if not colon or scheme.lower() == "sqlite":  # a path, an ARN, a name
        return uri, set()
    secrets: set[str] = set()
    kind = scheme.lower().partition("+")[0]
    end = _user_end(rest, is_web=kind in ("http", "https"))
    user, place = ("", rest) if end is None else (rest[:end], rest[end:])
    name, _, password = user.partition(":")
    if user and kind in ("http", "https") and password in _NO_PASSWORD:
        secrets |= _forms(name)
        user = STARS
    elif password:
        secrets |= _forms(password)
        user = f"{name}:{STARS}"
    start = re.search(r"\?(?=[\w.-]+=)", place)
    head, query = (place, "") if start is None else (place[: start.end()], place[start.end() :])
    lost = re.match(r"([^:/?@,\[]+):(?!\d*([/?,]|$))(.*?)(/+[\w-]*\??)$", head) if end is None else None
    if lost is not None and kind in _DATABASES:  # a host in the query, and no @ after the password
        secrets |= _forms(lost[3])
        head = f"{lost[1]}:{STARS}{lost[4]}"
    return f"{scheme}://{user}{head}{_hide_query(query, secrets)}", secrets


def _user_end(rest: str, *, is_web: bool) -> int | None:
    """Where the user and the password of a URI end: the place of their ``@``; None where there are none.

    Passwords are often given as they are, with ``@``, ``/``, ``?`` or ``#`` in them, so the last ``@`` before the query
    counts. A web address may have one in its path.
    """
    first = rest.find("@")
    if first < 0 or rest.startswith(("/", "?")):
        return None
    if is_web:
        authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
        if "@" not in authority and re.fullmatch(r"\[.*\]|[^:]*\.[^:]*|localhost|[^:]*:\d+|\[.*\]:\d+", authority):
            return None
    query = re.compile(r"\?[\w.-]+=").search(rest, first)
    return rest.rfind("@", first, query.start() if query else len(rest))


def _hide_query(query: str, secrets: set[str]) -> str:
    start = re.search(r"(?:^|&)odbc_connect=", query, re.I)
    parts = query.split("&")
    if start is not None and ";" in query[start.end() :]:  # not percent-encoded: all the rest is one value
        parts = [*query[: start.start()].split("&"), query[start.start() :].lstrip("&")]
    shown = []
    for part in parts:
        key, equals, value = part.partition("=")
        if equals and key.lower() == "odbc_connect":
            text = unquote_plus(value)
            for pair in _PAIR.finditer(text):
                if _PLAIN_KEY.search(pair["key"]):
                    secrets |= _forms(pair["value"].strip("{}"))
            public_text = _PAIR.sub(_hide_pair, text)
            value = public_text if text == value or ";" in value else quote_plus(public_text, safe="*")
        elif equals and value and _SECRET_KEY.search(unquote(key)):
            secrets |= _forms(value)
            value = STARS
        shown.append(f"{key}{equals}{value}")
    return "&".join(part for part in shown if part)


def _hide_pair(pair: re.Match[str]) -> str:
    if not pair["value"] or not _PLAIN_KEY.search(pair["key"]):
        return pair[0]
    return f"{pair[0][: pair.start('value') - pair.start()]}{STARS}"


def _hide_basic(found: re.Match[str]) -> str:
    """Stars for what is a user and a password, and not for ``Basic authentication``."""
    try:
        return STARS if b":" in base64.b64decode(found[0], altchars=b"-_") else found[0]
    except binascii.Error:
        return found[0]


def _forms(secret: str) -> set[str]:
    """A secret as given, decoded, encoded, and all that a parser that cuts it at URIs' delimiters may call a host."""
    if not secret or secret == STARS:
        return set()
    whole = {secret, unquote(secret), unquote_plus(secret)}
    whole |= {form for text in list(whole) for form in (quote(text, safe=""), quote_plus(text), quote(text))}
    pieces = set()
    for text in whole:
        cuts = [place for found in _DELIMITERS.finditer(text) for place in found.span()][:_MAX_CUTS]
        places = sorted({0, *cuts, len(text)})
        pieces |= {text[start:end] for start in places for end in places if start < end}
    return whole | {
        piece for piece in pieces if len(piece) > 1 and (any(map(str.isalnum, piece)) or len(piece) >= _SHORT)
    }


def _without(text: str, secret: str) -> str:
    if secret.isalpha() and _SHORT <= len(secret) < 2 * _LONG:
        # It may be a word of every sentence: stars in its place would garble the text, and give the secret away.
        word = re.escape(secret)
        return re.sub(rf"(?<![A-Za-z0-9])(?:(?<=['\":]){word}(?![A-Za-z0-9])|{word}(?=['\"@]))", STARS, text)
    if len(secret) >= _LONG:
        return text.replace(secret, STARS)
    if len(secret) >= _SHORT:
        return re.sub(rf"(?<![A-Za-z0-9]){re.escape(secret)}(?![A-Za-z0-9])", STARS, text)
    return re.sub(rf"(?P<quote>['\"]){re.escape(secret)}(?P=quote)", rf"\g<quote>{STARS}\g<quote>", text)
