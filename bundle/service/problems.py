"""Errors as application/problem+json (RFC 9457), with a code for programs and a title for people."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from .. import NOTICE
from ..intake import IntakeError

__all__ = ["PROBLEM", "Problem", "problem_response"]

PROBLEM = "application/problem+json"


class Problem(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        code: one word for programs.
        title: one line for people; never content of the request.
        headers: further ones.
    """

    def __init__(self, status: int, code: str, title: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(title)
        self.status, self.code, self.title, self.headers = status, code, title, dict(headers or {})

    @classmethod
    def internal(cls) -> Problem:
        """The problem of an internal error."""
        return cls(500, "internal", "internal error of the service")

    @classmethod
    def of(cls, error: IntakeError) -> Problem:
        """The problem of a refused file, without the file's name."""
        headers = {"Retry-After": "1"} if error.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
        return cls(error.status, error.code, error.reason, headers)

    def content(self, request_id: str) -> dict[str, Any]:
        """The body of the response."""
        described = {"type": f"urn:bundle:problem:{self.code}", "title": self.title, "status": self.status}
        return {**described, "code": self.code, "request_id": request_id, "notice": NOTICE}


def problem_response(request: Request, error: Exception) -> JSONResponse:
    """The response to a refused request."""
    problem = error if isinstance(error, Problem) else Problem.internal()
    content = problem.content(request.scope.get("request_id", ""))
    return JSONResponse(content, problem.status, problem.headers, media_type=PROBLEM)
