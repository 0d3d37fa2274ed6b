"""`GET /members`: the forum, its labs and their keys, as of the log's newest membership entry."""

from http import HTTPStatus

from fastapi import APIRouter, Depends
from starlette.responses import Response

from hub.database import log_store
from hub.errors import Denied
from hub.problems import documented
from hub.routes.parameters import only_documented
from hub.routes.services import Services
from sharing_protocol.membership import Membership, RegisteredKey
from sharing_protocol.wire import MEMBERS, Directory, KeyInformation, MemberInformation


def router(services: Services) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["members"], dependencies=[Depends(only_documented)])

    @routes.get(
        MEMBERS,
        summary="Members and their keys",
        response_model=Directory,
        responses=documented((HTTPStatus.UNPROCESSABLE_ENTITY,)),
    )
    async def members() -> Response:
        async with services.engine.connect() as connection:
            head = await log_store.read_head(connection)
            membership = await services.directory.at(connection, head.last_membership)
        return Response(
            describe(membership, head.size).model_dump_json(), 200, {"Cache-Control": "no-store"}, "application/json"
        )

    return routes


def describe(membership: Membership, tree_size: int) -> Directory:
    """A membership as the wire has it: every key ever registered, also the revoked ones."""
    forum = membership.forum
    if forum is None:
        raise Denied("not_founded", "no forum is founded here yet")
    return Directory(
        forum=forum.name,
        fingerprint=forum.fingerprint,
        threshold=forum.threshold,
        admins=[_key(key_id, key) for key_id, key in membership.keys.items() if key.holder == forum.id],
        members=[
            MemberInformation(
                id=member.id,
                name=member.name,
                status=member.status.value,
                since=member.since,
                keys=[_key(key_id, key) for key_id, key in membership.keys.items() if key.holder == member.id],
            )
            for member in membership.members.values()
        ],
        tree_size=tree_size,
    )


def _key(key_id: str, key: RegisteredKey) -> KeyInformation:
    return KeyInformation(key_id=key_id, role=str(key.role), name=key.name, since=key.since, revoked_at=key.revoked_at)
