"""The claims, with what their estimates are read with."""

import pandas as pd
import pytest

from bench import report
from bench.report.sections import claims


def test_claims_keep_what_their_estimate_is_read_with(make_run, edit, reading):
    path = make_run()
    kl = {arm: reading.metrics(path)["arms"][arm]["kl_ref"]["value"] for arm in ("dpo", "ppo")}

    def nothing_needed(metrics):
        metrics["verdicts_on_claims"][3]["estimate"]["prompts_needed"] = None

    edit(path / "metrics.json", nothing_needed)
    table = claims.claims_table(report.load_run(path))

    assert table.loc[1, "verdict"] == "supported"
    assert table.loc[1, "estimate"] == pytest.approx(120 / 45)  # seconds of the fixture's stages
    assert pd.isna(table.loc[1, "estimate_low"])  # measured once: no interval
    assert "None" not in " ".join(table["context"])
    assert f"kl_ref: dpo {kl['dpo']:.3g}, ppo {kl['ppo']:.3g}" in table.loc[4, "context"]


def test_a_claim_stands_with_its_verdict(make_run, reading):
    row = reading.cells(reading.sections(make_run())["Claims"], "what is said of dpo")["1",]
    assert (row["estimate"], row["n"], row["verdict"]) == ("2.67", "1", "supported")
