"""Many runs: what is a setting, which one to ship, what cannot be told apart, what is missing."""

from __future__ import annotations

import base64
import copy
import math
import random
import re
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from scipy import stats

from myosotis.records.schema import HalfResult, RetentionRow, RunRecord, SuiteVerdict, TaskQuality
from myosotis.report import decision, forgotten, preference, trials
from myosotis.report.contrast import Measure, told_apart
from myosotis.report.factors import along_axis
from myosotis.report.grouping import study
from myosotis.report.heat_map import LEVELS, _level, heat_maps
from myosotis.report.ladder import ladder as ladder_of
from myosotis.report.markdown import render_markdown
from myosotis.report.numbers import Numbers
from myosotis.report.scorecard import render_html
from myosotis.report.seeds import (
    Estimate,
    difference_p,
    over_seeds,
    t_quantile,
    t_tails,
)
from myosotis.report.selection import choose, front, group_stats
from myosotis.report.svg.charts import Chart, Reference, Series, line_chart
from myosotis.report.svg.tradeoff import Place, Plane
from myosotis.report.sweep_page import group_rows, told_in_full

from . import made
from .test_scorecard import Page

# -- estimates --------------------------------------------------------------------------------


@pytest.mark.parametrize("degrees", [1, 1.4, 2, 2.7, 3, 10, 11, 20, 60, 1000])
def test_t_is_students(degrees: float):
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-6)


def test_two_seeds_by_hand():
    """1.0 ± .1 and 1.2 ± .1: sd .141421, over √2 .1; 12.706 · .1 = 1.2706; with .1: 1.27453."""
    found = over_seeds([(1.0, 0.9, 1.1), (1.2, 1.1, 1.3)])
    assert found is not None
    assert (found.value, found.seeds) == (pytest.approx(1.1), 2)
    assert found.hi == pytest.approx(1.1 + 1.27453, abs=1e-4)
    assert found.lo == pytest.approx(1.1 - 1.27453, abs=1e-4)


def test_one_seed_is_as_it_was_and_a_missing_interval_stays_missing():
    assert over_seeds([(0.5, 0.4, 0.7)]) == Estimate(0.5, 0.4, 0.7, 1)
    assert over_seeds([(0.5, 0.4, 0.7), (0.6, None, None)]) == Estimate(0.55, None, None, 2)
    assert over_seeds([]) is None


def test_the_interval_over_seeds_covers():
    """Items shared by the seeds (sd 1), seeds of their own (sd .1), 3 seeds on 100 items."""
    rng = random.Random(0)
    inside = 0
    for _ in range(1500):
        items = [rng.gauss(0, 1) for _ in range(100)]
        half = 1.96 * stdev(items) / 10
        parts = [(fmean(items) + rng.gauss(0, 0.1), half) for _ in range(3)]
        found = over_seeds([(v, v - h, v + h) for v, h in parts])
        assert found is not None and found.lo is not None and found.hi is not None
        inside += found.lo <= 0 <= found.hi
    assert 0.945 <= inside / 1500 <= 0.995


@pytest.mark.parametrize("degrees", [1, 1.4, 2, 3, 4, 7, 10, 25, 400])
def test_the_tails_of_t_are_students(degrees: float):
    for t in (0.0, 0.3, 1.0, 2.5, 12.0):
        assert t_tails(t, degrees) == pytest.approx(2 * stats.t.sf(t, degrees), abs=1e-7)


def test_a_difference_by_hand():
    """± .3 and ± .4 make ± .5 for the difference: at .5 the p-value is .05, whatever the seeds. At
    1.5 with 3 seeds, t = 3 · 4.303 = 12.909 with 2 degrees of freedom: .00595."""
    low = Estimate(0.0, -0.3, 0.3, 3)
    assert difference_p(low, Estimate(0.5, 0.1, 0.9, 3)) == pytest.approx(0.05, abs=1e-4)
    assert difference_p(low, Estimate(0.5, 0.1, 0.9, 2)) == pytest.approx(0.05, abs=1e-4)
    assert difference_p(Estimate(1.5, 1.1, 1.9, 3), low) == pytest.approx(0.00595, abs=1e-5)
    assert difference_p(low, Estimate(9.0, seeds=3)) == 1.0
    assert difference_p(low, Estimate(9.0, 8.9, 9.1, seeds=1)) == 1.0, "of one seed nothing is told"


