"""The HTTP of the hub, one file for each thing it serves; `sharing_protocol.wire` is the contract."""

from fastapi import FastAPI

from hub.routes import checkpoint_reports, cosignatures, directory, entries, feedback, health, log, proposals, records
from hub.routes.direct import Endpoint
from hub.routes.openapi import document
from hub.routes.services import Services
from sharing_protocol.wire import BULK_ENTRIES, CHECKPOINT, ENTRIES


def attach(application: FastAPI, services: Services) -> dict[tuple[str, str], Endpoint]:
    """Add every route to the application, and describe them in its OpenAPI document.

    Returns:
        By method and path, the endpoints that are asked most often (`direct`); a path that ends in "/" is a beginning.
    """
    submit, submit_all = entries.endpoint(services), entries.bulk_endpoint(services)
    checkpoint, tile = log.checkpoint_endpoint(services), log.tile_endpoint(services)
    application.include_router(health.router(services))
    application.include_router(entries.router(submit, submit_all))
    application.include_router(checkpoint_reports.router(services))
    application.include_router(cosignatures.router(services))
    application.include_router(proposals.router(services))
    application.include_router(records.router(services))
    application.include_router(feedback.router(services))
    application.include_router(directory.router(services))
    application.router.routes.extend(log.routes(checkpoint, tile))
    document(application)
    return {
        ("POST", ENTRIES): submit,
        ("POST", BULK_ENTRIES): submit_all,
        ("GET", CHECKPOINT): checkpoint,
        ("GET", log.TILES): tile,
    }
