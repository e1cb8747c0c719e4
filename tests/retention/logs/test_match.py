"""What differs between two logs is named, with how much and an example; nothing goes in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from myosotis.retention.logs.find import one_side
from myosotis.retention.logs.match import Matched, match
from myosotis.retention.logs.scores import measured
from myosotis.utils.errors import ConfigError, DataError
from tests.retention.logs import made

RIGHT = [1.0] * 40


def matched(a: Path, b: Path, **ways: bool) -> Matched:
    return match(one_side(str(a)), one_side(str(b)), **ways)


def refused(a: Path, b: Path, **ways: bool) -> str:
    with pytest.raises(DataError) as error:
        matched(a, b, **ways)
    return f"{error.value.message}\n{error.value.hint}"


def pair(place: Path, **changes: Any) -> tuple[Path, Path]:
    """Two logs, the second of which differs in every line."""
    lines = [made.sample(n, 1.0, **changes) for n in range(40)]
    return made.log(place / "a", RIGHT), made.log(place / "b", lines)


def test_items_of_one_side_are_named_and_left_out_only_on_request(tmp_path: Path) -> None:
    a = made.log(tmp_path / "a", RIGHT)
    b = made.log(tmp_path / "b", [made.sample(n, 1.0) for n in range(37)] + [made.sample(99, 1.0)])
    said = refused(a, b)
    assert "A (" in said and "were not measured alike" in said
    assert "quiz: only A has 3 items, e.g. item 37." in said
    assert "quiz: only B has 1 item, e.g. item 99." in said
    assert "--common compares the tasks and items that both have." in said
    assert refused(a, b, other_setup=True) == said, "the one way is not the other"
    found = matched(a, b, common=True)
    assert len(found.tasks["quiz"].base.items) == 37
    assert found.notes[0] == "quiz: only A has 3 items, e.g. item 37. Left out (--common)."


def test_tasks_of_one_side_are_named(tmp_path: Path) -> None:
    a, b = made.log(tmp_path / "a", RIGHT), made.log(tmp_path / "b", RIGHT)
    made.log(b, RIGHT, task="more")
    assert "Only B has 1 task: more." in refused(a, b)
    assert list(matched(a, b, common=True).tasks) == ["quiz"]


def test_the_same_number_with_another_document_is_another_item(tmp_path: Path) -> None:
    lines = [made.sample(n, 1.0) for n in range(40)]
    lines[5] |= {"doc_hash": made.sha("another text")}
    lines[6] |= {"target_hash": made.sha("another answer")}
    a, b = made.log(tmp_path / "a", RIGHT), made.log(tmp_path / "b", lines)
    assert (
        "quiz: 2 items of 40 with the same number are not the same document with the same answer, "
        "e.g. item 5." in refused(a, b)
    )
    found = matched(a, b, common=True).tasks["quiz"].tuned.items
    assert len(found) == 38 and not {"5", "6"} & found.keys()


def test_prompts_that_differ_are_shown_where_they_part(tmp_path: Path) -> None:
    asked = {
        f"gen_args_{i}": {"arg_0": "Q: What is 0?\nAnswer:", "arg_1": f" {word}"}
        for i, word in enumerate(("yes", "no", "who"))
    }
    a, b = pair(tmp_path, arguments=asked)
    said = refused(a, b)
    assert (
        "quiz: the prompts of 40 items of 40 differ, e.g. item 0: “…What is 0? A:” against "
        "“…What is 0? Answer:”." in said
    )
    assert "--other-setup" in said and "--common" not in said
    found = matched(a, b, other_setup=True)
    assert found.notes[0].endswith("Compared (--other-setup).")
    assert len(found.tasks["quiz"].base.items) == 40


def test_a_chat_template_explains_prompts_that_differ(tmp_path: Path) -> None:
    asked = {"gen_args_0": {"arg_0": "<user>Q", "arg_1": " yes"}}
    lines = [made.sample(n, 1.0, arguments=asked) for n in range(40)]
    a = made.log(tmp_path / "a", RIGHT)
    b = made.log(tmp_path / "b", lines, results={"chat_template_sha": "0123456789abcdef"})
    assert "(chat template none in A, 0123456789 in B)" in refused(a, b)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("versions", {"quiz": 2.0}, "quiz: the task version is 1.0 in A, 2.0 in B."),
        ("n-shot", {"quiz": 5}, "quiz: the number of examples is 0 in A, 5 in B."),
    ],
)
def test_another_setup_is_named(tmp_path: Path, key: str, value: Any, said: str) -> None:
    a = made.log(tmp_path / "a", RIGHT)
    b = made.log(tmp_path / "b", RIGHT, results={key: value})
    assert said in refused(a, b)
    assert f"{said} Compared (--other-setup)." in matched(a, b, other_setup=True).notes


def test_settings_of_generation_are_part_of_the_setup(tmp_path: Path) -> None:
    def asked(most: int) -> dict[str, Any]:
        said = {"gen_args_0": {"arg_0": "Say it:", "arg_1": {"max_gen_toks": most}}}
        return {"arguments": said, "filtered_resps": ["x"], "resps": [["x"]]}

    a, b = (
        made.log(tmp_path / name, [made.sample(n, 1.0, **asked(most)) for n in range(40)])
        for name, most in (("a", 8), ("b", 16))
    )
    assert (
        'the settings of generation is {"max_gen_toks": 8} in A, {"max_gen_toks": 16} in B.'
        in refused(a, b)
    )


def test_answers_read_by_another_filter_are_another_setup(tmp_path: Path) -> None:
    a, b = pair(tmp_path, filter="strict-match")
    assert "quiz: the first filter is none in A, strict-match in B." in refused(a, b)


def test_a_name_cannot_pretend_to_be_a_line_of_its_own(tmp_path: Path) -> None:
    a = made.log(tmp_path / "a", RIGHT, results={"model_name": "m\nerror: forged\x1b[2J"})
    assert one_side(str(a)).model == "m error: forged␛[2J"


def test_nothing_in_common_is_no_comparison(tmp_path: Path) -> None:
    a = made.log(tmp_path / "a", RIGHT)
    b = made.log(tmp_path / "b", RIGHT, task="other")
    said = refused(a, b, common=True, other_setup=True)
    assert "have no item in common" in said and "--common" not in said
    table = tmp_path / "own.csv"
    table.write_text("item,score,task\nx,1,quiz\n")
    assert "A is of lm-eval, B of table: they number items differently." in refused(a, table)


def test_many_differences_are_counted(tmp_path: Path) -> None:
    a, b = made.log(tmp_path / "a", RIGHT), made.log(tmp_path / "b", RIGHT)
    for n in range(12):
        made.log(a, [1.0], task=f"t{n}")
        made.log(b, [1.0, 1.0], task=f"t{n}")
    assert "… and 4 more differences." in refused(a, b)


def test_one_log_twice_is_said(tmp_path: Path) -> None:
    a = made.log(tmp_path / "a", RIGHT)
    assert "is it one log twice?" in matched(a, a).notes[0]


def test_another_version_of_the_tool_is_said(tmp_path: Path) -> None:
    a = made.log(tmp_path / "a", RIGHT, results={"lm_eval_version": "0.4.9"})
    b = made.log(tmp_path / "b", [0.0] * 40, results={"lm_eval_version": "0.4.13"})
    assert matched(a, b).notes == ["A was written by lm-eval 0.4.9, B by lm-eval 0.4.13."]


def test_items_without_a_score_are_counted(tmp_path: Path) -> None:
    lines = [made.sample(n, 1.0) for n in range(40)]
    lines[3] |= {"acc": None}
    lines[4] |= {"acc": float("nan")}
    found = matched(made.log(tmp_path / "a", RIGHT), made.log(tmp_path / "b", lines))
    with pytest.raises(
        DataError, match=r"quiz: 2 of 40 items have no acc in both logs, e\.g\. item 3"
    ):
        measured(found)
    left = measured(found, common=True)
    assert len(left.base["quiz"].items) == 38
    assert left.notes[0].endswith("Left out (--common).")


def test_a_metric_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    found = matched(made.log(tmp_path / "a", RIGHT), made.log(tmp_path / "b", RIGHT))
    with pytest.raises(ConfigError, match="quiz has no f1") as error:
        measured(found, ["f1"])
    assert error.value.hint == "Both logs have: acc. Name one with --metric."
    lines = [made.sample(n, 1.0, metrics=["rouge", "bleu"], rouge=1.0, bleu=2.0) for n in range(40)]
    odd = made.log(tmp_path / "c", lines)
    with pytest.raises(ConfigError, match="quiz has no metric that goes without saying"):
        measured(matched(odd, odd))
    assert measured(matched(odd, odd), ["bleu", "rouge"]).base["quiz"].metric == "bleu"