def test_several_comparisons_are_adjusted_for_each_other():
    """p .00595, .045 and 1: alone the second is told apart, beside the others .045 · 2 is not."""
    low = Estimate(0.0, -0.3, 0.3, 3)
    far, near = Estimate(1.5, 1.1, 1.9, 3), Estimate(0.53, 0.13, 0.93, 3)
    assert 0.044 < difference_p(low, near) < 0.046
    a, b, c = map(Measure, (low, near, far))
    assert told_apart([(a, b)]) == [True]
    assert told_apart([(a, b), (a, a), (a, c)]) == [False, False, True]
    assert told_apart([]) == []


# -- settings ---------------------------------------------------------------------------------


def test_runs_that_differ_in_their_seed_are_one_setting():
    found = study(made.rank_lr())
    assert found.axis == "optimizer.lr"
    assert found.rows == ["lora r=4", "lora r=16", "lora r=64"]
    assert [s.label for s in found.groups[:2]] == ["lora r=4 lr=1e-4", "lora r=4 lr=3e-4"]
    assert [len(s.runs) for s in found.groups] == [2, *[3] * 13, 0]
    assert [s.number for s in found.groups] == list(range(1, 16))
    backwards = study(made.rank_lr()[::-1])
    assert {s.label for s in backwards.groups} == {s.label for s in found.groups}


def test_what_follows_from_another_key_is_not_told():
    """`lora_alpha` is twice `r` in every run, and names no setting."""
    keys = {key for s in study(made.rank_lr()).groups for key in s.values}
    assert keys == {"update.r", "optimizer.lr"}


def test_methods_need_no_axis():
    found = study(made.methods())
    assert found.axis == ""
    assert found.rows == ["full", "lora", "adapter", "ia3", "prompt"]


def test_a_failed_trial_that_was_run_again_counts_once():
    record = made.trial("lora", 4, 1e-3, 0)
    other = made.trial("lora", 16, 1e-3, 0)
    found = study([made.failed(record), record, other])
    assert [len(s.runs) for s in found.groups] == [1, 1]
    assert trials.alarm(found) == "Of 3 trials, 1 failed."
    assert trials.not_finished(found)["rows"][0]["state"] == "failed"


def test_records_without_configuration_are_settings_of_their_own():
    foreign = [replace(made.trial("lora", 4, 1e-3, s), config={}, config_hash="") for s in (0, 1)]
    found = study(foreign)
    assert [s.label for s in found.groups] == ["lora-r4-lr1e-3-s0", "lora-r4-lr1e-3-s1"]


# -- the choice -------------------------------------------------------------------------------


def setting(
    name: str, gain: float, kept: float, *, report: tuple[float, float] | None = None,
    half: float = 0.01, seed: int = 0,
) -> RunRecord:  # fmt: skip
    """A run with budget .03; on the report half it may do otherwise."""

    def part(g: float, k: float) -> HalfResult:
        lo, hi = k - half, k + half
        verdict = made._verdict(lo, hi, 0.03)
        task = TaskQuality("loglik", True, 0, g, 100, g, g - 0.05, g + 0.05)
        return HalfResult(task, SuiteVerdict(k, lo, hi, 0.03, verdict, accept="retained"))

    whole = part(gain, kept)
    return RunRecord(
        f"{name}{seed}", f"{name}-s{seed}", status="FINISHED",
        config={"update": {"name": "lora", "kind": name}, "seed": seed},
        task=whole.task, suite_verdict=whole.suite,
        halves={"selection": whole, "report": part(*(report or (gain, kept)))},
    )  # fmt: skip


def test_chosen_on_one_half_and_claimed_on_the_other():
    """`lucky` leads on the half that chooses, and says on the other what it is worth."""
    found = study([setting("lucky", 1.0, -0.01, report=(0.5, -0.05)), setting("b", 0.8, 0.0)])
    choice = choose(found)
    assert choice.group is not None
    assert choice.group.runs[0].run_name == "lucky-s0"
    seen = group_stats(choice.group, choice.claimed_on)
    assert seen.gain is not None
    assert (seen.gain.value, seen.verdict) == (0.5, "forgotten")
    assert "on the fresh items it is forgotten: over budget" in decision.headline(found, choice)


