"""`/proposals`: membership statements on their way to enough signatures."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from hub.problems import documented
from hub.routes.entries import ENVELOPE_BODY, SUBMISSION_PROBLEMS
from hub.routes.parameters import only_documented
from hub.routes.services import Services, body_of, caller_of
from sharing_protocol.wire import PROPOSALS, Proposal, ProposalPage

_NO_STORE = {"Cache-Control": "no-store"}


def router(services: Services) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["proposals"], dependencies=[Depends(only_documented)])

    @routes.post(
        PROPOSALS,
        summary="Propose a membership statement, or add signatures to one; it is logged when they are enough",
        status_code=202,
        response_model=Proposal,
        responses={201: {"model": Proposal, "description": "Logged"}, **documented(SUBMISSION_PROBLEMS)},
        openapi_extra=ENVELOPE_BODY,
    )
    async def sign(request: Request) -> Response:
        proposal = await services.proposals.sign(body_of(request), caller_of(request))
        return Response(
            proposal.model_dump_json(), 202 if proposal.receipt is None else 201, _NO_STORE, "application/json"
        )

    @routes.get(
        PROPOSALS,
        summary="Proposals that wait for signatures",
        response_model=ProposalPage,
        responses=documented((HTTPStatus.UNPROCESSABLE_ENTITY,)),
    )
    async def pending(request: Request) -> Response:
        page = ProposalPage(proposals=await services.proposals.pending(caller_of(request)))
        return Response(page.model_dump_json(), 200, _NO_STORE, "application/json")

    @routes.get(
        PROPOSALS + "/{proposal_id}",
        summary="One proposal",
        response_model=Proposal,
        responses=documented((HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.UNPROCESSABLE_ENTITY)),
    )
    async def one(request: Request, proposal_id: Annotated[str, Path(pattern="^[0-9a-f]{64}$")]) -> Response:
        proposal = await services.proposals.find(proposal_id, caller_of(request))
        return Response(proposal.model_dump_json(), 200, _NO_STORE, "application/json")

    return routes
