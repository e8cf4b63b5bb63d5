"""The client of an OpenAI-compatible endpoint, and the secrets that it sends and nobody else may see."""

import json
import os
from collections.abc import Mapping
from typing import Any

import openai

from bench.errors import ConfigError
from bench.evaluate.judges.config import FROM_ENVIRONMENT, OpenAIJudgeConfig
from bench.evaluate.judges.reply import NoReply, Reply, read_reply

_SHORTEST_SECRET = 8  # characters; shorter ones ("none", "EMPTY") are placeholders


class Endpoint:
    """Sends a chat to `/chat/completions`, once.

    Args:
        key: where the settings are, for messages: `judge.openai`.

    Raises:
        ConfigError: an environment variable that should hold a secret is not set.
    """

    def __init__(self, config: OpenAIJudgeConfig, key: str) -> None:
        self.url = config.base_url.rstrip("/")
        api_key, headers, query = secrets(config, key)
        named = [*(config.extra_headers or {}).items(), *(config.extra_query or {}).items()]
        values = {**headers, **query}
        self._secrets = [api_key, *(values[name] for name, value in named if value.startswith(FROM_ENVIRONMENT))]
        self._client = openai.OpenAI(
            api_key=api_key or "none", base_url=self.url, timeout=config.timeout_s, max_retries=0
        )
        # Without a key nothing is sent in its place: an endpoint that goes by another header might try it.
        no_key = {} if api_key else {"Authorization": openai.Omit()}
        self._always = {
            "model": config.model,
            "extra_headers": {**no_key, **headers},
            "extra_query": query,
            "extra_body": dict(config.extra_body or {}),
        }

    def send(self, messages: list[dict[str, str]], **settings: Any) -> Reply:
        """The model's answer.

        Raises:
            NoReply: of any kind; a response came without an answer, or none came at all.
        """
        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            # The body is read as it comes: the client would take much for a completion that is none.
            reply = read_reply(json.loads(create(messages=messages, **self._always, **settings).text))
        except NoReply as error:
            error.problem = self.without_secrets(error.problem)
            raise
        except openai.APIStatusError as error:
            said = error.message.removeprefix(f"Error code: {error.status_code} - ")
            codes = tuple(str(code) for code in (error.code, error.type) if code)
            problem = self.without_secrets(f"{error.status_code} {said}")
            raise NoReply(problem, error.status_code, codes, error.response.headers) from None
        except openai.APIError as error:  # no connection, a timeout
            raise NoReply(self.without_secrets(str(error))) from None
        except (ValueError, RecursionError):
            raise NoReply("the body is no JSON") from None
        return Reply(self.without_secrets(reply.text), reply.outcome, reply.tokens)

    def without_secrets(self, text: str) -> str:
        """Some servers quote the key that they refuse."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        for secret in self._secrets:
            if secret and len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "***")
        return text


def secrets(config: OpenAIJudgeConfig, key: str) -> tuple[str | None, dict[str, str], dict[str, str]]:
    """The key out of the environment (None where the server needs none), and the headers and query with theirs.

    Raises:
        ConfigError: a variable is not set, or holds what cannot be a key; names the setting.
    """
    api_key = None
    if config.api_key_env is not None:
        hint = f", or set {key}.api_key_env=null for a server that needs no key"
        api_key = _from_environment(config.api_key_env, f"{key}.api_key_env", hint)
    headers = _resolved(config.extra_headers, f"{key}.extra_headers")
    return api_key, headers, _resolved(config.extra_query, f"{key}.extra_query")


def _resolved(values: Mapping[str, str] | None, key: str) -> dict[str, str]:
    return {
        name: _from_environment(value.removeprefix(FROM_ENVIRONMENT), f"{key}.{name}")
        if value.startswith(FROM_ENVIRONMENT)
        else value
        for name, value in (values or {}).items()
    }


def _from_environment(variable: str, setting: str, hint: str = "") -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise ConfigError(f"{setting} names {variable}, which is not set; export it{hint}")
    is_bearer = value.lower().startswith(("bearer ", "basic "))  # of a header Authorization
    if not value.isascii() or not value.isprintable() or value.count(" ") > is_bearer:
        raise ConfigError(f"the environment variable {variable} holds characters that no key has; export it again")
    return value
