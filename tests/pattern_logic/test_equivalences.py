"""Two ways to say one thing mean the same, whatever the text: the evaluator against Sigma's own algebra."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from sharing_protocol.pattern_logic import compile_logic
from sharing_protocol.pattern_logic.events import fold
from sharing_protocol.pattern_logic.regexes import compile_regex, quote
from tests.pattern_logic.documents import items, rule

# Letters with peculiar cases, wildcards, escapes, line breaks, two planes; no half surrogates (tested by the table).
LONG_S, SIGMA, FINAL_SIGMA, DOTLESS_I = "\u017f", "\u03c3", "\u03c2", "\u0131"
ALPHABET = f"aAbB*?\\ .+(ßẞ{LONG_S}sS{SIGMA}{FINAL_SIGMA}ΣİiI{DOTLESS_I}Kkµμ\u212båÅ\n\t𐐀𐐨𝄞é"
TEXTS = st.text(ALPHABET, max_size=12)
NEEDLES = st.text(ALPHABET, min_size=1, max_size=4)
PRESENT = items(prompt_text__exists=True)


def escaped(text: str) -> str:
    """A Sigma value that means this text literally."""
    return re.sub(r"[\\*?]", lambda found: "\\" + found[0], text)


def answers(condition: str, event: dict[str, Any], **selections: Any) -> bool:
    return bool(compile_logic([rule(f"present and ({condition})", present=PRESENT, **selections)]).match_event(event))


@given(text=TEXTS, one=NEEDLES, two=NEEDLES)
def test_de_morgan(text: str, one: str, two: str) -> None:
    selections = {"a": items(prompt_text__contains=escaped(one)), "b": items(prompt_text__startswith=escaped(two))}
    event = {"prompt.text": text}
    assert answers("not (a and b)", event, **selections) == answers("not a or not b", event, **selections)
    assert answers("not (a or b)", event, **selections) == answers("not a and not b", event, **selections)
    assert answers("not not a", event, **selections) == answers("a", event, **selections)


@given(text=TEXTS, needle=NEEDLES)
@example(text=f"o{FINAL_SIGMA}", needle="OΣ")
@example(text="\u212a", needle="k")
def test_literal_text_means_what_an_anchored_expression_means(text: str, needle: str) -> None:
    event = {"prompt.text": text}
    for modifier, expression in (
        ("contains", quote(needle)),
        ("startswith", rf"\A{quote(needle)}"),
        ("endswith", rf"{quote(needle)}\z"),
        ("", rf"\A{quote(needle)}\z"),
    ):
        by_text = {f"prompt.text{'|' if modifier else ''}{modifier}": escaped(needle)}
        assert answers("a", event, a=by_text) == answers("a", event, a=items(prompt_text__re__i=expression))
        cased = {f"prompt.text|{modifier}|cased".replace("||", "|"): escaped(needle)}
        assert answers("a", event, a=cased) == answers("a", event, a=items(prompt_text__re=expression))


@given(text=TEXTS, glob=st.text("ab*?\\\n", min_size=1, max_size=8))
def test_wildcards_mean_any_run_and_any_one(text: str, glob: str) -> None:
    expression, position = "", 0
    while position < len(glob):  # Sigma's rules of escaping, written once more and independently
        pair = glob[position : position + 2]
        if pair in ("\\*", "\\?", "\\\\"):
            expression += re.escape(pair[1])
            position += 2
        else:
            expression += {"*": "[^a]*|", "?": "."}.get(pair[0], re.escape(pair[0])).replace("[^a]*|", ".*")
            position += 1
    wanted = re.fullmatch(expression, text, re.DOTALL) is not None
    assert answers("a", {"prompt.text": text}, a=items(prompt_text__cased=glob)) == wanted


@given(text=TEXTS, needles=st.lists(NEEDLES, min_size=2, max_size=4))
def test_lists_are_or_and_all_is_and(text: str, needles: list[str]) -> None:
    event = {"prompt.text": text}
    single = {f"s{number}": items(prompt_text__contains=escaped(needle)) for number, needle in enumerate(needles)}
    values = [escaped(needle) for needle in needles]
    assert answers("a", event, a=items(prompt_text__contains=values)) == answers("1 of s*", event, **single)
    assert answers("a", event, a=items(prompt_text__contains__all=values)) == answers("all of s*", event, **single)
    assert answers("a", event, a=items(prompt_text__contains__neq=values)) == answers("not 1 of s*", event, **single)


@given(number=st.none() | st.integers(-9, 9) | st.floats(-9, 9), bound=st.integers(-9, 9))
def test_comparisons_split_the_numbers(number: float | None, bound: int) -> None:
    event = {"prompt.text": "", "prompt.turns": number}
    truths = [
        answers("a", event, a=selection)
        for selection in (items(prompt_turns__lt=bound), items(prompt_turns=bound), items(prompt_turns__gt=bound))
    ]
    assert sum(truths) == (number is not None)
    assert answers("a", event, a=items(prompt_turns__gte=bound)) == (truths[1] or truths[2])
    assert answers("a", event, a=items(prompt_turns__lte=bound)) == (truths[0] or truths[1])


def test_folding_is_what_re2_ignores() -> None:
    everyone = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    changed = [character for character in everyone if fold(character) != character]
    assert len(changed) > 1_300
    assert all(len(fold(character)) == 1 for character in everyone)
    for character in changed:
        expression = compile_regex(rf"(?i)\A{quote(fold(character))}\z")
        assert expression.search(character.encode()) is not None
        assert fold(fold(character)) == fold(character)
    for pair in ("ßẞ", SIGMA + FINAL_SIGMA, "k\u212a", f"s{LONG_S}", "µμ", "å\u212b"):
        assert fold(pair[0]) == fold(pair[1])
    for pair in (f"i{DOTLESS_I}", "iİ"):
        assert fold(pair[0]) != fold(pair[1])


@given(st.text(ALPHABET + "abc"))
def test_folding_goes_character_by_character(text: str) -> None:
    assert fold(text) == "".join(fold(character) for character in text)


WITHOUT_NETWORK_OR_DISK = """
import json, sys
from sharing_protocol.pattern_logic import compile_logic
documents = json.loads(sys.argv[1])
compile_logic(documents)  # imports what it needs

def refuse(event, arguments):
    if event.startswith(("socket.", "urllib.", "subprocess.", "os.system", "shutil.")) or event in ("open", "os.mkdir"):
        raise RuntimeError(f"{event} {arguments}")

sys.addaudithook(refuse)
compile_logic(documents)
print("quiet")
"""


def test_compiling_touches_neither_network_nor_disk() -> None:
    documents = [{**rule(s=items(prompt_text__re__i="river")), "tags": ["attack.t1059"], "level": "high"}]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK_OR_DISK, json.dumps(documents)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == ("quiet", "")


def test_a_bad_expression_writes_nothing_to_standard_error() -> None:
    script = "from sharing_protocol.pattern_logic.detections import check_detection as c\n"
    script += "from sharing_protocol.pattern_logic.issues import IssueList\n"
    script += "c({'s': {'prompt.text|re': '(('}, 'condition': 's'}, 'request', 'd', IssueList())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
