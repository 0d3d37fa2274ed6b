"""The whole story on one machine: labs share patterns through a hub that nobody has to trust.

    python docs/demo.py            tell the story, leave nothing running
    python docs/demo.py --serve    set the forum up, then leave the hub running and say what to try

Everything is real: a hub process on Postgres, and the commands that admins, analysts and schedulers run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from docs.demo_response import respond
from docs.demo_stage import DemoFailed, Stage
from docs.demo_tampering import alter_entry, restore_entry, rewrite_history
from docs.demo_traffic import POOL_ACCOUNTS, POOL_REQUESTS, write_legitimate, write_pool, write_traffic

ADMINS = ("ada", "ben", "cleo")
LABS = {"aurora": "Aurora Labs", "boreal": "Boreal AI", "cirrus": "Cirrus Research"}
BY_AURORA = ("self-instruct-bootstrapping", "evol-instruct-rewriting", "templated-topic-sweep", "self-chat-scripts")
BY_BOREAL = ("reasoning-trace-reconstruction", "preference-data-rubrics")
BY_NOBODY = "tool-use-trace-harvesting"
SAMPLE, LEGITIMATE = "requests.jsonl", "legitimate.txt"
POOL_PATTERN = "account-burst-behind-one-payment"


def found(stage: Stage) -> str:
    """Three admins found a forum; any two of them decide together."""
    stage.scene(
        "The hub", "An operator starts a hub. It keeps the log; it holds no admin's key, and nobody has to trust it."
    )
    stage.start_hub()
    identity = json.loads(stage.operate("identity", "--json", lines=0))
    for name in ("origin", "log_key", "timestamp_key"):
        stage.console.print(f"    {name}: {identity[name]}")
    stage.scene(
        "The forum", "Three people will be its admins, and any two of them decide together. Each makes a key at home."
    )
    for name in ADMINS:
        stage.run(
            name, "init", "--admin", "--name", name.capitalize(), "--hub", stage.url, "-o", _card(stage, name), lines=0
        )
    founding = str(stage.root / "founding.json")
    cards = [word for name in ADMINS for word in ("--admin", _card(stage, name))]
    stage.run(
        "ada", "forum", "found", "--name", "Distillation Watch", *cards,
        "--threshold", "2", "--log-key", identity["log_key"], "--timestamp-key", identity["timestamp_key"],
        "-o", founding, "--yes",
    )  # fmt: skip
    output = stage.run("ben", "forum", "sign", founding, "--yes", "--json", lines=0)
    fingerprint: str = json.loads(output)["fingerprint"]
    stage.tell("Ben signs it too. The operator is told the fingerprint, and binds the hub to this forum and no other.")
    stage.operate("bind", fingerprint)
    stage.run("ada", "forum", "found", "--submit", founding)
    for name in ("ben", "cleo"):
        stage.run(name, "pin", fingerprint, lines=0)
    return fingerprint


def admit_labs(stage: Stage, fingerprint: str) -> None:
    """Three competing labs join; each pins the forum's fingerprint."""
    stage.scene("The labs", "Three competing labs join. Each makes its keys at home, and pins the forum's fingerprint.")
    for home, name in LABS.items():
        request = _card(stage, home)
        shown = 4 if home == "aurora" else 0
        stage.run(home, "init", "--name", name, "--hub", stage.url, "--forum", fingerprint, "-o", request, lines=shown)
        proposal = json.loads(stage.run("ada", "forum", "admit", request, "--yes", "--json", lines=0))["proposal"]
        stage.run("ben", "forum", "sign", proposal[:16], "--yes", lines=12 if home == "aurora" else 0)
    for home in LABS:
        stage.run(home, "sync")
    stage.run("cirrus", "forum", "log")


