"""The OpenAPI 3.1 document, made from the route table and the messages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from sealagent import __version__
from sealagent.api.messages import ProblemOut
from sealagent.api.routing import Route
from sealagent.catalog import CATALOG

__all__ = ["document"]

COMMON_ERRORS = ("request_invalid", "caller_not_allowed", "internal_error")


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document as JSON values."""
    routes = list(routes)
    models: list[type[BaseModel]] = [ProblemOut]
    models += [route.request for route in routes if route.request]
    models += [model for route in routes for model in (route.json_request, route.json_answer) if model]
    models += [route.answer for route in routes if not isinstance(route.answer, str)]
    _, schemas = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)], ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SealAgent",
            "version": __version__,
            "description": "The local agent for electronic seals, on a Unix socket. The PIN never crosses it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas["$defs"]},
    }


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": {"type": kind}, "description": text} for name, kind, text in route.query
    ]
    if route.changes:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "schema": {"type": "string", "maxLength": 128},
                "description": "The same key with the same request gives the same answer and signs only once.",
            }
        )
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "responses": {"2XX": _answer(route), "default": _problems(route)},
    }
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        operation["requestBody"] = {"required": True, "content": _body(route)}
    return operation


def _body(route: Route) -> dict[str, Any]:
    assert route.request is not None
    if not route.document:
        return {"application/json": {"schema": _ref(route.request)}}
    as_json = {"application/json": {"schema": _ref(route.json_request)}} if route.json_request else {}
    return {
        **as_json,
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["request", "document"],
                "properties": {
                    "request": _ref(route.request),
                    "document": {"type": "string", "contentMediaType": "application/octet-stream"},
                },
            },
            "encoding": {"request": {"contentType": "application/json"}},
        },
    }


def _answer(route: Route) -> dict[str, Any]:
    if isinstance(route.answer, str):
        content: dict[str, Any] = {route.answer: {"schema": {"type": "string", "contentMediaType": route.answer}}}
    else:
        content = {"application/json": {"schema": _ref(route.answer)}}
    if route.json_answer:
        content["application/json"] = {"schema": _ref(route.json_answer)}
    return {"description": "done", "content": content}


def _problems(route: Route) -> dict[str, Any]:
    codes = sorted({*COMMON_ERRORS, *route.errors})
    lines = "; ".join(f"{code} ({CATALOG[code].status}): {CATALOG[code].title}" for code in codes)
    return {"description": lines, "content": {"application/problem+json": {"schema": _ref(ProblemOut)}}}
