"""Small made-up prompts for simulated labs: no test needs a corpus."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

from member_client.evaluation.prompts import PromptFile

_SUBJECTS = {
    "questions": "how why when where which garden river train bread winter island music doctor school window history",
    "code": "function list class error python loop string array sort query null thread parser regex module test",
    "letters": "dear please thanks order parcel refund address invoice late return customer meeting monday contract",
    "batch_labels": "label sentiment positive negative review product service staff clean price broken happy poor",
}


def sentences(words: str, count: int, seed: int, opening: str = "") -> tuple[str, ...]:
    """Different short texts of these words."""
    draw = random.Random(seed)
    vocabulary = words.split()
    return tuple(
        f"{opening}{' '.join(draw.choices(vocabulary, k=draw.randint(5, 20)))} {number}?" for number in range(count)
    )


def ordinary_files(rows: int = 400) -> list[PromptFile]:
    """Files of ordinary use, one of them for batch customers."""
    return [PromptFile(name, sentences(words, rows, number)) for number, (name, words) in enumerate(_SUBJECTS.items())]


def attack_file(rows: int = 400, name: str = "harvest") -> PromptFile:
    """A campaign's prompts, of another vocabulary."""
    words = "theorem integral proof lemma algebra matrix vector prime modulo graph kernel tensor entropy bound limit"
    return PromptFile(name, sentences(words, rows, 99, "Solve the following exercise carefully: "))


def write(folder: Path, file: PromptFile) -> Path:
    """The same as a gzipped file of JSON lines."""
    path = folder / f"{file.name}.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt in file.prompts)
    return path