def share_patterns(stage: Stage) -> dict[str, str]:
    """Analysts write, test and submit patterns; the other labs verify them.

    Returns:
        Record ids by starter name.
    """
    stage.scene(
        "Patterns", "Analysts share how models are being copied: executable patterns that carry their own tests."
    )
    ids: dict[str, str] = {}
    for home, starters in (("aurora", BY_AURORA), ("boreal", BY_BOREAL)):
        files = [str(stage.root / f"{starter}.yaml") for starter in starters]
        for starter, file in zip(starters, files, strict=True):
            stage.run("", "pattern", "new", "--from", starter, "-o", file, lines=0)
        if home == "aurora":
            stage.run("", "pattern", "lint", *files)
            stage.run("", "pattern", "test", files[0])
        answers = json.loads(stage.run(home, "pattern", "submit", *files, "--json", lines=0))
        for starter, answer in zip(starters, answers, strict=True):
            ids[starter] = answer["id"]
            stage.tell(f"    {starter}: logged as entry {answer['index']}, with a proof that it is in the log")
    stage.tell("The other labs fetch the log and verify all of it: signatures, authority, every hash.")
    for home in LABS:
        stage.run(home, "sync")
    stage.run("cirrus", "pattern", "list", lines=20)
    counts = {home: len(stage.ask(home, "pattern", "list")) for home in LABS}
    stage.check("patterns in force at each lab", counts, set(counts.values()) == {len(ids)})
    return ids


def detect_and_report(stage: Stage, ids: dict[str, str]) -> None:
    """Boreal finds a campaign in its own traffic with Aurora's patterns, and says so without showing any of it."""
    stage.scene(
        "A campaign",
        "Somebody copies Boreal's model: 36 accounts, 12 requests each, mixed into ordinary traffic. Boreal runs the",
        "patterns in force over its own request log. The log never leaves the lab.",
    )
    log = stage.root / "boreal-requests.jsonl"
    guilty = write_traffic(log)
    detections = stage.root / "boreal-detections.jsonl"
    stage.run("boreal", "detect", str(log), "-o", str(detections))
    caught = {json.loads(line)["account.id"] for line in detections.read_text().splitlines()}
    stage.check("accounts caught", len(caught), caught == guilty)
    stage.check("innocent accounts flagged", len(caught - guilty), not caught - guilty)
    stage.tell("It tells the others what was seen and roughly how much: powers of ten, whole days, no customer data.")
    stage.run("boreal", "sighting", "report", "--yes", lines=30)
    stage.run("aurora", "sync", lines=0)
    shown = stage.run("aurora", "pattern", "show", ids["self-instruct-bootstrapping"], lines=30)
    stage.check("Aurora sees who sighted it", "Boreal AI" in shown, "Boreal AI" in shown)


def find_the_pool(stage: Stage) -> None:
    """Aurora sees a pool of accounts, each of them unremarkable; with its pattern Boreal finds one of its own."""
    stage.scene(
        "A pool of accounts",
        f"The next campaign is careful: {POOL_ACCOUNTS} accounts, {POOL_REQUESTS} requests each, no two prompts alike.",
        "But all of them are new, and paid from one place. Aurora tries a pattern of that on its own history before it",
        "shares it, and names 120 accounts that it knows as legitimate.",
    )
    log, legitimate = stage.root / "aurora-requests.jsonl", stage.root / "aurora-legitimate.txt"
    write_pool(log, "aurora", seed=11)
    write_legitimate(legitimate)
    file = str(stage.root / f"{POOL_PATTERN}.yaml")
    stage.run("", "pattern", "new", "--from", POOL_PATTERN, "-o", file, lines=0)
    stage.run("aurora", "pattern", "backtest", file, str(log), "--legitimate", str(legitimate))
    stage.tell(
        "It submits the pattern. Boreal runs it over its own traffic: other accounts, another payer, the same work."
    )
    (answer,) = json.loads(stage.run("aurora", "pattern", "submit", file, "--json", lines=0))
    stage.run("boreal", "sync", lines=0)
    log, detections = stage.root / "boreal-later.jsonl", stage.root / "boreal-later-detections.jsonl"
    pool = write_pool(log, "boreal", seed=12)
    stage.run("boreal", "detect", str(log), "-o", str(detections))
    found = [json.loads(line) for line in detections.read_text().splitlines()]
    clusters = [one["cluster"] for one in found if one["pattern"] == answer["id"]]
    stage.check("pools found", len(clusters), len(clusters) == 1)
    [cluster] = clusters
    named = {*cluster["accounts"]}
    stage.check("pool accounts found", len(named), named == pool)
    alone = {one["account.id"] for one in found} & pool
    stage.check("pool accounts that other patterns found", len(alone), not alone)