def test_the_claim_does_not_flatter_the_winner():
    """30 settings that are all worth .5, read with noise .05 on either half: the best of 30 reads
    .60 where it was chosen (expected maximum 2.04 sd) and .50 where it is claimed."""
    rng = random.Random(1)
    chosen, claimed = [], []
    for _ in range(60):
        records = [
            setting(f"s{k}", rng.gauss(0.5, 0.05), 0.0, report=(rng.gauss(0.5, 0.05), 0.0))
            for k in range(30)
        ]
        choice = choose(study(records))
        assert choice.group is not None
        for part, into in ((choice.chosen_on, chosen), (choice.claimed_on, claimed)):
            gain = group_stats(choice.group, part).gain
            assert gain is not None
            into.append(gain.value)
    assert fmean(chosen) == pytest.approx(0.602, abs=0.02)
    assert fmean(claimed) == pytest.approx(0.5, abs=0.02)


def test_more_gain_over_the_budget_is_named_and_not_chosen():
    found = study([setting("greedy", 2.0, -0.06), setting("good", 1.0, -0.01)])
    choice = choose(found)
    assert choice.group is not None
    assert (choice.how, choice.group.runs[0].run_name) == ("retained", "good-s0")
    said = " ".join(decision.ledes(found, choice, Numbers.of(found)))
    assert (
        "kind=greedy learned more with one seed, but could not be confirmed within budget" in said
    )


def test_where_nothing_is_shown_to_be_inside_the_best_guess_is_called_one():
    found = study([setting("a", 1.0, -0.01, half=0.04), setting("b", 2.0, -0.06)])
    choice = choose(found)
    assert (choice.how, choice.group and choice.group.runs[0].run_name) == ("unsettled", "a-s0")
    assert decision.headline(found, choice) == (
        "Best candidate: lora kind=a. No setting could be confirmed within budget."
    )
    none = study([setting("b", 2.0, -0.06), setting("c", 1.0, -0.09)])
    assert choose(none).group is None
    assert decision.headline(none, choose(none)) == (
        "None of 2 settings stayed within the retention budget."
    )


def test_without_halves_the_page_says_what_that_costs():
    records = [replace(setting(n, g, 0.0), halves={}) for n, g in (("a", 1.0), ("b", 0.5))]
    found = study(records)
    choice = choose(found)
    assert (choice.chosen_on, choice.claimed_on) == ("all", "all")
    assert "flatters it" in decision.ledes(found, choice, Numbers.of(found))[0]


def test_of_several_seeds_one_is_shipped():
    runs = [setting("a", g, 0.0, seed=k) for k, g in enumerate((0.9, 1.1, 1.0))]
    choice = choose(study([*runs, setting("b", 0.2, 0.0)]))
    assert choice.run is not None
    assert choice.run.run_name == "a-s1"


def test_lower_is_better_is_turned():
    records = []
    for name, gain in (("a", -0.4), ("b", -0.1)):
        record = setting(name, 0, 0.0)
        for half in (HalfResult(record.task, None), *record.halves.values()):
            assert half.task is not None
            half.task.higher_is_better, half.task.delta = False, gain
            half.task.lo, half.task.hi = gain - 0.05, gain + 0.05
        records.append(record)
    found = study(records)
    choice = choose(found)
    assert choice.group is not None
    gain = group_stats(choice.group).gain
    assert gain is not None
    assert (gain.value, gain.lo, gain.hi) == pytest.approx((0.4, 0.35, 0.45))
    assert Numbers.of(found).gain(gain).startswith("−0.4")


def test_different_tasks_have_no_winner():
    other = setting("b", 1.0, 0.0)
    assert other.task is not None
    other.task.metric = "chrf"
    found = study([setting("a", 1.0, 0.0), other])
    assert choose(found).how == "different"
    assert "measured on different tasks" in Page(render_html([*made.rank_lr()[:2], other])).text


def test_different_held_out_data_have_no_winner_either():
    """An older record does not say on which it was measured: that alone is no difference."""
    one, other = setting("a", 1.0, 0.0), setting("b", 2.0, 0.0)
    other.data = replace(other.data, manifest={"test_hash": "b"}, hash="one")
    assert choose(study([one, other])).how != "different"
    one.data = replace(one.data, manifest={"test_hash": "a"}, hash="another")
    assert choose(study([one, other])).how == "different"
    said = render_markdown([one, other])
    assert "none is better than another" in said and "different training data" in said


