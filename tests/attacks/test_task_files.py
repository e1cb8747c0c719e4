"""lm-eval task files that are not lm-eval's own: data unless trusted, their Jinja in a sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from myosotis.retention.harness import sandbox
from myosotis.utils import trust
from myosotis.utils.errors import ConfigError

BASE = """\
task: theirs
dataset_path: json
dataset_kwargs: {data_files: {validation: items.jsonl}}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["a", "b"]
doc_to_target: 0
metric_list: [{metric: acc}]
"""

CODE = {
    "function": "process_docs: !function utils.run\n",
    "function-in-a-list": "metric_list: [{metric: !function utils.run}]\n",
    "function-as-the-metric's-aggregation": (
        "metric_list: [{metric: acc, aggregation: !function utils.run}]\n"
    ),
    "function-in-the-filters": (
        "filter_list: [{name: x, filter: [{function: custom, filter_fn: !function utils.run}]}]\n"
    ),
    "function-of-the-standard-library": "doc_to_text: !function os.getcwd\n",
    "function-as-an-alias": "x: &x !function utils.run\nprocess_docs: *x\n",
    "class": "class: !function utils.Task\n",
    "python-tag": "x: !!python/object/apply:os.mkdir [/tmp/x]\n",
    "local-tag": "x: !theirs 1\n",
    "metric-script": "metric_list: [{metric: ./evil, aggregation: mean}]\n",
    "metric-from-the-hub": "metric_list: [{metric: acc, hf_evaluate: true}]\n",
    "remote-code": "dataset_kwargs: {trust_remote_code: true}\n",
    "data-script": "dataset_path: ./evil.py\n",
    "prompt-source": "use_prompt: 'evil.yaml:x'\n",
}


@pytest.mark.parametrize("attack", sorted(CODE))
def test_code_of_a_task_file_needs_the_users_word(attack: str, here: Path, canary: Path) -> None:
    (here / "utils.py").write_text(f"open({str(canary)!r}, 'w')\ndef run(x): return x\n")
    path = here / "evil.yaml"
    path.write_text(BASE + CODE[attack])
    with pytest.raises(ConfigError) as error:
        sandbox.admit(path)
    assert trust.FLAG in error.value.hint or "cannot be read" in error.value.message
    assert not canary.exists()


def test_code_in_an_included_file_counts(here: Path) -> None:
    (here / "more.yaml").write_text("process_docs: !function utils.run\n")
    (here / "evil.yaml").write_text("include: more.yaml\n" + BASE)
    with pytest.raises(ConfigError, match=r"more\.yaml: process_docs"):
        sandbox.admit(here / "evil.yaml")


def test_code_in_a_group_spelled_out_counts(here: Path) -> None:
    (here / "evil.yaml").write_text(
        "group: g\ntask: [{task: t, dataset_path: json, process_docs: !function utils.run}]\n"
    )
    with pytest.raises(ConfigError, match="process_docs"):
        sandbox.admit(here / "evil.yaml")


def test_a_circle_of_includes_ends(here: Path) -> None:
    (here / "a.yaml").write_text("include: b.yaml\n" + BASE)
    (here / "b.yaml").write_text("include: a.yaml\n")
    sandbox.admit(here / "a.yaml")


def test_a_fan_of_includes_ends(here: Path) -> None:
    names = [f"{n}.yaml" for n in range(100)]
    for name in names:
        (here / name).write_text("x: 1\n")
    (here / "fan.yaml").write_text(f"include: [{', '.join(names)}]\n")
    with pytest.raises(ConfigError, match="includes more than"):
        sandbox.admit(here / "fan.yaml")


def test_a_plain_task_file_is_admitted(here: Path) -> None:
    (here / "plain.yaml").write_text(BASE)
    sandbox.admit(here / "plain.yaml")


def test_lm_evals_own_definitions_may_be_included(here: Path) -> None:
    import lm_eval

    own = Path(lm_eval.__file__).parent / "tasks" / "hellaswag" / "hellaswag.yaml"
    assert "!function" in own.read_text()
    (here / "mine.yaml").write_text(f"include: {own}\ntask: mine\n")
    sandbox.admit(here / "mine.yaml")


def test_a_path_that_only_looks_like_lm_evals_is_not(here: Path) -> None:
    place = here / "lm_eval" / "tasks" / "hellaswag"
    place.mkdir(parents=True)
    (place / "evil.yaml").write_text(BASE + CODE["function"])
    with pytest.raises(ConfigError, match="process_docs"):
        sandbox.admit(place / "evil.yaml")


def test_with_the_word_it_is_admitted(here: Path) -> None:
    path = here / "evil.yaml"
    path.write_text(BASE + CODE["function"])
    with trust.word(True):
        sandbox.admit(path)
    with pytest.raises(ConfigError):
        sandbox.admit(path)


def test_of_ones_own_run_the_same_file_is(here: Path) -> None:
    for name in ("mine.yaml", "evil.yaml"):
        (here / name).write_text(BASE + CODE["function"])
    with trust.word(False):
        trust.allow([str(here / "mine.yaml")])
        sandbox.admit(Path("mine.yaml"))
        with pytest.raises(ConfigError):
            sandbox.admit(here / "evil.yaml")
    with pytest.raises(ConfigError):
        sandbox.admit(Path("mine.yaml"))


@pytest.mark.parametrize("command", ["plan", "train", "evaluate"])
def test_a_command_refuses_it_before_it_runs(
    command: str, here: Path, canary: Path, refused: Callable[..., str], tiny_model: Path
) -> None:
    (here / "utils.py").write_text(f"open({str(canary)!r}, 'w')\ndef run(x): return x\n")
    (here / "evil.yaml").write_text(BASE + CODE["function"])
    (here / "items.jsonl").write_text('{"question": "a or b?"}\n' * 4)
    model = ["model=local", f"model.path={tiny_model}", "data=jsonl"]
    words = [*model, f"data.path={tiny_model / 'data.jsonl'}", "data.template=none"]
    words += ["data.max_length=32", "trainer.accelerator=cpu", "tracking=none", "out=run"]
    name = [str(tiny_model)] if command == "evaluate" else []
    message = refused(command, *name, *words, "retention.suite=[evil.yaml]")
    assert "evil.yaml: process_docs" in message


ESCAPES = {
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__.os.mkdir(path) }}",
    "lipsum": "{{ lipsum.__globals__['os'].mkdir(path) }}",
    "namespace": "{{ namespace.__init__.__globals__['os'].mkdir(path) }}",
    "joiner": "{% set x = joiner.__init__ %}{{ x.__globals__.os.mkdir(path) }}",
    "attr-filter": "{{ cycler|attr('__init__')|attr('__globals__') }}",
    "map-attribute": "{{ [cycler]|map(attribute='__init__.__globals__')|list|first }}",
    "format": "{{ '{0.__class__.__mro__}'.format(path) }}",
    "filter-function": "{{ 'x'|regex_replace.__globals__ }}",
    "undefined": "{{ self._TemplateReference__context.environment }}",
}


@pytest.mark.parametrize("attack", sorted(ESCAPES))
def test_jinja_stays_in_its_sandbox(attack: str, canary: Path) -> None:
    import lm_eval.utils
    from jinja2 import TemplateError

    sandbox.install()
    try:
        said = lm_eval.utils.apply_template(ESCAPES[attack], {"path": str(canary)})
    except (TemplateError, AttributeError):
        said = ""
    assert "<class 'object'>" not in said and "module" not in said and "Environment" not in said
    assert not canary.exists()


def test_what_tasks_write_renders_as_before() -> None:
    import lm_eval.utils

    sandbox.install()
    template = (
        "{{q.strip() | regex_replace('a', 'b')}}{% for c in cs %} {{loop.index}}{{c}}{% endfor %}\n"
    )
    said = lm_eval.utils.apply_template(template, {"q": " aa ", "cs": ["x", "y"]})
    assert said == "bb 1x 2y\n"
    assert lm_eval.utils.env.keep_trailing_newline
