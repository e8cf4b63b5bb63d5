"""What the peer benchmark makes of its measurements."""

import pytest

from bench.perf.contenders import contenders
from bench.perf.profile import shares, text
from bench.perf.scaling import exponent
from bench.perf.tables import largest_loss_difference, limit, markdown, mfu, rate, summarize


def measurement(step_s, units=4.0, **fields):
    defaults = dict(losses=[], reference_s=0.0, peak_memory_gib=1.0, flops={})
    return {"step_s": step_s, "units": [units] * len(step_s), **defaults, **fields}


def record(**measurements):
    names = {
        name: {"description": f"this project {name}" if name == "ours" else name, "dtype": "fp32"}
        for name in measurements
    }
    return {
        "task": "dpo", "unit": "pairs/s", "model": "m", "data": "d", "prompt_tokens": 1.0, "completion_tokens": 1.0,
        "settings": {"batch_size": 4, "prompts": 32, "steps": 3}, "gemm_tflops": {"fp32": 0.5, "bf16": 0.25},
        "contenders": names, "measurements": measurements,
    }  # fmt: skip


def test_the_warm_up_step_does_not_count():
    # 2 steps of 4 pairs in 1 s and 3 s; the first, of 100 s, warms up.
    assert rate(measurement([100.0, 1.0, 3.0])) == pytest.approx(8 / 4)


def test_a_reference_pass_is_shared_out_over_all_steps():
    # 6 s over 3 steps make each 2 s longer: 8 pairs in (1 + 2) + (3 + 2) seconds.
    assert rate(measurement([100.0, 1.0, 3.0], reference_s=6.0)) == pytest.approx(8 / 8)


def test_share_of_the_peak():
    # At peaks of 1 and 4 TFLOP/s, 2 TFLOP in fp32 and 4 in bf16 take 2 + 1 seconds, of 2 + 2 + 2 that were spent.
    mixed = measurement([2.0, 2.0], reference_s=2.0, flops={"fp32": 2 * 10**12, "bf16": 4 * 10**12})
    assert mfu(mixed, {"fp32": 1.0, "bf16": 4.0}) == pytest.approx(0.5)
    assert mfu(measurement([2.0]), {"fp32": 1.0}) is None


def test_ratios_are_taken_within_a_round_before_the_median():
    # A busy round slows both: 4 / 1 over 4 / 2 is 2x, 4 / 10 over 4 / 40 is 4x, 4 / 1 over 4 / 3 is 3x; median 3x.
    ours = [measurement([9.0, s]) for s in (1.0, 10.0, 1.0)]
    peer = [measurement([9.0, s], peak_memory_gib=4.0) for s in (2.0, 40.0, 3.0)]
    rows = summarize(record(ours=ours, peer=peer))

    assert rows[1]["ours_times"] == pytest.approx(3.0)
    assert rows[1]["memory_share"] == pytest.approx(0.25)
    assert rows[1]["rate"] == pytest.approx(4 / 3)


def test_the_limit_is_our_flops_at_the_peak():
    # 2 TFLOP for 8 pairs take 4 s at .5 TFLOP/s: 2 pairs/s, where the peer makes 4 in 8 s.
    ours, peer = measurement([9.0, 7.0], flops={"fp32": 2 * 10**12}), measurement([9.0, 8.0])
    assert limit(ours, peer, {"fp32": 0.5}) == pytest.approx(4.0)
    rows = summarize(record(ours=[ours], peer=[peer]))
    assert [row["limit"] for row in rows][1] == pytest.approx(4.0)
    assert limit(measurement([9.0, 7.0]), peer, {"fp32": 0.5}) is None


def test_the_largest_loss_difference_is_over_the_steps():
    a, b = [measurement([1.0], losses=[0.5, 0.25])], [measurement([1.0], losses=[0.5, 0.375])]

    assert largest_loss_difference(a, b) == pytest.approx(0.125)
    assert largest_loss_difference(a, [measurement([1.0])]) is None


def test_the_table_has_a_row_per_contender():
    table = markdown([record(ours=[measurement([1.0, 1.0])], peer=[measurement([1.0, 2.0], losses=[])], absent=[])])

    assert "| this project ours | 4 | - | - | 1.0 | - | - | - | 1 |" in table
    assert "| peer | 2 | 2.0x | - | 1.0 | 100% | - | - | 1 |" in table
    assert "absent" not in table


def test_growth_as_a_power():
    # seconds = 2 size^1.5
    assert exponent([1.0, 4.0, 9.0], [2.0, 16.0, 54.0]) == pytest.approx(1.5)


def test_peers_best_runs_in_the_faster_type():
    assert [c.dtype for c in contenders("dpo", "fp32", False)] == ["fp32", "bf16", "fp32"]
    ours, stock = ["ours", "ours_fp32"], ["trl_default", "trl_best", "trl_best_fp32"]
    assert [c.name for c in contenders("dpo", "bf16", False)] == [*ours, *stock]
    assert [c.name for c in contenders("ppo", "fp32", False)] == ["ours"]


def test_operators_are_grouped_by_kind():
    times = [
        ("aten::mm", 3.0),
        ("aten::mul", 0.5),
        ("aten::mul_", 0.5),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", 1.0),
        ("aten::_fused_adamw_", 2.0),
        ("aten::fill_", 1.0),
    ]
    # 8 seconds in all; the largest group first, and mm is no prefix: mul is elementwise.
    assert shares(times) == {
        "matrix products": 3 / 8,
        "optimizer step": 2 / 8,
        "elementwise, reductions and copies": 1 / 8,
        "attention": 1 / 8,
        "allocation and filling": 1 / 8,
    }
    assert next(iter(shares(times))) == "matrix products"


def test_the_limit_of_a_step():
    # 3 TFLOP at a peak of 0.5 TFLOP/s take 6 s; 12 s were spent.
    spent = measurement([8.0], reference_s=4.0, flops={"fp32": 3 * 10**12})
    assert "nothing else would be 2.0 times as fast" in text("dpo", {}, spent, {"fp32": 0.5, "bf16": 1.0})
