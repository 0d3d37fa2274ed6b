"""`stillwatch pattern`: write, try, publish and look up patterns."""

from __future__ import annotations

import typer

from member_client.cli import opinion, pattern_backtest, pattern_publishing, pattern_viewing, pattern_writing

app = typer.Typer(help="Write, test, publish and look up patterns.", no_args_is_help=True)
app.command("new")(pattern_writing.new)
app.command("starters")(pattern_writing.starters)
app.command("lint")(pattern_writing.lint_files)
app.command("test")(pattern_writing.try_files)
app.command("backtest")(pattern_backtest.backtest)
app.command("submit")(pattern_publishing.submit)
app.command("revise")(pattern_publishing.revise)
app.command("resign")(pattern_publishing.resign)
app.command("withdraw")(pattern_publishing.withdraw)
app.command("list")(pattern_viewing.list_patterns)
app.command("search")(pattern_viewing.search)
app.command("show")(pattern_viewing.show)
app.command("feedback")(opinion.pattern_feedback)
app.command("export")(pattern_viewing.export)