def test_the_front_by_hand():
    """(1, 0) and (.5, .02) are the front; (.98, -.001) is behind by less than ±.05 and ±.01 tell;
    (.3, -.02) is far behind. Of one seed each, nothing is told apart."""
    at = {"best": (1.0, 0.0), "kept": (0.5, 0.02), "near": (0.98, -0.001), "far": (0.3, -0.02)}

    def marks(seeds: int) -> dict[str, str]:
        runs = [setting(n, *values, seed=k) for n, values in at.items() for k in range(seeds)]
        found = study(runs)
        return {s.runs[0].run_name: mark for s in found.groups for mark in [front(found)[s.number]]}

    told = {"best-s0": "front", "kept-s0": "front", "near-s0": "tied"}
    assert marks(3) == {**told, "far-s0": "behind"}
    assert marks(1) == {**told, "far-s0": "tied"}


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_settings_are_not_told_apart(seeds: int):
    """Sweeps of 8 settings that are all worth (.5, 0), with noise of the seeds of .03 and .006 and
    intervals of ± .05 and ± .01. By single overlaps of one seed, one of them was "behind" in
    most sweeps; it may be in one of twenty."""
    rng = random.Random(2)
    wrong = 0
    for _ in range(60):
        runs = [
            setting(f"s{n}", rng.gauss(0.5, 0.03), rng.gauss(0, 0.006), seed=k)
            for n in range(8)
            for k in range(seeds)
        ]
        wrong += "behind" in front(study(runs)).values()
    assert wrong <= (0 if seeds == 1 else 3)


def test_of_one_seed_the_page_says_so():
    found = study([setting("a", 1.0, 0.0), setting("b", 0.2, 0.0)])
    choice = choose(found)
    assert [s.runs[0].run_name for s in choice.rivals] == ["b-s0"]
    said = decision.ledes(found, choice, Numbers.of(found))[2]
    assert "not called better than any other setting" in said and "tied" not in said
    rows = group_rows(found, choice, front(found), Numbers.of(found))
    assert [row["mark_said"] for row in rows] == [
        "a best trade-off, with one seed",
        "one seed: not told apart",
    ]
    mixed = study([*(setting("a", 1.0, 0.0, seed=k) for k in (0, 1)), setting("b", 0.2, 0.0)])
    said = decision.ledes(mixed, choose(mixed), Numbers.of(mixed))[2]
    assert "One seed tells nothing of how it compares with lora kind=b." in said


# -- the sections -----------------------------------------------------------------------------


def test_the_grid_shows_holes_as_holes():
    found = study(made.rank_lr())
    maps = heat_maps(found, choose(found), Numbers.of(found))
    assert [m["title"] for m in maps] == [
        "Learned",
        "Mean accuracy",
        "General text (Python's documentation)",
    ]
    hole = maps[0]["rows"][2]["cells"][4]
    assert (hole["text"], hole["small"], hole["level"]) == ("—", "failed", "none")
    levels = [cell["level"] for row in maps[0]["rows"] for cell in row["cells"]]
    assert {"good0", "good5"} <= set(levels)
    assert sum(bool(c.get("best")) for row in maps[0]["rows"] for c in row["cells"]) == 1
    short = study(
        [r for r in made.rank_lr() if not (r.update.settings["r"] == 4 and "3e-3" in r.run_name)]
    )
    assert "lora r=4 lr=3e-3: never run" in trials.missing(short)


def test_what_a_sampler_drew_is_no_grid():
    """One setting a row and a rate: maps of holes say nothing, and no trial is missing."""
    names = {f"lora-r{r}-lr{lr}-s0" for r, lr in ((4, "1e-4"), (16, "3e-4"), (64, "1e-3"))}
    drawn = [record for record in made.rank_lr() if record.run_name in names]
    found = study(drawn)
    assert len(found.rows) == 3 and len(found.groups) == 3
    assert heat_maps(found, choose(found), Numbers.of(found)) == []
    assert trials.missing(found) == []
    assert "Over the grid" not in render_html(drawn)


