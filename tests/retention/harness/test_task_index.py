"""lm-eval's names without lm-eval's ten seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from myosotis.retention.harness.task_index import TaskFiles, scan, task_files


def definitions(root: Path) -> TaskFiles:
    files = {
        "a/plain.yaml": "task: plain\ntag:\n  - letters\n  - few # a comment\n",
        "a/quoted.yaml": '"task": "quoted name"\n"include": "../shared_yaml"\n',
        "shared_yaml": "tag: letters\ndataset_path: x\n",
        "a/group.yaml": "group: both\ntask:\n  - plain\n  - quoted name\n",
        "b/again.yaml": "task: plain\n",
        "b/code.yaml": "task: code\nclass: !function task.Code\n",
        "b/inner.yaml": "dataset_path: x\nmetadata:\n  task: not a name\n",
        "b/inline.yaml": "task: inline\ntag: [one, 'two']\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    return scan(root)


def test_names_of_tasks_groups_and_tags(tmp_path: Path) -> None:
    found = definitions(tmp_path)
    assert found.tasks == {
        "plain": "a/plain.yaml",  # the first of two
        "quoted name": "a/quoted.yaml",
        "code": "b/code.yaml",
        "inline": "b/inline.yaml",
    }
    assert found.groups == {"both": "a/group.yaml"}
    assert found.tags == {
        "letters": ["plain", "quoted name"],
        "few": ["plain"],
        "one": ["inline"],
        "two": ["inline"],
    }
    assert found.file("both") == tmp_path / "a" / "group.yaml"
    assert found.file("letters") is None and "letters" in found and "nothing" not in found


def test_near_names_are_offered(tmp_path: Path) -> None:
    error = definitions(tmp_path).unknown("plan")
    assert "'plan'" in error.message and "Did you mean plain" in error.hint


@pytest.mark.slow
def test_the_scan_finds_what_lm_eval_finds() -> None:
    """Every name and file of `TaskManager()`, all tags with all their tasks."""
    from lm_eval.tasks import TaskManager

    ours, theirs = task_files(), TaskManager()
    names = {*ours.tasks, *ours.groups, *ours.tags}
    assert len(theirs.task_index) > 10_000
    assert names == set(theirs.task_index)
    for name, entry in theirs.task_index.items():
        assert ours.file(name) == entry.yaml_path
        if entry.yaml_path is None:
            assert set(ours.tags[name]) == entry.tags
