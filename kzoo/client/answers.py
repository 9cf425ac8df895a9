"""How a service is asked and what its answers mean: errors, pauses before asking again, and texts that grow."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from kzoo.client.calls import Call, Result
from kzoo.errors import KzooError, MissingDependencyError

if TYPE_CHECKING:
    import httpx

_AGAIN = (429, 503)
_FIRST_PAUSE = 0.1  # seconds; doubled each time
_LONGEST_PAUSE = 10.0


class ServiceError(KzooError):
    """The service refused a request or failed on it.

    Attributes:
        status: of the answer; None if there was none.
        request_id: under which the service's log knows the request; None if there was no answer.
    """

    def __init__(self, message: str, status: int | None = None, request_id: str | None = None):
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class Settings:
    """What both clients know."""

    def __init__(self, url: str, api_key: str | None, timeout: float, retries: int):
        if not timeout > 0 or timeout == float("inf"):
            raise KzooError(f"timeout is {timeout}; give seconds above 0 that come to an end.")
        if not url.startswith(("http://", "https://")):
            raise KzooError(f"'{url}' is no address of a service; it begins with http:// or https://.")
        if retries < 0:
            raise KzooError(f"retries is {retries}; it must be at least 0.")
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self.options: dict[str, Any] = {"base_url": url, "timeout": timeout, "headers": headers}
        self.retries = retries

    def pause(self, tried: int, answer: httpx.Response | None) -> float | None:
        """Return how many seconds to wait before a request is sent again, or None if it is not."""
        if tried >= self.retries or (answer is not None and answer.status_code not in _AGAIN):
            return None
        # Of many that were refused at once not all come back at once.
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tried) * random.uniform(0.5, 1.0)
        asked = "" if answer is None else answer.headers.get("retry-after", "")
        return max(pause, min(float(asked), _LONGEST_PAUSE)) if asked.isdecimal() else pause


class EventReader:
    """Reads server-sent events line by line."""

    def __init__(self) -> None:
        self._name = ""
        self._done = False

    def add(self, line: str) -> str | None:
        """Return the text so far, if this line brings one."""
        if line.startswith("event: "):
            self._name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            content = json.loads(line.removeprefix("data: "))
            if self._name == "error":
                raise ServiceError(content["error"], 200)
            if self._name == "text":
                return content["text"]
            self._done = True
        return None

    def check(self) -> None:
        """Refuse a stream that was cut off."""
        if not self._done:
            raise ServiceError("The service ended before the text did.")


@contextlib.contextmanager
def explained(again: bool = False) -> Iterator[None]:
    """Say what is wrong with the connection; nothing where the request can be sent `again`."""
    httpx = import_httpx()
    try:
        yield
    except httpx.TimeoutException:
        raise ServiceError("The service did not answer in time.") from None
    except httpx.TransportError as error:
        if not again:
            raise ServiceError(f"The service cannot be reached: {error}.") from None


def read_answer(call: Call[Result], answer: httpx.Response | None) -> Result:
    """Return what was asked for.

    Raises:
        ServiceError: there is no answer, or it is a refusal.
    """
    if answer is None or not answer.is_success:
        raise refusal(answer)
    return call.read(answer.json())


def refusal(answer: httpx.Response | None) -> ServiceError:
    """Return the error that an answer stands for, or the want of one."""
    if answer is None:
        return ServiceError("The service cannot be reached.")
    try:
        said = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        said = f"The service answered with status {answer.status_code}."
    return ServiceError(said, answer.status_code, answer.headers.get("x-request-id"))


def import_httpx() -> Any:
    """Return the package that sends requests.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import httpx
    except ImportError:
        raise MissingDependencyError(
            "kzoo.client needs httpx, which is not installed: pip install 'kzoo[client]'"
        ) from None
    return httpx
