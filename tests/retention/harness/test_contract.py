"""What `retention/harness` relies on in lm-eval, name by name.

lm-eval is pinned exactly, because tasks are built with its own objects and are read from outside.
After an upgrade these tests say, in a sentence each, what has changed and what of ours rests on it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import threading
import tomllib
from pathlib import Path
from typing import Any

import datasets
import pytest
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from myosotis.retention.harness.data import DataLocator
from myosotis.retention.harness.download import data_from
from myosotis.retention.harness.loader import load
from myosotis.retention.harness.task_index import task_files
from myosotis.utils import trust
from myosotis.utils.errors import ConfigError, DataError
from tests.retention.small import benchmark_folder

ROOT = Path(__file__).parents[3]
VERSION = "0.4.13"

# Module, dotted name in it -> the parameters we pass by name, and what of ours needs it.
CALLABLES: dict[tuple[str, str], tuple[set[str], str]] = {
    ("lm_eval.tasks", "TaskManager"): (
        {"include_path", "include_defaults"},
        "loader.py indexes only the definitions that a benchmark is made of",
    ),
    ("lm_eval.tasks", "TaskManager.load"): (set(), "loader.py builds tasks with it"),
    ("lm_eval.api.group", "Group.get_all_tasks"): (set(), "loader.py lists a group's members"),
    ("lm_eval.api.task", "ConfigurableTask.download"): (
        {"dataset_kwargs"},
        "download.py wraps it to hand in the rows",
    ),
    ("lm_eval.api.task", "ConfigurableTask.fewshot_context"): (
        {
            *("num_fewshot", "system_instruction", "apply_chat_template", "fewshot_as_multiturn"),
            *("chat_template", "gen_prefix"),
        },
        "build.py renders prompts with it",
    ),
    ("lm_eval.api.task", "ConfigurableTask.construct_requests"): (
        {"doc", "ctx"},
        "build.py makes an item's requests with it",
    ),
    ("lm_eval.api.task", "ConfigurableTask.process_results"): (
        {"doc", "results"},
        "build.py scores an item's answers with it",
    ),
    ("lm_eval.api.task", "ConfigurableTask.doc_to_text"): ({"doc"}, "splits.py compares documents"),
    ("lm_eval.api.task", "ConfigurableTask.doc_to_choice"): ({"doc"}, "build.py reads choices"),
    ("lm_eval.api.task", "ConfigurableTask.doc_to_target"): ({"doc"}, "build.py reads the answer"),
    ("lm_eval.api.task", "ConfigurableTask.doc_to_prefix"): ({"doc"}, "build.py renders prompts"),
    ("lm_eval.api.task", "ConfigurableTask.get_config"): ({"key"}, "build.py reads num_fewshot"),
    ("lm_eval.api.task", "ConfigurableTask.set_config"): (
        {"key", "value"},
        "build.py sets num_fewshot",
    ),
    ("lm_eval.api.task", "ConfigurableTask.set_fewshot_seed"): (set(), "build.py seeds examples"),
    ("lm_eval.api.task", "ConfigurableTask.aggregation"): (set(), "measure.py reports its figures"),
    ("lm_eval.api.task", "ConfigurableTask.higher_is_better"): (set(), "build.py picks a metric"),
    ("lm_eval.api.samplers", "ContextSampler.sample"): (
        {"n", "eval_doc", "df"},
        "splits.FewShot stands in front of it",
    ),
    ("lm_eval.api.samplers", "ContextSampler.replace_df"): ({"df"}, "splits.FewShot uses it"),
    ("lm_eval.api.samplers", "ContextSampler.set_rnd"): ({"rnd"}, "splits.FewShot passes it on"),
    ("lm_eval.api.instance", "Instance"): (
        {"request_type", "doc", "arguments", "idx", "resps"},
        "loader.judged_text makes one to run the task's filters on",
    ),
    ("lm_eval.api.filter", "FilterEnsemble.apply"): (
        {"instances"},
        "loader.judged_text reads a written answer through it",
    ),
    ("lm_eval.api.model", "LM.loglikelihood"): ({"requests"}, "lm.ForestLM implements it"),
    ("lm_eval.api.model", "LM.loglikelihood_rolling"): ({"requests"}, "lm.ForestLM implements it"),
    ("lm_eval.api.model", "LM.generate_until"): ({"requests"}, "lm.ForestLM implements it"),
    ("lm_eval.api.model", "LM.apply_chat_template"): (
        {"chat_history", "add_generation_prompt"},
        "lm.ForestLM implements it",
    ),
}

# What an instance of a task has, beside its methods.
TASK_ATTRIBUTES = {
    "task_name": "loader.py names tasks by it",
    "config": "splits.py points it at the splits at hand",
    "fewshot_cfg": "splits.py points it at the splits at hand",
    "dataset": "download.py reads which splits there are",
    "sampler": "splits.FewShot takes its place",
    "task_docs": "build.py draws items from it",
    "eval_docs": "build.py draws items from it",
    "multiple_input": "build.py tells WinoGrande's kind of question by it",
    "_filters": "loader.judged_text reads written answers through them",
    "OUTPUT_TYPE": "build.py tells a task's kind by it",
    "VERSION": "the record names it, and baselines are kept under it",
}
CONFIG_FIELDS = (
    *("training_split", "validation_split", "test_split", "fewshot_split", "process_docs"),
    *("custom_dataset", "num_fewshot", "repeats", "doc_to_choice", "process_results", "task"),
)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """hellaswag on twelve rows, built by lm-eval alone: an inline path, nothing of ours."""
    folder = benchmark_folder(tmp_path_factory.mktemp("data"))
    rows = str(folder / "hellaswag" / "validation.jsonl")
    (folder / "own").mkdir()
    (folder / "own" / "own.yaml").write_text(
        json.dumps(
            {
                "include": str(task_files().file("hellaswag")),
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"train": rows, "validation": rows}},
            }
        )
    )
    manager = TaskManager(include_path=folder / "own", include_defaults=False)
    return manager.load(["hellaswag"])["tasks"]["hellaswag"]


def test_the_version_is_the_one_these_tests_were_written_for() -> None:
    installed = importlib.metadata.version("lm-eval")
    assert installed == VERSION, f"lm-eval is {installed}; harness/ was written for {VERSION}."
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"lm-eval=={VERSION}" in project["dependencies"], "pyproject.toml pins another lm-eval."
    extra = project["optional-dependencies"]["ifeval"]
    assert extra == [f"lm-eval[ifeval]=={VERSION}"], "The extra `ifeval` pins another lm-eval."
    constraints = (ROOT / "constraints.txt").read_text().split("\n")
    assert f"lm-eval=={VERSION}" in constraints, "constraints.txt pins another lm-eval."


def test_its_extras_are_named_after_tasks() -> None:
    extras = importlib.metadata.metadata("lm-eval").get_all("Provides-Extra") or []
    assert "ifeval" in extras, "lm-eval has no extra `ifeval`: loader.py's hint and ours name it."


@pytest.mark.parametrize(("module", "name"), CALLABLES)
def test_a_name_has_the_parameters_we_pass(module: str, name: str) -> None:
    passed, use = CALLABLES[module, name]
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        assert hasattr(thing, part), f"{module} has no {name} any more: {use}."
        thing = getattr(thing, part)
    parameters = inspect.signature(thing).parameters
    missing = passed - set(parameters)
    assert not missing, f"{module}.{name} takes no {sorted(missing)} any more: {use}."


@pytest.mark.parametrize("name", TASK_ATTRIBUTES)
def test_a_task_has_what_we_read(name: str, task: Any) -> None:
    assert hasattr(task, name), f"A task has no `{name}` any more: {TASK_ATTRIBUTES[name]}."


def test_a_task_is_configured_by_the_fields_we_set(task: Any) -> None:
    missing = [name for name in CONFIG_FIELDS if not hasattr(task.config, name)]
    assert not missing, f"TaskConfig has no {missing} any more: splits.py and build.py use them."
    missing = [n for n in ("split", "samples", "process_docs") if not hasattr(task.fewshot_cfg, n)]
    assert not missing, f"FewshotConfig has no {missing} any more: splits.py uses them."


@pytest.mark.parametrize("key", ["doc_to_image: picture", "unsafe_code: true"])
def test_a_task_says_what_it_needs_beside_text(key: str, tmp_path: Path) -> None:
    """By the attributes `MULTIMODAL` and `UNSAFE_CODE`, which loader.py refuses."""
    benchmark_folder(tmp_path)
    path = tmp_path / "own.yaml"
    path.write_text(f"task: hellaswag\ninclude: {task_files().file('hellaswag')}\n{key}\n")
    with pytest.raises(ConfigError, match="needs images, sound or running model output"):
        load(str(path), DataLocator(tmp_path))


def test_a_task_hands_its_examples_to_a_sampler_that_can_be_replaced(task: Any) -> None:
    asked: list[int] = []

    class Ours:
        def sample(self, n: int, **_: Any) -> list[Any]:
            asked.append(n)
            return list(task.task_docs)[:n]

        def set_rnd(self, seed: int | None) -> None:
            asked.append(-1)

    before, task.sampler = task.sampler, Ours()
    try:
        task.set_fewshot_seed(1234)
        assert asked == [-1], "`set_fewshot_seed` no longer seeds `task.sampler`: build.py needs it"
        task.fewshot_context(task.task_docs[5], num_fewshot=2)
        assert asked == [-1, 2], "`fewshot_context` no longer asks `task.sampler` for its examples."
    finally:
        task.sampler = before
    assert len(before.df) == 12, "A sampler's pool is no longer in `df`: splits.FewShot reads it."


def test_a_written_answer_goes_through_filters_by_name(task: Any) -> None:
    first = task._filters[0]
    instance = Instance("generate_until", {}, (), 0, resps=["said"])
    first.apply([instance])
    taken = instance.filtered_resps
    assert taken == {first.name: "said"}, "A filter no longer writes `filtered_resps[its name]`."
    assert all(callable(make) for make in first.filters), "A filter's parts are no longer makers."


def test_an_instance_carries_its_place() -> None:
    one = Instance("loglikelihood", {}, ("a", " b"), 0, metadata=("arc_easy", 7, 1))
    assert (one.task_name, one.doc_id, one.args) == ("arc_easy", 7, ("a", " b")), (
        "An Instance no longer unpacks its metadata and arguments: lm.ForestLM groups by them."
    )


# ------------------------------------------------------------------ definitions


def test_a_definition_may_include_one_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "code.py").write_text("def text(doc): return 'asked'\n")
    (tmp_path / "a" / "x.yaml").write_text("task: x\ndoc_to_text: !function code.text\n")
    line = json.dumps({"include": str(tmp_path / "a" / "x.yaml")})
    (tmp_path / "b" / "include.yaml").write_text(line)
    index = TaskManager(include_path=tmp_path / "b", include_defaults=False).task_index
    assert list(index) == ["x"], "A definition no longer takes `include:` of another folder's file."
    entry = index["x"]
    assert entry.cfg is not None and entry.cfg["doc_to_text"] == str(
        tmp_path / "a" / "code.text"
    ), "An included definition's functions are no longer looked for beside it."
    assert entry.yaml_path == tmp_path / "b" / "include.yaml", (
        "An Entry's yaml_path is no longer its file: loader.py tells tasks from tags by it."
    )


def test_of_two_definitions_the_first_counts(tmp_path: Path) -> None:
    for folder, path in (("00000", "mine"), ("00001", "theirs")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.yaml").write_text(f"task: x\ndataset_path: {path}\n")
    cfg = TaskManager(include_path=tmp_path, include_defaults=False).task_index["x"].cfg
    assert cfg is not None and cfg["dataset_path"] == "mine", (
        "Of two definitions of one name another counts now: loader.py puts the user's own first."
    )


def test_a_loaded_group_is_found_by_its_name_with_its_tasks_in_order(tmp_path: Path) -> None:
    folder = benchmark_folder(tmp_path / "data")
    for name in ("hellaswag", "arc_easy"):
        (tmp_path / name).mkdir()
        line = json.dumps({"include": str(task_files().file(name))})
        (tmp_path / name / "include.yaml").write_text(line)
    (tmp_path / "both.yaml").write_text("group: both\ntask: [hellaswag, arc_easy]\n")
    with data_from(DataLocator(folder), ("both",)):
        loaded = TaskManager(include_path=tmp_path, include_defaults=False).load(["both"])
    tasks = [task.task_name for task in loaded.get("groups", {})["both"].get_all_tasks()]
    assert tasks == ["hellaswag", "arc_easy"], "A group no longer lists its tasks in their order."
    assert list(loaded["tasks"]) == tasks, "`load` no longer gives the tasks by their names."


def test_no_tag_is_called_like_a_task_or_a_group() -> None:
    """A tag that a task carries would then take the other's place in `TaskManager`'s index."""
    known = task_files()
    assert len(known.tags) > 500
    assert not set(known.tags) & {*known.tasks, *known.groups}
    assert not set(known.tasks) & set(known.groups)


# ------------------------------------------------------------------ where rows come from


def test_a_task_asks_datasets_for_its_rows_by_path_and_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In `ConfigurableTask.download`, by the name `datasets` of its own module."""
    namespace = ConfigurableTask.download.__globals__
    assert namespace.get("datasets") is datasets, (
        "lm_eval.api.task no longer imports `datasets` by that name: download.py replaces it there."
    )
    asked: list[dict[str, Any]] = []

    def load_dataset(**words: Any) -> Any:
        asked.append(words)
        raise StopIteration

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    task = object.__new__(ConfigurableTask)
    task._config = importlib.import_module("lm_eval.config.task").TaskConfig(task="x")
    task.DATASET_PATH, task.DATASET_NAME = "owner/name", "subset"
    with pytest.raises(StopIteration):
        task.download({"revision": "main"})
    assert asked == [{"path": "owner/name", "name": "subset", "revision": "main"}], (
        "A task no longer asks `datasets.load_dataset(path=, name=, **dataset_kwargs)`."
    )


