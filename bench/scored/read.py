"""Files of completions, prompts and verdicts -> what each arm wrote for each prompt."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from bench.arms import REFERENCE
from bench.data.rows import bare, files_of, read_rows
from bench.errors import DataError
from bench.records import EvalPrompt, Verdict, VerdictLabel
from bench.scored.cells import Cells, as_bool, as_label, as_number, as_outcome
from bench.scored.config import ScoreColumns

_DEFAULTS = {column.name: column.default for column in fields(ScoreColumns)}
_OF_A_VERDICT = ("arm_a", "arm_b", "verdict")


@dataclass(frozen=True)
class Written:
    """One completion and what its file says of it; None where it says nothing. Log-probs in nats."""

    completion: str
    finished: bool | None = None
    n_tokens: float | None = None
    temperature: float | None = None
    logp: float | None = None
    ref_logp: float | None = None
    kl: float | None = None
    ratings: Mapping[str, float] = field(default_factory=dict)
    outcomes: Mapping[str, VerdictLabel] = field(default_factory=dict)
    """Column -> "a" where it beats the reference summary."""


@dataclass(frozen=True)
class Given:
    """What the files hold.

    Attributes:
        prompts: those that every arm has a completion of; `reference` is empty where there is none.
        arms: arm -> prompt id -> what it wrote.
        references: prompt id -> the reference summary, with the ratings that it may have; of those that have one.
        verdicts: judge -> the verdicts that the files hold.
        hashes: file -> sha256.
        left_out: prompts that some arm lacks, or that none has.
    """

    prompts: Sequence[EvalPrompt]
    arms: Mapping[str, Mapping[str, Written]]
    references: Mapping[str, Written]
    verdicts: Mapping[str, Sequence[Verdict]]
    hashes: Mapping[str, str]
    left_out: int


def read_files(files: Sequence[str], columns: ScoreColumns, drop_incomplete: bool = False) -> Given:
    """The completions of every arm, joined by their prompts, with prompts and verdicts of files of their own.

    Raises:
        DataError: a file that cannot be read, a column that is missing, rows that contradict each other, a prompt that
            one arm lacks (unless it is to be dropped); names file and row.
    """
    reader = _Reader(columns)
    for name in files:
        for path in files_of(Path(name).expanduser()):
            reader.read(path)
    return reader.given(drop_incomplete)


@dataclass
class _Prompt:
    where: str
    text: str | None = None
    reference: str | None = None


class _Reader:
    def __init__(self, columns: ScoreColumns) -> None:
        self.columns = columns
        self.prompts: dict[str, _Prompt] = {}
        self.arms: dict[str, dict[str, Written]] = defaultdict(dict)
        self.verdicts: dict[str, dict[tuple[str, str, str, str], tuple[str, Verdict]]] = defaultdict(dict)
        self.hashes: dict[str, str] = {}
        self.seen: set[str] = set()

    def read(self, path: Path) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); name files of completions") from error
        self.hashes[str(path)] = "sha256:" + hashlib.sha256(content).hexdigest()
        for row in read_rows(path, content):
            self.seen.update(row.cells)
            cells = Cells(row, self.columns)
            if all(cells.has(name) for name in _OF_A_VERDICT):
                self._verdict(cells, bare(path).name)
            elif cells.has("completion"):
                self._completion(cells, bare(path).name)
            elif cells.has("prompt"):
                self._prompt(cells)
            else:
                raise DataError(
                    f"{row.where}: which column is the completion? There are {', '.join(row.cells)}; set"
                    " columns.completion=NAME, and columns.prompt, columns.arm and columns.reference where they have"
                    " other names too"
                )

    def _prompt(self, cells: Cells) -> str:
        """The row's prompt id, after what the row says of the prompt is known."""
        text, named = cells.text("prompt"), cells.name("id")
        if text is None and named is None:
            raise DataError(
                f"{cells.row.where}: neither a prompt ({self.columns.prompt!r}) nor its id ({self.columns.id!r}) among"
                f" the columns ({', '.join(cells.row.cells)}); set columns.prompt=NAME or columns.id=NAME"
            )
        key = named or f"p-{hashlib.sha256(str(text).encode()).hexdigest()[:12]}"
        known = self.prompts.setdefault(key, _Prompt(cells.row.where))
        for field_, value in (("text", text), ("reference", cells.text("reference", may_be_empty=True) or None)):
            before = getattr(known, field_)
            if value is not None and before is not None and value != before:
                what = "prompt" if field_ == "text" else "reference summary"
                raise DataError(
                    f"{cells.row.where}: prompt {key!r} has another {what} than in {known.where}; give each its own"
                    " columns.id, or make them equal"
                )
            setattr(known, field_, value if before is None else before)
        return key

    def _completion(self, cells: Cells, file: str) -> None:
        arm = cells.name("arm") or file
        if "_vs_" in arm:
            raise DataError(f"{cells.row.where}: an arm may not have '_vs_' in its name, got {arm!r}; rename it")
        key, where = self._prompt(cells), cells.row.where
        if key in self.arms[arm]:
            raise DataError(
                f"{where}: a second completion of arm {arm!r} for prompt {key!r}; keep one, or name the column that"
                " tells arms apart (columns.arm)"
            )
        self.arms[arm][key] = Written(
            completion=cells.text("completion", may_be_empty=True) or "",
            finished=as_bool(cells, "finished"),
            n_tokens=as_number(cells, self.columns.n_tokens),
            temperature=as_number(cells, self.columns.temperature),
            logp=as_number(cells, self.columns.logp),
            ref_logp=as_number(cells, self.columns.ref_logp),
            ratings={
                column: value for column in self.columns.ratings if (value := as_number(cells, column)) is not None
            },
            outcomes={
                column: label
                for column in self.columns.beats_reference
                if (label := as_outcome(cells, column)) is not None
            },
        )

    def _verdict(self, cells: Cells, file: str) -> None:
        key, where = self._prompt(cells), cells.row.where
        a, b = cells.name("arm_a"), cells.name("arm_b")
        if not a or not b or a == b:
            raise DataError(f"{where}: a verdict needs two arms, got {a!r} and {b!r}; name them")
        judge = cells.name("judge") or file
        order = "ab" if cells.name("order") is None else str(cells.name("order"))
        if order not in ("ab", "ba"):
            raise DataError(f"{where}: column {self.columns.order!r} holds {order!r}; it is ab or ba")
        verdict = Verdict(key, a, b, order, as_label(cells, a, b), judge, "")
        place = (key, min(a, b), max(a, b), order if a < b else order[::-1])
        if place in self.verdicts[judge]:
            raise DataError(
                f"{where}: judge {judge!r} has a verdict on this pair in this order already in"
                f" {self.verdicts[judge][place][0]}; keep one"
            )
        self.verdicts[judge][place] = where, verdict

    def given(self, drop_incomplete: bool) -> Given:
        self._require_named_columns()
        of_reference = self.arms.pop(REFERENCE, {})
        if not self.arms:
            raise DataError("the files hold no completions; name files with a column for them (columns.completion)")
        references = {
            key: Written(prompt.reference) for key, prompt in self.prompts.items() if prompt.reference is not None
        }
        references |= {key: row for key, row in of_reference.items() if row.completion}
        asked = [key for key in self.prompts if any(key in rows for rows in self.arms.values())]
        complete = [key for key in asked if all(key in rows for rows in self.arms.values())]
        if len(complete) < len(asked) and not drop_incomplete:
            self._refuse_incomplete(asked)
        if not complete:
            raise DataError(
                f"no prompt is there of all {len(self.arms)} arms ({', '.join(sorted(self.arms))}); are they joined by"
                " the same ids (columns.id), or by prompts that are equal to the letter?"
            )
        for key in complete:
            if self.prompts[key].text is None:
                raise DataError(
                    f"{self.prompts[key].where}: prompt {key!r} has an id and no text; name the file with its text too"
                    " (columns prompt_id, prompt)"
                )
        for judge, rows in self.verdicts.items():
            for where, verdict in rows.values():
                strangers = {verdict.arm_a, verdict.arm_b} - {*self.arms, REFERENCE}
                if strangers:
                    raise DataError(
                        f"{where}: judge {judge!r} speaks of arm {min(strangers)!r}, which has no completions here"
                    )
        kept = set(complete)
        return Given(
            prompts=[
                EvalPrompt(key, str(self.prompts[key].text), references[key].completion if key in references else "")
                for key in complete
            ],
            arms={arm: {key: rows[key] for key in complete} for arm, rows in sorted(self.arms.items())},
            references={key: references[key] for key in complete if key in references},
            verdicts={
                judge: [verdict for _, verdict in rows.values() if verdict.prompt_id in kept]
                for judge, rows in self.verdicts.items()
            },
            hashes=self.hashes,
            left_out=len(self.prompts) - len(complete),
        )

    def _refuse_incomplete(self, asked: Sequence[str]) -> None:
        lacking = {arm: [key for key in asked if key not in rows] for arm, rows in self.arms.items()}
        arm, missing = max(lacking.items(), key=lambda item: len(item[1]))
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        n_complete = sum(all(key in rows for rows in self.arms.values()) for key in asked)
        raise DataError(
            f"arm {arm!r} has no completion for {len(missing)} of {len(asked)} prompts ({some}); add them, or"
            f" incomplete=drop scores all arms on the {n_complete} prompts that every one has"
        )

    def _require_named_columns(self) -> None:
        """A column that was named by hand is in some file."""
        for name, default in _DEFAULTS.items():
            column = getattr(self.columns, name)
            for one in column if isinstance(column, tuple) else (column,):
                if column != default and one not in self.seen:
                    raise DataError(
                        f"columns.{name}={one}: no file has such a column; there are {', '.join(sorted(self.seen))}"
                    )
