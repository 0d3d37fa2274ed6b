"""`stillwatch gate`: the decision service for an API gateway."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from member_client.cli.output import HomeOption, JsonOption, open_session, print_json, say
from member_client.errors import InvalidInput


def gate(
    listen: Annotated[
        str | None, typer.Option(help="Where the gateway asks: HOST:PORT or unix:PATH [default: 127.0.0.1:8480].")
    ] = None,
    status: Annotated[
        str | None, typer.Option(help="Where /healthz, /readyz and /metrics are [default: 127.0.0.1:8481].")
    ] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer an API gateway whether a request may pass: Envoy's ext_authz over HTTP, nginx's auth_request.

    Settings are in gate.toml in the home; docs/gate.md has them, and examples for both gateways. What is in effect
    is taken anew whenever decisions, policy or the log change here, and on SIGHUP. SIGTERM and Ctrl-C end it.
    """
    try:
        from member_client.gate import serving
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"the gate's server is not installed ({error.name} is missing)", "pip install 'stillwatch[gate]'"
        ) from error
    from member_client.gate import Gate
    from member_client.gate.settings import read_settings

    session = open_session(home)
    session.settings  # noqa: B018 - says so if this is no home
    settings = read_settings(session.home.path / "gate.toml", listen=listen, status=status)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    with serving.listen(settings.listen) as asked, serving.listen(settings.status) as watched:
        where = {"listen": serving.address_of(asked), "status": serving.address_of(watched)}

        def tell() -> None:
            if as_json:
                print_json({"status": "ready", **where}, one_line=True)
            else:
                say(f"The gate answers at {where['listen']}; its health and metrics are at {where['status']}.", "green")

        with Gate(session.home, settings) as live:
            serving.GateServer(live, tell).serve_at(asked, watched)
