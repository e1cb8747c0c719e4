"""A language model behind a server that speaks OpenAI's chat format, and its replies kept.

It is asked by whoever needs a judge: of answers (`evaluation/judge.py`), of refusals, as a reward.
A model of one's own machine is one such server (vLLM, llama.cpp and Ollama offer it). Nothing is
sent but to the address that is named.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from myosotis.utils.errors import ConfigError, RunError

KEY_ENV = "OPENAI_API_KEY"
"""The environment variable that holds a server's key."""

MOST_BYTES = 1_000_000
BUSY = (429, 500, 502, 503, 504)
"""Answers of a server that is to be asked again: too many requests, or trouble of its own."""

Ask = Callable[[str], str]
"""From what is asked to the reply."""


def require_url(url: str) -> None:
    """Raise `ConfigError` for what is no http address, or holds a password."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"The judge's {url[:80]} is no http address.", "As in http://HOST:8000/v1."
        )
    if parts.username or parts.password:
        raise ConfigError(
            "The judge's address holds a user or a password, which records would show.",
            f"The key of a server stands in an environment variable ({KEY_ENV}).",
        )


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server: `url` up to and with `/v1`; `key` may be empty. One that is busy
    is asked again after so many seconds each (`waits`)."""

    url: str
    model: str
    key: str = ""
    seconds: float = 120.0
    waits: tuple[float, ...] = (1.0, 5.0, 20.0)

    def __call__(self, asked: str) -> str:
        """The model's reply at temperature 0. Raises `RunError` where there is none."""
        require_url(self.url)
        for wait in self.waits:
            with contextlib.suppress(_Busy):
                return self._reply(asked)
            time.sleep(wait)
        return self._reply(asked)

    def _reply(self, asked: str) -> str:
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": 0,
            "messages": [{"role": "user", "content": asked}],
        }
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
        )
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                document = json.loads(answer.read(MOST_BYTES))
            return str(document["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            said = error.read(300).decode("utf-8", "replace")
            kind = _Busy if error.code in BUSY else RunError
            raise kind(f"the judge answered {error.code}: {said}") from None
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            kind = _Busy if isinstance(error, TimeoutError) else RunError
            raise kind(f"the judge at {self.url} gave no reply: {error}") from None


class _Busy(RunError):
    """What another try may mend."""


def asking(url: str, model: str, key_env: str, kept: Path) -> Ask:
    """A model on a server, whose key stands in the environment variable `key_env`; its replies are
    kept in the file `kept`."""
    return cached(Endpoint(url, model, os.environ.get(key_env, "")), kept, f"{url} {model}")


def cached(ask: Ask, path: Path, about: str) -> Ask:
    """The same with replies kept in the file `path`; `about` names judge and server.

    Threads may ask at once. A line that was cut off by a kill is asked for again, and where the
    file cannot be written replies are kept for the time of the process.
    """
    known = _kept(path)
    writing = threading.Lock()

    def asked(text: str) -> str:
        key = hashlib.sha256(f"{about}\0{text}".encode()).hexdigest()
        if key not in known:
            known[key] = ask(text)
            line = json.dumps({"key": key, "reply": known[key]})
            with writing, contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        return known[key]

    return asked


def _kept(path: Path) -> dict[str, str]:
    known: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        text = path.read_text("utf-8", errors="replace")
        for line in text.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                one = json.loads(line)
                known[str(one["key"])] = str(one["reply"])
        if text and not text.endswith("\n"):
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
                file.write("\n")
    return known