def test_names_of_lines_that_lie_close_do_not_stand_in_each_other():
    line = Series("a", [(0.0, 10.0), (1.0, -10.0)])

    def heights(budget: float) -> list[float]:
        lines = [Reference(0.0, "base"), Reference(budget, "budget", "budget")]
        drawn = str(line_chart(Chart("", [line], "{:.1f}".format, "x", lines, height=200)))
        return [float(y) for y in re.findall(r'y="([\d.]+)" class="note', drawn)]

    base, near = heights(-0.5)
    assert near - base > 18  # one above its line, the other below
    base, far = heights(-8.0)
    assert far - base == pytest.approx(8 / 20 * 188, rel=0.2)


def test_what_was_not_lost_has_no_colour():
    records = made.rank_lr()
    for record in records:
        if record.suite_verdict is not None and record.suite_verdict.delta is not None:
            record.suite_verdict.delta = 0.01 * (record.update.settings["r"] / 16 - 1)
    found = study(records)
    kept = heat_maps(found, choose(found), Numbers.of(found))[1]
    levels = {row["name"]: {c["level"] for c in row["cells"]} - {"none"} for row in kept["rows"]}
    assert list(levels.values()) == [{"bad5"}, {"bad0"}, {"bad0"}]  # lost, unchanged, gained


def test_a_lost_benchmark_outside_the_mean_stands_beside_the_verdict():
    records = made.rank_lr()
    record = next(r for r in records if r.status == "FINISHED")
    (prose,) = [row for row in record.retention if row.task == "prose"]
    prose.verdict = "forgotten"
    for row in record.retention:
        if row.task != "prose":
            row.verdict = "retained"
    found = study([record, *(r for r in records if r is not record)])
    rows = group_rows(found, choose(found), {}, Numbers.of(found))
    number = next(s.number for s in found.groups if record.run_name in {r.run_name for r in s.all})
    (mine,) = [row for row in rows if row["number"] == number]
    assert mine["lost"] == ["prose"]
    assert "forgotten: prose" in Page(render_html(records)).text


def test_the_dials_show_what_is_in_no_mean():
    """The mean of the seeds' changes, and each verdict that a seed has."""
    records = made.rank_lr()
    assert "outside the mean" not in render_html(records)
    found = study(records)
    setting = next(s for s in found.groups if len(s.runs) > 1 and s.runs[0].dial)
    for run, delta, verdict in zip(
        setting.runs, (0.02, 0.06), ("retained", "forgotten"), strict=False
    ):
        (point,) = [p for p in run.dial if p.alpha == 0.5]
        point.beside = [
            RetentionRow("prose", "bits_per_byte", higher_is_better=False, delta=delta,
                         verdict=verdict)
        ]  # fmt: skip
    for run in setting.runs[2:]:
        run.dial = []
    text = Page(render_html(records)).text
    assert "outside the mean" in text and "prose +0.040, retained or forgotten" in text


def test_an_optimum_that_does_not_move_is_said_not_to():
    found = study(made.rank_lr())
    rates = along_axis(found, Numbers.of(found))
    assert rates is not None
    assert [o["best"] for o in rates["optima"]] == ["1e-3"] * 3
    assert rates["said"].startswith(
        "All 3 ranks peak at lr=1e-3; no evidence that the best learning rate depends on the rank."
    )


def test_an_optimum_that_moves_and_one_at_the_edge_are_said():
    rng = {4: {1e-4: 0.1, 1e-3: 1.0, 1e-2: 0.1}, 64: {1e-4: 2.0, 1e-3: 1.0, 1e-2: 0.1}}
    records = []
    for r, row in rng.items():
        for lr, gain in row.items():
            for seed in (0, 1, 2):
                record = setting("x", gain, 0.0, seed=seed)
                of = {"update": {"name": "lora", "r": r}, "optimizer": {"lr": lr}}
                record.config = of | {"seed": seed}
                records.append(record)
    found = study(records)
    single = study([record for record in records if record.config["seed"] == 0])
    unsure = along_axis(single, Numbers.of(single))
    assert unsure is not None
    assert unsure["said"] == "No learning rate is told from another: that takes more seeds of each."
    rates = along_axis(found, Numbers.of(found))
    assert rates is not None
    assert "The optimum moves" in rates["said"]
    assert "For lora r=64 the best lies at the edge of what was tried" in rates["said"]


