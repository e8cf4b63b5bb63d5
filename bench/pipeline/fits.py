"""Does every text fit the model? Asked before anything is trained."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerBase

from bench.encoding import encode
from bench.errors import DataError
from bench.records import ComparisonData


def require_fits(
    data: ComparisonData, tokenizer: PreTrainedTokenizerBase, prompt_tokens: int, positions: int | None, where: str = ""
) -> None:
    """Every row that is trained on or scored must fit the model's positions: prompts were cut, summaries are not.

    Args:
        prompt_tokens: that no prompt has more of.
        where: what stands before the row's name in the message.

    Raises:
        DataError: names the row that is longest beyond.
    """
    if positions is None:
        return
    # A token is at least a byte: most rows need no count. Two more are the space and the EOS.
    long = {row for row in _rows(data) if prompt_tokens + len(row[2].encode()) + 2 > positions}
    lengths = {row: sum(map(len, encode(tokenizer, *row[1:])[0])) for row in sorted(long)}
    if lengths and max(lengths.values()) > positions:
        row = max(lengths, key=lengths.__getitem__)
        raise DataError(
            f"{where}{row[0]}: prompt and summary are {lengths[row]} tokens, but the model has {positions} positions;"
            " shorten the summary, lower budget.max_prompt_tokens, or choose a model with a longer context"
        )


def _rows(data: ComparisonData) -> Iterable[tuple[str, str, str]]:
    """(which, prompt, summary)."""
    for split, demonstrations in data.demonstrations.items():
        yield from ((f"demonstration {d.id} ({split})", d.prompt, d.completion) for d in demonstrations)
    for split, pairs in data.preferences.items():
        for pair in pairs:
            yield f"pair {pair.id} ({split}), chosen", pair.prompt, pair.chosen
            yield f"pair {pair.id} ({split}), rejected", pair.prompt, pair.rejected
    yield from ((f"test post {p.id}, reference", p.prompt, p.reference) for p in data.eval_prompts)