def test_lm_eval_is_as_before_once_tasks_are_built(tmp_path: Path) -> None:
    """Also where building fails; and `datasets` itself is never touched, nor another thread."""
    namespace = ConfigurableTask.download.__globals__
    download, load_dataset = ConfigurableTask.download, datasets.load_dataset
    seen: list[Any] = []

    class Locator(DataLocator):
        def find(self, *args: Any, **kwargs: Any) -> Any:
            seen.append(datasets.load_dataset is load_dataset)
            seen.append(namespace["datasets"] is not datasets)
            other = threading.Thread(
                target=lambda: seen.append(_asked_elsewhere(namespace["datasets"]))
            )
            other.start()
            other.join()
            return super().find(*args, **kwargs)

    folder = benchmark_folder(tmp_path)
    assert [one.source for one in load("hellaswag", Locator(folder))] == ["local hellaswag"]
    assert seen == [True, True, "FileNotFoundError"]
    with pytest.raises(DataError):
        load("lambada_openai", Locator(folder, {"lambada_openai": str(tmp_path / "nothing")}))
    assert namespace["datasets"] is datasets and datasets.load_dataset is load_dataset
    assert ConfigurableTask.download is download


def _asked_elsewhere(module: Any) -> str:
    """What another thread gets from lm-eval's `datasets` meanwhile: the real thing's answer."""
    try:
        module.load_dataset("json", data_files="/nowhere/rows.json")
    except Exception as error:  # noqa: BLE001  (its kind is the answer)
        return type(error).__name__
    return "rows"


def test_a_task_that_makes_its_own_rows_has_the_users_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`custom_dataset` calls `datasets.load_dataset` from a module of the task's own."""
    monkeypatch.setenv(trust.ENVIRONMENT, "1")  # it runs Python of its own: `--trust`
    folder = benchmark_folder(tmp_path / "data")
    (tmp_path / "rows.py").write_text(
        "import datasets\n\ndef rows(**_):\n    return datasets.load_dataset('made/up', 'part')\n"
    )
    (tmp_path / "own.yaml").write_text(
        "task: own\ncustom_dataset: !function rows.rows\ntest_split: validation\n"
        "output_type: multiple_choice\ndoc_to_text: 'Is it?'\ndoc_to_choice: ['no', 'yes']\n"
        "doc_to_target: 1\n"
    )
    locator = DataLocator(None, {"made/up": str(folder / "hellaswag")})
    with pytest.raises(DataError, match="no rows of made/up"):
        load(str(tmp_path / "own.yaml"), locator)
    locator = DataLocator(None, {"own": str(folder / "hellaswag")})
    (one,) = load(str(tmp_path / "own.yaml"), locator)
    assert (one.source, len(one.harness.task_docs)) == ("local hellaswag", 12)