def test_missing_seeds_are_named():
    found = study(made.rank_lr())
    assert trials.missing(found) == ["lora r=4 lr=1e-4: never run with seed 1"]
    assert trials.alarm(found) == "Of 44 trials, 3 failed, 1 more was never run."


def test_items_are_counted_over_runs():
    found = study(made.rank_lr())
    items = forgotten.items(found)
    assert items is not None
    counts = [int(item["runs"].partition(" ")[0]) for item in items["shown"]]
    assert counts == sorted(counts, reverse=True)
    by_hand = [f.item for r in made.rank_lr() if r.status == "FINISHED" for f in r.flips]
    assert counts[0] == max(map(by_hand.count, by_hand))


def test_benchmarks_show_each_seeds_verdict():
    found = study(made.rank_lr())
    table = forgotten.benchmarks(found, choose(found))
    assert table is not None
    said = {cell["verdict"] for row in table["rows"] for cell in row["cells"]}
    assert {"retained", "forgotten"} <= said
    assert any(", " in verdict and verdict[0].isdigit() for verdict in said)


def test_the_ladder_rises_from_the_base_by_parameters():
    found = study(made.methods())
    ladder = ladder_of(found, choose(found), Numbers.of(found))
    assert ladder is not None
    names = [row["name"] for row in ladder["rows"]]
    assert names[0] == "the base"
    assert names[1].startswith("the base with 3 solved examples")
    assert names[2:] == ["prompt", "ia3", "adapter", "lora", "full"]
    assert ladder["rows"][1]["gain"] == "+0.631"  # -2.92 - -3.551


def test_few_runs_are_told_all_and_many_from_the_front_outwards():
    found = study(made.methods())
    assert len(told_in_full(found, choose(found), front(found))) == 5
    many = study(made.rank_lr())
    choice = choose(many)
    told = told_in_full(many, choice, front(many))
    assert len(told) == 8
    assert told[0][1] is choice.run
    assert len({number for number, _ in told}) == 8


def test_of_many_runs_two_are_told_and_the_rest_is_in_files():
    """140 seeds of one setting, 120 of them failed: 100 are listed, the CSV has 20 more."""
    ended = [made.trial("lora", 4, 1e-3, seed) for seed in range(20)]
    failed = [made.failed(made.trial("lora", 8, 1e-3, seed)) for seed in range(120)]
    found = study([*ended, *failed])
    assert len(told_in_full(found, choose(found), front(found))) == 1  # one setting was measured
    shown = render_html([*ended, *failed])
    assert "20 more, each with its state and reason" in Page(shown).text
    every = re.search(r'base64,([^"]*)" download="commands\.txt"', shown)
    assert every is not None
    assert len(base64.b64decode(every[1]).splitlines()) == 140


def test_of_very_many_settings_only_the_best_have_whiskers():
    places = [Place(0.1 * i, 0.0, str(i), f"place {i}", "tied", (0, 1), (0, 1)) for i in range(50)]
    few = Plane("few", places, None, str, str)
    many = replace(few, places=[*places, replace(places[0], style="chosen")])
    assert few.whiskers(places[0]) == ((0, 1), (0, 1))
    assert many.whiskers(places[0]) == (None, None)
    assert many.whiskers(many.places[-1]) == ((0, 1), (0, 1))
    assert many.spoken() == "few. place 0; and 50 more"


def test_runs_on_other_items_are_not_paired_and_it_says_so():
    one, two = made.methods()[:2]
    two = copy.deepcopy(two)
    two.suite["hash"] = "another"
    assert "different benchmark items" in trials.differences([one, two])[0]
    (row,) = [r for r in trials.identity([one, two]) if r["name"] == "Benchmark suite"]
    assert row["same"] is False
    assert row["values"] == ["5e1f77aa90cd (1 run)", "another (1 run)"]


def test_runs_that_share_a_draw_are_paired_on_what_they_share():
    """One was asked 3 items of a draw, the other 2 of it: no warning; of another draw there is."""
    one, two = (copy.deepcopy(r) for r in made.methods()[:2])
    for record, items in ((one, ["a", "b", "c"]), (two, ["a", "b"])):
        record.suite = {"hash": "".join(items), "tasks": [{"task": "piqa", "items": items}]}
    assert not [said for said in trials.differences([one, two]) if "items" in said]
    two.suite["tasks"][0]["items"] = ["b", "a"]
    assert "different benchmark items" in trials.differences([one, two])[0]


