"""How the run was made."""

import json
from typing import Any

from bench.report.load import Run
from bench.report.page import Block, Details, mapping_table


def section(run: Run) -> list[Block]:
    get = run.setting
    commit, device = get("git.commit"), get("device", {})
    reused = [stage for stage, made in get("stages", {}).items() if made.get("reused")]
    made = mapping_table(
        "What made these numbers",
        {
            "command": get("command"),
            "config hash": get("config_hash"),
            "commit": f"{commit} with uncommitted changes" if commit and get("git.dirty") else commit,
            "seed": get("seed"),
            "device": " x ".join(str(device[key]) for key in ("count", "name") if key in device) or None,
            "data": ", ".join(f"{key} {value}" for key, value in get("data.source", {}).items()) or None,
            "data hash": get("data.hash"),
            "stages from cache": ", ".join(reused) or "none",
            "started": get("started"),
            "finished": get("finished"),
            "versions": ", ".join(f"{name} {of}" for name, of in sorted(get("versions", {}).items())) or None,
        },
    )
    blocks: list[Block] = [made, Details("The whole configuration", _json(get("config", {})))]
    if run.metrics.get("data"):
        blocks.append(Details("Data statistics", _json(run.metrics["data"])))
    return blocks


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
