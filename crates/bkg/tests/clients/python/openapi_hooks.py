"""What schemathesis has to know of this daemon besides its document: `schemathesis.toml` names this.

The invariant: nothing that it tries ends what the run itself stands on, which is the plugin that checks
credentials and the one administrator.
"""

import os
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, HookContext
from schemathesis.core.transport import Response

# Whose credential a run has; without one, nothing but public routes may answer.
IDENTITY = os.environ.get("BKG_TEST_IDENTITY", "nobody")
LARGEST_EXACT = 2**53
ADMINISTRATOR = {"admin", os.environ.get("BKG_TEST_ADMINISTRATOR", "")}


@schemathesis.hook
def map_case(_: HookContext, case: Case[Any]) -> Case[Any]:
    """Turns what would end the run into the same for something that may end."""
    if case.method in ("GET", "HEAD"):
        return case
    if case.path_parameters.get("name") == "apikeys":
        case.path_parameters["name"] = "misbehave"
    if case.path_parameters.get("id") in ADMINISTRATOR:
        case.path_parameters["id"] = "guest"
    return case


@schemathesis.hook
def map_body(_: HookContext, body: Any) -> Any:
    """Writes whole numbers without a fraction: JSON Schema counts 5.0 as one, the daemon does not."""
    if isinstance(body, float) and body.is_integer() and abs(body) < LARGEST_EXACT:
        return int(body)
    if isinstance(body, list):
        return [map_body(_, item) for item in body]
    if isinstance(body, dict):
        return {name: map_body(_, value) for name, value in body.items()}
    return body


@schemathesis.check
def nobody_gets_in(_: CheckContext, response: Response, case: Case[Any]) -> None:
    """Without a credential every route but the public ones refuses, whatever it is sent."""
    if IDENTITY != "nobody" or case.operation.definition.raw["security"] == []:
        return
    # 403: it made up a cookie, and no browser said that the page is our own. 405 is said of a path.
    assert response.status_code in (401, 403, 405), f"{response.status_code} without a credential"
