"""policy.toml: strict, with a line for everything, and a template and a reference that say the same as the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from member_client.lifecycle.policy import Policy, Settings
from member_client.lifecycle.policy_file import PolicyRefused, parse, settings_of, template
from member_client.lifecycle.standing import Stage

REFERENCE = Path("docs/policy-reference.md")
ROW = re.compile(r"^\| `([a-z_.]+)` \| ([^|]*) \|", re.MULTILINE)


def value_of(policy: Policy, setting: str) -> Any:
    value: Any = policy.settings.model_dump(mode="json")
    for part in setting.split("."):
        value = value[part]
    return value


def test_the_template_says_every_setting_and_each_as_it_is_by_default() -> None:
    policy = parse(template().encode())
    lines = template().splitlines()
    for setting in settings_of():
        section, _, name = setting.rpartition(".")
        written = lines[policy.line(setting) - 1]
        if setting == "trust.highest_stage":
            assert written == "[trust.highest_stage]"
            continue
        assert written.startswith(f"{name} = ")
        headers = [line for line in lines[: policy.line(setting)] if line.startswith("[")]
        assert headers[-1:] == ([f"[{section}]"] if section else [])
        if setting != "highest_stage":
            assert value_of(policy, setting) == value_of(Policy(), setting)
    assert policy.settings.highest_stage is Stage.ENFORCE
    assert Settings().highest_stage is Stage.SHADOW


def test_every_setting_of_the_template_has_a_comment() -> None:
    lines = template().splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith(("#", "[")):
            above = lines[number - 1]
            assert above.startswith("#") or " = " in above, line  # settings that one comment explains stand together


def test_the_reference_has_every_setting_with_its_default_and_no_other() -> None:
    rows = dict(ROW.findall(REFERENCE.read_text("utf-8")))
    assert list(rows) == list(settings_of())
    for setting, said in rows.items():
        value = value_of(Policy(), setting)
        shown = " ".join(value) if isinstance(value, list | dict) and setting != "rollout.steps" else value
        shown = " ".join(map(str, value)) if setting == "rollout.steps" else shown
        text = str(shown).lower() if isinstance(shown, bool) else str(shown)
        assert said.partition(";")[0].strip("` ") == (text or "none"), setting


def test_the_numbers_that_comments_and_reference_give_are_so() -> None:
    from sharing_protocol.intervals import wilson

    assert wilson(16, 16)[0] >= 0.8 > wilson(15, 15)[0]
    assert wilson(24, 25)[0] >= 0.8 > wilson(23, 24)[0]
    assert wilson(0, 381)[1] <= 0.01 < wilson(0, 380)[1]
    for text in (template().replace("\n#", ""), REFERENCE.read_text("utf-8").replace("\n", " ")):
        assert "16" in text
        assert "25 of which one was not" in text
        assert "381" in text


WRONG: list[tuple[str, int, str, str]] = [
    ("[enforce]\nendorsments = 2", 2, "enforce.endorsments: there is no such setting", "endorsements under [enforce]"),
    ("\nbudget = 0.1", 2, "budget: there is no such setting", "budget under [false_positives]"),
    ("[false_positives]\nbudget = 1.5", 2, "less than or equal to 1", "policy-reference"),
    ("[false_positives]\nbudget = nan", 2, "finite", "policy-reference"),
    ("[shadow]\nhours = true", 2, "valid integer, not True", "policy-reference"),
    ('[shadow]\nhours = "72"', 2, "valid integer, not '72'", "policy-reference"),
    ('highest_stage = "retired"', 1, "received, tested, shadow, flag or enforce", "policy-reference"),
    ("stop = 1", 1, "valid boolean, not 1", "policy-reference"),
    ("[rollout]\nsteps = [\n  10,\n  1,\n]", 2, "the steps rise", "policy-reference"),
    ("[rollout]\nsteps = []", 2, "at least 1 item", "policy-reference"),
    ("[disputes]\ndemote = 3", 1, "retire is not smaller than demote", "policy-reference"),
    ("[disputes]\n\ndemote = 0", 3, "greater than or equal to 1", "policy-reference"),
    ('[enforce]\nmarkings = [\n  "clear",\n  "pink",\n]', 2, "'amber+strict' or 'red', not 'pink'", "policy-reference"),
    ('[trust.highest_stage]\n# them\n"Some lab" = "fly"', 3, "trust.highest_stage.Some lab", "policy-reference"),
    ('[decisions.actions]\nhigh = "shoot"', 2, "'throttle' or 'block', not 'shoot'", "policy-reference"),
    ("[[enforce]]\nendorsements = 1", 1, "enforce: it should be", "policy-reference"),
    ("stop = false\nstop = true", 2, "not TOML", "setting = value"),
    ("stop = yes", 1, "not TOML", "setting = value"),
    ("stop =", 1, "not TOML", "setting = value"),
    ("# é", 1, "not UTF-8", "UTF-8"),
    ("\ufeffstop = true", 1, "byte order mark", "without BOM"),
    (".".join(["deep"] * 2_000) + " = 1", 1, "deep: there is no such setting", "policy-reference"),
]


@pytest.mark.parametrize(("text", "line", "what", "mend"), WRONG)
def test_what_cannot_be_meant_is_refused_with_its_line_and_how_to_mend_it(
    text: str, line: int, what: str, mend: str
) -> None:
    with pytest.raises(PolicyRefused) as caught:
        parse(text.encode("latin-1" if "UTF-8" in what else "utf-8"))
    assert f"policy.toml: line {line}: " in str(caught.value)
    assert what in str(caught.value)
    assert mend in caught.value.hint


@pytest.mark.parametrize("text", ["[flag]\nhours = " + "9" * 5_000, "[flag]\nhours = " + "[" * 5_000])
def test_what_the_parser_itself_gives_up_on_is_refused_like_any_fault(text: str) -> None:
    with pytest.raises(PolicyRefused, match="it is not TOML"):
        parse(text.encode())


def test_all_faults_are_told_by_line() -> None:
    with pytest.raises(PolicyRefused) as caught:
        parse(b"[gate]\nfail = 'maybe'\n[flag]\nhours = -1\n[shadow]\nhour = 1\n")
    assert [fault.line for fault in caught.value.faults] == [2, 4, 6]
    assert "(and 2 more)" in str(caught.value)


def test_a_file_is_bounded() -> None:
    with pytest.raises(PolicyRefused, match="lines"):
        parse(b"\n" * 1_001)


BLANK = st.sampled_from(["", "\n", "# a comment\n", "\n# [shadow]\n# hours = 1\n\n"])


@given(before=BLANK, after=BLANK, split=st.booleans(), dotted=st.booleans(), ending=st.sampled_from(["\n", "\r\n"]))
def test_lines_are_right_however_it_is_written(before: str, after: str, split: bool, dotted: bool, ending: str) -> None:
    steps = "[\n  1, # ] one\n  50,\n]" if split else "[1, 50]"
    head, prefix = ("", "rollout.") if dotted else ("[rollout]\n", "")
    text = f"{before}{head}{prefix}steps = {steps}\n{after}{prefix}hours = 5\n"
    policy = parse(text.replace("\n", ending).encode())
    assert policy.settings.rollout.steps == (1, 50)
    lines = text.splitlines()
    assert lines[policy.line("rollout.steps") - 1].startswith(f"{prefix}steps")
    assert lines[policy.line("rollout.hours") - 1] == f"{prefix}hours = 5"
    assert policy.line("shadow.hours") == 0