def revise_withdraw_revoke(stage: Stage, ids: dict[str, str]) -> None:
    """Records change only by new versions, and keys end by position in the log."""
    stage.scene(
        "Changes",
        "Nothing in the log is ever overwritten. A revision is a new version, a withdrawal an entry of its own.",
    )
    file = stage.root / "self-instruct-bootstrapping.yaml"
    text = file.read_text()
    lines = [f"confidence: {99}" if line.startswith("confidence:") else line for line in text.split("\n")]
    file.write_text("\n".join(lines))
    stage.run("aurora", "pattern", "revise", ids["self-instruct-bootstrapping"], str(file))
    stage.run("aurora", "pattern", "withdraw", ids["self-chat-scripts"], "--reason", "Superseded by a better pattern.")
    stage.run("cirrus", "sync", lines=0)
    stage.run("cirrus", "pattern", "show", ids["self-instruct-bootstrapping"], "--diff", "1..2", lines=30)
    states = {row["id"]: row["state"] for row in stage.ask("cirrus", "pattern", "list", "--state", "all")}
    stage.check(
        "state of the withdrawn pattern",
        states[ids["self-chat-scripts"]],
        states[ids["self-chat-scripts"]] == "withdrawn",
    )
    stage.tell(
        "Aurora's analyst loses a laptop. Its owner key revokes the analyst key; from there on it signs nothing."
    )
    shutil.copytree(stage.root / "aurora", stage.root / "laptop")
    [key] = [key for key in stage.ask("aurora", "key", "list") if key["role"] == "analyst"]
    stage.run("aurora", "key", "revoke", key["key_id"][:12], "--reason", "lost laptop")
    stage.tell("Whoever found the laptop tries to submit with it:")
    forged = str(stage.root / "forged.yaml")
    stage.run("", "pattern", "new", "--from", BY_NOBODY, "-o", forged, lines=0)
    stage.run("laptop", "pattern", "submit", forged, "--no-sync", expect=3)
    stage.run("boreal", "sync")
    entries = {home: stage.ask(home, "sync")["entries"] for home in LABS}
    stage.check("entries verified at each lab", entries, len(set(entries.values())) == 1)


def tamper(stage: Stage, ids: dict[str, str]) -> None:
    """A hub that lies is caught, by arithmetic, in the client."""
    stage.scene(
        "A dishonest hub",
        "So far the hub was honest. Now its operator, who holds the database and the signing keys, lies, twice.",
    )
    stage.operate("check")
    versions = stage.ask("aurora", "pattern", "show", ids["preference-data-rubrics"])["versions"]
    index: int = versions[0]["index"]
    stage.tell(f"First lie: with SQL, the operator changes some bytes of entry {index}, Boreal's pattern.")
    original = _envelope(stage.root / "aurora" / "store.sqlite", index)
    stage.stop_hub()
    alter_entry(stage.hub_home, index, original[40:60], original[41:61])
    stage.start_hub(echo=False)
    stage.tell("Cirrus sets up a second machine, which reads the log from the start:")
    _copy_home(stage.root / "cirrus", stage.root / "cirrus-2", only_key="sync")
    stage.run("cirrus-2", "sync", expect=5)
    stage.tell("The operator's own tool names it as well:")
    stage.operate("check", expect=1)
    stage.stop_hub()
    restore_entry(stage.hub_home, index, original)
    stage.tell(
        f"Second lie, a better one: entry {index} never was. New tiles, new tree, properly signed with the log's key."
    )
    rewrite_history(stage.hub_home, index)
    stage.start_hub(echo=False)
    before = stage.ask("boreal", "status")["entries"]
    stage.run("boreal", "sync", expect=5)
    evidence = sorted((stage.root / "boreal" / "evidence").glob("*.json"))
    kept = json.loads(evidence[-1].read_text())
    stage.check("how the second lie was caught", kept["fault"], kept["fault"] in ("roll back", "fork"))
    stage.check("entries Boreal still holds", stage.ask("boreal", "status")["entries"], before > index)
    stage.tell(f"Boreal keeps its last good state ({before} entries), and both signed checkpoints as evidence:")
    for name, document in list(kept["documents"].items())[:2]:
        stage.console.print(f"    {name}: {document.splitlines()[1]} entries, root {document.splitlines()[2]}")


