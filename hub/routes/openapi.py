"""The OpenAPI document: FastAPI writes its own routes, this adds the problem document and the log's plain routes."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from hub.problems import documented
from sharing_protocol.tiles import MAX_TREE_SIZE, TILE_WIDTH
from sharing_protocol.wire import CHECKPOINT, HEALTH, MAX_WAIT_SECONDS, READY, TILE_MEDIA_TYPE, Problem


def document(application: FastAPI) -> None:
    """Make `application.openapi()` complete."""

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            application.openapi_schema = _complete(application)
        return application.openapi_schema

    # FastAPI's documented way of extending the document.
    application.openapi = openapi  # type: ignore[method-assign]


def _complete(application: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=application.title,
        version=application.version,
        description=application.description,
        routes=application.routes,
    )
    schema["components"].setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    schema["components"]["securitySchemes"] = {
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "Signature",
            "description": "RFC 9421, Ed25519, over @method, @authority, @path, @query and, with a body, "
            "content-digest (RFC 9530); parameters created, nonce, keyid and tag=stillwatch.",
        }
    }
    schema["security"] = [{"signature": []}]
    for probe in (HEALTH, READY):
        schema["paths"][probe]["get"]["security"] = []
    for path, operations in _log_paths().items():
        schema["paths"].setdefault(path, {}).update(operations)
    return schema


def _log_paths() -> dict[str, Any]:
    index = {
        "name": "index",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]{3}$"},
        "description": "As in C2SP tlog-tiles: three digits; from 1,000 on, more groups go before them, as in x001/234",
    }
    width = {
        "name": "width",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 1, "maximum": TILE_WIDTH - 1},
        "description": "So many of the first, of a tile that is not full",
    }
    level = {
        "name": "level",
        "in": "path",
        "required": True,
        "schema": {"type": "integer", "minimum": 0, "maximum": 63},
    }
    return {
        CHECKPOINT: {
            "get": {**_checkpoint(), "parameters": [_whole("after", MAX_TREE_SIZE), _whole("wait", MAX_WAIT_SECONDS)]}
        },
        "/tile/{level}/{index}": {"get": {**_tile("256 hashes of the log's tree"), "parameters": [level, index]}},
        "/tile/{level}/{index}.p/{width}": {
            "get": {**_tile("The first hashes of a tile"), "parameters": [level, index, width]}
        },
        "/tile/entries/{index}": {"get": {**_tile("256 entries"), "parameters": [index]}},
        "/tile/entries/{index}.p/{width}": {"get": {**_tile("The first of 256 entries"), "parameters": [index, width]}},
    }


def _checkpoint() -> dict[str, Any]:
    summary = "The newest signed checkpoint; with `after` and `wait`, as soon as the log has not `after` entries"
    return _operation(
        summary,
        "text/plain",
        (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
    )


def _whole(name: str, most: int) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": most}}


def _tile(summary: str) -> dict[str, Any]:
    return _operation(summary, TILE_MEDIA_TYPE, (HTTPStatus.NOT_FOUND,))


def _operation(summary: str, media_type: str, refusals: tuple[HTTPStatus, ...]) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "string"}}}
    responses = {str(status): response for status, response in documented(refusals).items()}
    return {
        "tags": ["log"],
        "summary": summary,
        "responses": {"200": {"description": "Found", "content": content}, **responses},
    }
