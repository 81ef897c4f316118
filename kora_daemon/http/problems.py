"""Errors for programs: problem documents (RFC 9457) with a code and a sentence."""

from __future__ import annotations

from http import HTTPStatus

from kora_daemon.http.messages import HttpError, Response, json_response

PROBLEM_TYPE = "application/problem+json"


class Problem(HttpError):
    """Ends a request with a problem document; `members` are further ones of it."""

    def __init__(self, status: int, code: str, message: str, **members: object) -> None:
        super().__init__(status, message)
        self.code = code
        self.members = members


def problem_response(error: HttpError) -> Response:
    """The answer that tells a program about an error."""
    code, members = HTTPStatus(error.status).name, {}
    if isinstance(error, Problem):
        code, members = error.code, error.members
    document = {"status": error.status, "code": code, "message": str(error), **members}
    response = json_response(error.status, document, **error.headers)
    return Response(response.status, response.body, PROBLEM_TYPE, response.headers)