def tell(stage: Stage) -> None:
    """The story from beginning to end."""
    fingerprint = found(stage)
    admit_labs(stage, fingerprint)
    ids = share_patterns(stage)
    detect_and_report(stage, ids)
    respond(stage, ids["self-instruct-bootstrapping"])
    find_the_pool(stage)
    revise_withdraw_revoke(stage, ids)
    tamper(stage, ids)


def summarise(stage: Stage, seconds: float) -> None:
    """What was shown."""
    stage.scene("Summary")
    for name, value in stage.facts.items():
        stage.console.print(f"    {name}: {value}")
    stage.console.print(f"    took {seconds:.0f} s; everything lies in {stage.root.name}/ and can be deleted")


def serve(stage: Stage) -> None:
    """Set the forum up and leave the hub running."""
    fingerprint = found(stage)
    admit_labs(stage, fingerprint)
    ids = share_patterns(stage)
    write_traffic(stage.root / SAMPLE)
    write_legitimate(stage.root / LEGITIMATE)
    stage.scene("Running", f"The hub answers at {stage.url}. Ctrl-C ends it. In another terminal, try:")
    for line in to_try(stage.root, ids["self-instruct-bootstrapping"]):
        stage.console.print(f"    {line}")
    stage.wait()


def to_try(home: Path, pattern: str) -> tuple[str, ...]:
    """Lines to try in the forum that `serve` leaves running.

    Args:
        home: where the labs' homes and the sample of request logs are.
        pattern: id of one that finds something in the sample.
    """
    sample, legitimate = home / SAMPLE, home / LEGITIMATE
    return (
        "export PATH=$PWD/.venv/bin:$PATH",
        f"stillwatch pattern list --home {home}/cirrus",
        f"stillwatch detect {sample} --home {home}/cirrus",
        f"stillwatch pattern backtest {pattern} {sample} --legitimate {legitimate} --home {home}/cirrus",
        f"stillwatch policy init --home {home}/cirrus",
        f"stillwatch pattern starters --home {home}/cirrus",
        f"stillwatch pattern new query_pattern -o mine.yaml --home {home}/cirrus",
        f"stillwatch pattern submit mine.yaml --home {home}/cirrus",
        f"stillwatch sync --home {home}/aurora",
        f"stillwatch doctor --home {home}/aurora",
        f"stillwatch-hub check --home {home}/hub",
    )


def main() -> int:
    """Run the demo; exit 0 when every step ended as told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="leave the hub running")
    parser.add_argument("--folder", type=Path, default=Path("build/demo"), help="where to work; emptied first")
    arguments = parser.parse_args()
    stage = Stage(arguments.folder.resolve())
    stage.clear()
    started = time.monotonic()
    try:
        if arguments.serve:
            serve(stage)
        else:
            tell(stage)
            summarise(stage, time.monotonic() - started)
    except DemoFailed as error:
        stage.console.print(f"\nThe demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        stage.console.print("\nStopped.")
    finally:
        stage.stop_hub()
    return 0


def _card(stage: Stage, name: str) -> str:
    return str(stage.root / f"{name}.request.json")


def _envelope(store: Path, index: int) -> bytes:
    with closing(sqlite3.connect(store)) as database:
        row = database.execute("SELECT envelope FROM entries WHERE idx = ?", (index,)).fetchone()
    return bytes(row[0])


def _copy_home(source: Path, target: Path, only_key: str) -> None:
    """Another machine of the same lab: its settings and one key, and nothing that was read so far."""
    target.mkdir(mode=0o700)
    (target / "keys").mkdir(mode=0o700)
    (target / "config.toml").write_bytes((source / "config.toml").read_bytes())
    for path in (source / "keys").glob(f"{only_key}-*"):
        copy = target / "keys" / path.name
        copy.write_bytes(path.read_bytes())
        copy.chmod(0o600)


if __name__ == "__main__":
    sys.exit(main())
