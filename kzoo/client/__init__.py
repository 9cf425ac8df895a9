"""Ask a service of `kzoo serve` from another program, with numpy and httpx alone.

with Client("http://127.0.0.1:8000") as client:
    vectors = client.embed(["A dog runs.", "A cat sleeps."])
"""

from kzoo.client.answers import ServiceError
from kzoo.client.asynchronous import AsyncClient
from kzoo.client.bert import BertClient
from kzoo.client.waiting import Client

__all__ = ["AsyncClient", "BertClient", "Client", "ServiceError"]
