"""The HTTP of the hub, one file for each thing it serves; `sharing_protocol.wire` is the contract."""

from fastapi import FastAPI

from hub.routes import checkpoint_reports, cosignatures, directory, entries, health, log, proposals, records
from hub.routes.openapi import document
from hub.routes.services import Services


def attach(application: FastAPI, services: Services) -> None:
    """Add every route to the application, and describe them in its OpenAPI document."""
    application.include_router(health.router(services))
    application.include_router(entries.router(services))
    application.include_router(checkpoint_reports.router(services))
    application.include_router(cosignatures.router(services))
    application.include_router(proposals.router(services))
    application.include_router(records.router(services))
    application.include_router(directory.router(services))
    application.router.routes.extend(log.routes(services))
    document(application)
