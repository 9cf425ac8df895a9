"""bert-as-service's client."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import numpy as np

from kzoo.client.calls import Call, given
from kzoo.client.waiting import Client
from kzoo.errors import KzooError


class BertClient:
    """bert-as-service's client, for those who move over: `encode`, `encode_async` and `status`.

    Args:
        ip: host of the service.
        port: its port, to which both requests and answers go.
        output_fmt: whether `encode` gives an array or lists.
        timeout: milliseconds to wait for an answer.
        model: which of the service's encoders to ask; may be left out where there is one.
        api_key: the service's key, if it has one.
    """

    def __init__(
        self,
        ip: str = "localhost",
        port: int = 8000,
        *,
        output_fmt: Literal["ndarray", "list"] = "ndarray",
        timeout: float = 60_000,
        model: str | None = None,
        api_key: str | None = None,
    ):
        self._client = Client(f"http://{ip}:{port}", api_key=api_key, timeout=timeout / 1000)
        self._lists = output_fmt == "list"
        self._model = model

    def encode(self, texts: Sequence[str] | Sequence[Sequence[str]], is_tokenized: bool = False) -> Any:
        """Return a vector for each text, float32 (texts, dim), or lists of numbers.

        Args:
            texts: texts, in which ` ||| ` parts the two of a pair; or lists of tokens.
            is_tokenized: whether they are lists of tokens.

        Raises:
            ServiceError: the service refuses.
        """
        if isinstance(texts, str):
            raise KzooError("encode takes a list of texts; put the one text in a list.")
        body = {"texts": list(texts), "is_tokenized": is_tokenized, "model": self._model}
        call = Call("/encode", given(body), lambda answer: answer["result"])
        vectors = self._client._do(call)
        return vectors if self._lists else np.array(vectors, np.float32)

    def encode_async(
        self,
        batch_generator: Iterable[Sequence[str]],
        max_num_batch: int | None = None,
        is_tokenized: bool = False,
    ) -> Iterator[Any]:
        """Yield the vectors of each batch of texts, in order; the next is asked for while one is worked with.

        Args:
            batch_generator: lists of texts.
            max_num_batch: most batches; all if None.
            is_tokenized: as for `encode`.
        """
        with ThreadPoolExecutor(1) as pool:
            coming = None
            for batch in itertools.islice(batch_generator, max_num_batch):
                following = pool.submit(self.encode, batch, is_tokenized)
                if coming is not None:
                    yield coming.result()
                coming = following
            if coming is not None:
                yield coming.result()

    @property
    def status(self) -> dict[str, Any]:
        """What the service knows of this client."""
        return self._client._do(Call("/status/client", None, dict))

    @property
    def server_status(self) -> dict[str, Any]:
        """What the service says of itself."""
        return self._client._do(Call("/status/server", None, dict))

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
