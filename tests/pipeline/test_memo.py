"""What was found before is read, unless anything that went into it, or the code, has changed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.pipeline.memo import Memo


def test_asked_once(tmp_path: Path):
    asked = []

    def compute() -> dict[str, float]:
        asked.append(1)
        return {"value": 0.1 + 0.2}

    memo = Memo(tmp_path, "code")
    found = memo("arm", ["text", 1.5], compute)
    assert memo("arm", ["text", 1.5], compute) == found == {"value": 0.1 + 0.2} and len(asked) == 1
    assert Memo(tmp_path, "code")("arm", ["text", 1.5], compute) == found and len(asked) == 1
    memo("arm", ["text", 2.5], compute)
    memo("scores", ["text", 1.5], compute)
    Memo(tmp_path, "other code")("arm", ["text", 1.5], compute)
    assert len(asked) == 4


@pytest.mark.parametrize("damage", [lambda text: text[:-9], lambda text: text.replace("2", "7", 1), lambda text: "[1]"])
def test_an_answer_that_was_truncated_or_altered_is_said_and_asked_again(
    damage: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    memo = Memo(tmp_path, "code")
    memo("arm", 1, lambda: [1, 2, 3])
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    path.write_text(damage(whole))

    assert memo("arm", 1, lambda: [1, 2, 3]) == [1, 2, 3]
    assert path.read_text() == whole
    assert capsys.readouterr().err == f"{path} was truncated or altered; what it held is computed again\n"