def test_the_page_answers_in_order():
    text = Page(render_html(made.rank_lr())).text
    asked = [
        "Ship lora r=64 lr=1e‑3",
        "fresh items its answer log-likelihood changed by",
        "statistically tied with",
        "myosotis train method=lora update.r=64",
        "setting",
        "Learned nats per token",
        "Mean accuracy points",
        "General text (Python's documentation) bits per byte",
        "Of 44 trials, 3 failed",
        "Which to ship, and why",
        "The setting is chosen by the columns on the left",
        "a plane for each measure",
        "Over the grid",
        "Where is the best learning rate?",
        "Turning them down",
        "Benchmark by benchmark",
        "What was forgotten, item by item",
        "What it cost",
        "The ladder",
        "Failed and missing trials",
        "Loss infinite at step 43.",
        "never run with seed 1",
        "To run it again",
        "myosotis train method=lora update.r=64",
        "The runs in full",
    ]
    at = 0
    for said in asked:
        assert said in text[at:], said
        at = text.index(said, at)
    assert not {"None", "nan", "inf"} & set(text.split())


# -- preferences ------------------------------------------------------------------------------


def test_a_margin_that_grows_while_the_chosen_fall_is_called_that():
    """beta .05: kept = −2 nats at the end, so the reward of the chosen falls to −.1."""
    falls, _, rises = made.preferences()
    section = preference.of_run(falls)
    assert section is not None
    said = " ".join(section["said"])
    assert "On training pairs the margin grew from 0.37 to 1.31 nats." in said
    assert "The chosen answers themselves became less likely" in said
    assert "Chosen answers are longer (31.0 against 22.0 tokens)" in said
    assert "87 % of the training pairs" in said
    better = preference.of_run(rises)
    assert better is not None
    assert "became no less likely" in " ".join(better["said"])


def test_begin_and_end_are_fifths_by_hand():
    """60 steps: the last fifth are 49 to 60. The margin at step s is .05 · (1 − e^(−s/20)) · 28."""
    share = fmean(1 - math.exp(-s / 20) for s in range(49, 61))
    section = preference.of_run(made.preferences()[0])
    assert section is not None
    (row,) = [r for r in section["rows"] if r["name"] == "reward margin, nats"]
    assert row["cells"][1] == f"{0.05 * share * 28:.2f}"
    assert len(row["cells"]) == 2


def test_held_out_pairs_count_where_there_are_any():
    """Four looks, at steps 15 to 60, each .8 of the training's: .05 · .8 · 28 · (1 − e^(−s/20))."""
    section = preference.of_run(made.preferences(held_out=True)[0])
    assert section is not None
    begin, end = (0.05 * 0.8 * 28 * (1 - math.exp(-s / 20)) for s in (15, 60))
    (row,) = [r for r in section["rows"] if r["name"] == "reward margin, nats"]
    assert row["cells"][2:] == [f"{begin:.2f}", f"{end:.2f}"]
    assert section["said"][0].startswith(f"On held-out pairs the margin grew from {begin:.2f} to ")
    assert "flatter" not in " ".join(section["said"])


def test_a_supervised_run_has_no_such_section():
    assert preference.of_run(made.methods()[0]) is None
    assert preference.of_groups(study(made.methods())) is None
    assert "Preferences" not in Page(render_html([made.methods()[0]])).text


def test_preferences_beside_each_other():
    found = study(made.preferences())
    assert found.axis == "objective.beta"
    section = preference.of_groups(found)
    assert section is not None
    assert [row["fell"] for row in section["rows"]] == [True, False, False]


@pytest.mark.parametrize(
    ("value", "lo", "hi", "level"),
    [
        (-1e300, 0.0, 5e-324, 0),  # below what has a colour, in a range that has no half
        (-1e300, 0.0, 1e-308, 0),
        (0.9e308, -1.7e308, 1.7e308, 4),
        (1.0, 0.0, 1.0, LEVELS - 1),
    ],
)
def test_any_value_has_a_colour(value: float, lo: float, hi: float, level: int) -> None:
    """Of six levels: .9e308 lies at (.9 + 1.7) / 3.4 = .76 of the range, in the fifth."""
    assert _level(value, lo, hi) == level
