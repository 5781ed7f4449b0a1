"""The Hugging Face hub: whether it is there, found out once and quickly."""

from __future__ import annotations

import logging
import os
import socket
from functools import cache
from urllib.parse import urlsplit

TIMEOUT = 10.0


@cache
def prepare() -> None:
    """Before the hub's libraries are imported: where the hub's name does not even resolve, have
    them look in their cache at once instead of retrying for half a minute for each file."""
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    proxied = any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"))
    if proxied or os.environ.get("HF_HUB_OFFLINE"):
        return
    host = urlsplit(os.environ.get("HF_ENDPOINT", "https://huggingface.co")).hostname
    try:
        socket.create_connection((host or "", 443), TIMEOUT).close()
    except OSError:
        os.environ["HF_HUB_OFFLINE"] = "1"
