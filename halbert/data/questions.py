"""Questions about texts in SQuAD's JSON: 1.1 and 2.0, and the sets that share the format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from halbert.data.readers import Example
from halbert.errors import InputError
from halbert.files import read_json

LARGEST = 1 << 30


def read_questions(path: str | os.PathLike[str], *, labelled: bool = True) -> Iterator[Example]:
    """Every question with its text (``text`` and ``pair``), its id and its accepted answers.

    A question with ``is_impossible``, or without any answer, has none. Raises :class:`InputError` for another format, an
    id that occurs twice, and answers that do not stand in the text where the file says.
    """
    path = Path(path)
    whole = read_json(path, LARGEST)
    articles = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(articles, list) or not articles:
        raise InputError(f'{path}: is not in SQuAD\'s format; expected {{"data": [{{"paragraphs": […]}}, …]}}')
    seen: set[str] = set()
    wrong: list[str] = []
    found = 0
    for article in articles:
        for paragraph in _get(article, "paragraphs", list, path):
            context = _get(paragraph, "context", str, path)
            for question in _get(paragraph, "qas", list, path):
                number = str(_get(question, "id", (str, int), path))
                if number in seen:
                    raise InputError(
                        f"{path}: the question id {number!r} occurs twice; predictions could not be told apart"
                    )
                seen.add(number)
                answers = () if question.get("is_impossible") else _answers(question, path, labelled)
                for start, text in answers or ():
                    if context[start : start + len(text)] != text:
                        wrong.append(
                            f"question {number!r}: {text[:40]!r} does not stand at character {start}, "
                            f"where {context[start : start + len(text)][:40]!r} does"
                        )
                found += 1
                yield Example(text=_get(question, "question", str, path), pair=context, id=number, answers=answers)
    if wrong:
        raise InputError(
            f"{path}: {len(wrong)} answers do not match their text. {wrong[0]}. Correct their answer_start"
        )
    if not found:
        raise InputError(f"{path}: holds no questions")


def _answers(question: dict[str, Any], path: Path, labelled: bool) -> tuple[tuple[int, str], ...] | None:
    if "answers" not in question and not labelled:
        return None
    found = []
    for answer in _get(question, "answers", list, path):
        start, text = _get(answer, "answer_start", int, path), _get(answer, "text", str, path)
        if start < 0:
            raise InputError(f"{path}: question {question['id']!r}: answer_start is {start}; expected at least 0")
        found.append((start, text))
    return tuple(found)


def _get(value: Any, name: str, kind: Any, path: Path) -> Any:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        near = f" of question {value['id']!r}" if isinstance(value, dict) and "id" in value else ""
        raise InputError(
            f"{path}: {name!r}{near} is {'missing' if found is None else repr(found)[:40]}; see SQuAD's format"
        )
    return found
