"""Whether the Hugging Face hub can be reached: found out once and in seconds, where its own retries take minutes."""

import socket
import urllib.request
from functools import cache
from urllib.parse import urlsplit

_PATIENCE_S = 5.0


@cache
def without_hub_be_offline() -> None:
    """Where no connection to the hub can be made, have its library read its cache alone, as HF_HUB_OFFLINE=1 does."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or urllib.request.getproxies():  # behind a proxy a connection says nothing
        return
    address = urlsplit(constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname, address.port or 443), _PATIENCE_S).close()
    except OSError:
        constants.HF_HUB_OFFLINE = True
