"""Rows of a user's files as records, by the columns that the config names and in the shapes that people have."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Generic, NamedTuple, TypeVar

from bench.data.config import ColumnsConfig, ControlledConfig, FilesConfig
from bench.data.prompts import bare_prompt, titled_prompt, tldr_prompt
from bench.data.rows import Row
from bench.data.shapes import Preference, is_conversation, ranked, spoken, without_prompt
from bench.errors import DataError
from bench.records import Demonstration, PreferencePair

R = TypeVar("R", Demonstration, PreferencePair)
_DEFAULT_NAMES = {column.name: column.default for column in fields(ColumnsConfig)}
_MESSAGES = "messages"
"""Where a demonstration is a conversation, as TRL and OpenAI have it."""


class Parsed(NamedTuple, Generic[R]):
    """What a row says once. A tie is a pair and its mirror image."""

    records: Sequence[R]
    is_tie: bool = False


class Parser:
    """Turns rows into records; counts in `dropped` why some gave none."""

    def __init__(self, config: FilesConfig | ControlledConfig, columns: ColumnsConfig) -> None:
        self.config, self.columns = config, columns
        self.dropped: Counter[str] = Counter()

    def demonstration(self, row: Row, default_id: str) -> list[Parsed[Demonstration]]:
        if self.columns.completion not in row.cells and is_conversation(row.cells.get(_MESSAGES)):
            prompt, completion = spoken(row.cells[_MESSAGES], row, _MESSAGES)
            prompt, completion = (text_of(text, row, _MESSAGES) for text in (prompt, completion))
        else:
            self._require_columns(row, ["completion"])
            said, completion = self._said(row, "completion")
            prompt = self._prompt(row, said)
        (completion,) = without_prompt(prompt, completion)
        return [Parsed([Demonstration(self._id(row, default_id), prompt, completion)])]

    def pairs(self, row: Row, default_id: str) -> list[Parsed[PreferencePair]]:
        """The row's pairs, none for equal texts (under `identical_pairs="drop"`)."""
        prompt, preferences = self._ranking(row) if self.columns.ranking else self._pair(row)
        reference = self._reference(row)
        name, found = self._id(row, default_id), []
        for place, preference in enumerate(preferences):
            chosen, rejected = preference.chosen, preference.rejected
            if chosen == rejected and not preference.is_tie:
                if self.config.identical_pairs == "error":
                    raise DataError(
                        f"{row.where}: chosen and rejected are equal; data.identical_pairs=drop leaves such out"
                    )
                self.dropped["identical pairs"] += 1
                continue
            own = name if len(preferences) == 1 else f"{name}/{place}"
            pair = PreferencePair(own, prompt, chosen, rejected, reference)
            mirrored = PreferencePair(f"{own}/tie", prompt, rejected, chosen, reference)
            found.append(Parsed([pair, mirrored] if preference.is_tie else [pair], preference.is_tie))
        return found

    def described(self, row: Row, default_id: str) -> list[Parsed[Demonstration]]:
        """The post of a row with preferences and what a person wrote of it, where somebody did; the preferences are not
        looked at, but for a question that stands in them."""
        reference = self._reference(row)
        if reference is None:
            return []
        said = self._said(row, "chosen")[0] if is_conversation(row.cells.get(self.columns.chosen)) else ""
        return [Parsed([Demonstration(self._id(row, default_id), self._prompt(row, said), reference)])]

    def _reference(self, row: Row) -> str | None:
        """The human summary, which may be empty or not be there."""
        reference = self._optional(row, "reference")
        return None if reference is None else text_of(reference, row, self.columns.reference, may_be_empty=True) or None

    def _pair(self, row: Row) -> tuple[str, list[Preference]]:
        self._require_columns(row, ["chosen", "rejected"])
        before, chosen = self._said(row, "chosen")
        other, rejected = self._said(row, "rejected")
        if before != other and before and other:
            raise DataError(f"{row.where}: chosen and rejected answer different prompts; make them answer one")
        prompt = self._prompt(row, before)
        chosen, rejected = without_prompt(prompt, chosen, rejected)
        return prompt, [Preference(chosen, rejected, self._is_tie(row))]

    def _ranking(self, row: Row) -> tuple[str, list[Preference]]:
        self._require_columns(row, ["ranking"])
        prompt, column = self._prompt(row, ""), str(self.columns.ranking)
        summaries = without_prompt(prompt, *(text_of(text, row, column) for text in self._list(row, "ranking")))
        ratings = self._list(row, "ratings") if self.columns.ratings else None
        if ratings is not None and len(ratings) != len(summaries):
            raise DataError(f"{row.where}: {len(summaries)} summaries and {len(ratings)} ratings; give one for each")
        for rating in ratings or []:
            if isinstance(rating, bool) or not isinstance(rating, (int, float)) or rating != rating:
                raise DataError(f"{row.where}: column {self.columns.ratings!r} holds {rating!r}, which is no number")
        if len(summaries) < 2:
            raise DataError(
                f"{row.where}: column {column!r} holds {len(summaries)} summaries; a ranking has two or more"
            )
        return prompt, ranked(summaries, ratings)

    def _list(self, row: Row, key: str) -> list[Any]:
        """A cell that is a list, or JSON of one, as in CSV."""
        column = getattr(self.columns, key)
        value = self._cell(row, key, column)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError:
                value = None
        if not isinstance(value, list):
            raise DataError(f'{row.where}: column {column!r} holds no list; write it as JSON: ["...", "..."]')
        return value

    def _said(self, row: Row, key: str) -> tuple[str, str]:
        """What stands before a summary in its own cell (a conversation's question; else empty), and the summary."""
        column = getattr(self.columns, key)
        value = self._cell(row, key, column)
        if not is_conversation(value):
            return "", text_of(value, row, column)
        before, said = spoken(value, row, column)
        if not said:
            raise DataError(f"{row.where}: column {column!r} holds a conversation without an answer of the assistant")
        return before, text_of(said, row, column)

    def _require_columns(self, row: Row, keys: list[str]) -> None:
        """Refuse a row that lacks several columns once, with all of them."""
        if self.columns.post is None:
            in_cells = [row.cells.get(getattr(self.columns, key)) for key in keys]
            keys = keys if any(map(is_conversation, in_cells)) else ["prompt", *keys]
        else:
            keys = [*(key for key in ("subreddit", "title", "post") if getattr(self.columns, key)), *keys]
        missing = [key for key in keys if getattr(self.columns, key) not in row.cells]
        if len(missing) < 2:
            return  # whoever reads it says so
        names = ", ".join(repr(getattr(self.columns, key)) for key in missing)
        settings = " ".join(f"data.columns.{key}=NAME" for key in missing)
        raise DataError(f"{row.where}: no columns {names} (columns: {', '.join(row.cells)}); set {settings}")

    def _prompt(self, row: Row, said: str) -> str:
        """The prompt of its column, or what the conversation `said`."""
        if self.columns.post is not None:
            post = self._text(row, "post")
            if self.columns.title is None:
                return bare_prompt(post)
            if self.columns.subreddit is None:
                return titled_prompt(self._text(row, "title"), post)
            return tldr_prompt(self._text(row, "subreddit"), self._text(row, "title"), post)
        if said and self.columns.prompt not in row.cells:
            return said
        value = self._cell(row, "prompt", self.columns.prompt)
        if is_conversation(value):
            value, _ = spoken(value, row, self.columns.prompt)
        return text_of(value, row, self.columns.prompt)

    def _text(self, row: Row, key: str) -> str:
        """The stripped text of a column that must be there."""
        column = getattr(self.columns, key)
        return text_of(self._cell(row, key, column), row, column)

    def _id(self, row: Row, default_id: str) -> str:
        value = self._optional(row, "id")
        if value is None:
            return default_id
        is_number = isinstance(value, int) and not isinstance(value, bool)
        return str(value) if is_number else text_of(value, row, self.columns.id)

    def _is_tie(self, row: Row) -> bool:
        if self.columns.tie is None:
            return False
        value = self._cell(row, "tie", self.columns.tie)
        is_tie = {"true": True, "1": True, "false": False, "0": False, "": False}.get(str(value).strip().lower())
        if is_tie is None:
            raise DataError(f"{row.where}: column {self.columns.tie!r} holds {value!r}; a tie is true or false, 1 or 0")
        return is_tie

    def _optional(self, row: Row, key: str) -> Any:
        """The cell, or None where no column is named or the file lacks a column of the default name."""
        column = getattr(self.columns, key)
        if column is None or (column == _DEFAULT_NAMES[key] and column not in row.cells):
            return None
        return self._cell(row, key, column)

    def _cell(self, row: Row, key: str, column: str) -> Any:
        if column not in row.cells:
            raise DataError(
                f"{row.where}: no column {column!r} (columns: {', '.join(row.cells)});"
                f" set data.columns.{key} to the one that holds the {key}"
            )
        return row.cells[column]


def text_of(value: Any, row: Row, column: str | None, may_be_empty: bool = False) -> str:
    """The stripped text of a cell, which has to be a string that can be written as UTF-8."""
    if not isinstance(value, str):
        raise DataError(f"{row.where}: column {column!r} holds {type(value).__name__} instead of text")
    if not may_be_empty and not value.strip():
        raise DataError(f"{row.where}: column {column!r} is empty")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{row.where}: column {column!r} holds half a surrogate pair, which is not Unicode text"
            ) from error
    return value.strip()
