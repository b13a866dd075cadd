"""A job's log lines from CloudWatch, each once: streams found as they appear, read on by token, recounted after a day.

Enters: the job's name and a small JSON state that says how far it was read. Leaves: pages of lines and the state after
each, so that the caller decides when the lines count as read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tracking.errors.redaction import hidden
from trainers.sagemaker.aws.client import Aws
from trainers.sagemaker.errors import NotFound, Rejected

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_FULL_PAGE = 1000  # a page with fewer lines is taken for the newest; a wrong guess costs one poll of delay
_LOOK_FOR_STREAMS_S = 60.0
_MOST_EMPTY_PAGES = 50  # in a row, each with another token, before a stream is left until the next look


@dataclass(frozen=True)
class Line:
    """One line as a container printed it; ``time_ms`` is when CloudWatch's agent saw it."""

    time_ms: int
    stream: str
    text: str

    @property
    def machine(self) -> str:
        """The machine that printed it: ``algo-1`` of the stream ``job/algo-1-1568000000``."""
        return self.stream.rpartition("/")[2].rpartition("-")[0]


class LogReader:
    """Reads on where ``state`` (``{"streams": {name: {"token", "read"}}}``) left off; ``state`` grows in place."""

    def __init__(self, aws: Aws, job_name: str, state: dict[str, Any]) -> None:
        self._aws, self._job, self._state = aws, job_name, state
        self._state.setdefault("streams", {})
        self._looked_s = float("-inf")

    @property
    def num_streams(self) -> int:
        """How many streams were found so far; those of a queued job's former attempts are not counted."""
        return sum(name.startswith(f"{self._job}/") for name in self._state["streams"])

    def read(self, *, expected: int = 1, drain: bool = False, patience_s: float | None = 20.0) -> Iterator[list[Line]]:
        """Yield pages of new lines; a page counts as read once the next is asked for or the iteration ends.

        ``expected`` streams (machines x attempts) are looked for until they are there. ``drain`` reads to the very end
        of each. Raises AwsError.
        """
        self._find_streams(expected, drain, patience_s)
        for name in sorted(self._state["streams"]):
            yield from self._read_stream(name, drain, patience_s)

    def _find_streams(self, expected: int, drain: bool, patience_s: float | None) -> None:
        known, now = self._state["streams"], self._aws.clock.now()
        # At the end it counts: a stream may appear with the last lines only.
        if not drain and (
            self.num_streams >= expected or (self.num_streams and now - self._looked_s < _LOOK_FOR_STREAMS_S)
        ):
            return
        self._looked_s = now
        try:
            for page in self._aws.pages(
                "logs",
                "DescribeLogStreams",
                patience_s=patience_s,
                logGroupName=LOG_GROUP,
                logStreamNamePrefix=f"{self._job}/",
            ):
                for stream in page["logStreams"]:
                    known.setdefault(stream["logStreamName"], {"token": None, "read": 0})
        except NotFound:
            pass  # the account's first job has not printed anything yet

    def _read_stream(self, name: str, drain: bool, patience_s: float | None) -> Iterator[list[Line]]:
        place = self._state["streams"][name]
        num_empty = 0
        while True:
            token = {} if place["token"] is None else {"nextToken": place["token"]}
            try:
                page = self._aws.call(
                    "logs",
                    "GetLogEvents",
                    patience_s=patience_s,
                    logGroupName=LOG_GROUP,
                    logStreamName=name,
                    startFromHead=True,
                    **token,
                )
            except NotFound:
                return
            except Rejected:
                if not token:
                    raise
                # A token is good for a day. From the beginning, then, past what was counted as read.
                place["token"], place["skip"] = None, place["read"]
                continue
            events, skip = page["events"], place.get("skip", 0)
            fresh = events[min(skip, len(events)) :]
            if fresh:
                yield [Line(int(event["timestamp"]), name, hidden(str(event["message"]))) for event in fresh]
            place["read"] += len(fresh)
            skip = place["skip"] = skip - (len(events) - len(fresh))
            num_empty = 0 if events else num_empty + 1
            at_end = page["nextForwardToken"] == place["token"]
            place["token"] = page["nextForwardToken"]
            if at_end or num_empty >= _MOST_EMPTY_PAGES or (not drain and not skip and len(events) < _FULL_PAGE):
                return
