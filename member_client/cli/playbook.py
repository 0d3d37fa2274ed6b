"""`stillwatch playbook`: write and publish playbooks, and walk through them."""

from __future__ import annotations

import typer

from member_client.cli import playbook_running, playbook_writing

app = typer.Typer(help="Write, publish and look up playbooks, and walk through their steps.", no_args_is_help=True)
app.command("new")(playbook_writing.new)
app.command("lint")(playbook_writing.lint_files)
app.command("submit")(playbook_writing.submit)
app.command("revise")(playbook_writing.revise)
app.command("withdraw")(playbook_writing.withdraw)
app.command("list")(playbook_writing.list_playbooks)
app.command("show")(playbook_writing.show)
app.command("run")(playbook_running.run)
app.command("step")(playbook_running.step)
app.command("runs")(playbook_running.list_runs)
app.command("report")(playbook_running.report)
