"""The commands that are not `train`: their arguments, and the function each one calls.

A command that reads the configuration takes overrides (`key=value`) like `train` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from myosotis.cli.arguments import page_format, port, positive, seed, share, strength
from myosotis.cli.errors import explained
from myosotis.config import check, compose
from myosotis.utils.console import console, results
from myosotis.utils.errors import ConfigError
from myosotis.utils.escape import line, terminal

Arguments = argparse.Namespace
RUN_HELP = "a run: its id or a unique prefix of it, its name, its folder, or last"


def main(name: str, args: list[str]) -> Any:
    """Run the command `name`; returns its result, which `--json` prints."""
    parser, start = BUILDERS[name](_parser(name))
    parsed = parser.parse_intermixed_args(args)
    for word in parsed.overrides:
        if "=" not in word and not word.startswith("~"):
            raise ConfigError(
                f"{name} does not know what {word!r} is.",
                f"Settings are key=value; `myosotis {name} --help` lists the options.",
            )
    return start(parsed)


def _parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"myosotis {name}", allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument(
        "--trust", action="store_true", help="what came from elsewhere may run code here"
    )
    return parser


def _with_overrides(parser: argparse.ArgumentParser, config: bool = True) -> None:
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="a setting to change; `myosotis train --help` lists them",
    )
    if config:
        parser.add_argument(
            "-cn", "--config-name", default="train", help="name of the primary config (train)"
        )
        parser.add_argument("-cd", "--config-dir", help="folder with configs of your own")
    else:
        parser.set_defaults(config_name="train", config_dir=None)


def _config(parsed: Arguments, *first: str) -> DictConfig:
    """The config of the overrides; `first` come before the user's own."""
    overrides = [*first, *parsed.overrides]
    try:
        return compose(overrides, parsed.config_name, parsed.config_dir)
    except Exception as error:
        folder = [f"--config-dir={parsed.config_dir}"] if parsed.config_dir else []
        if (told := explained(error, [*overrides, *folder])) is not None:
            raise told from None
        raise


Start = Callable[[Arguments], Any]
Built = tuple[argparse.ArgumentParser, Start]


def _plan(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Show what a run would do: which parameters train, how much memory and how many steps it "
        "takes, and which verdicts the benchmarks can reach. Loads no weights."
    )
    _with_overrides(parser)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.commands import plan

        return plan.plan(cfg)

    return parser, start


def _audit(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Show what the model will read: examples with their scored tokens coloured, lengths, what "
        "is cut or dropped, exact and near duplicates, leakage between training and held-out data, "
        "benchmark items that stand in the training data, and text that does harm."
    )
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="also write it as one self-contained page"
    )
    _with_overrides(parser)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.commands.audit import audit

        return audit(cfg, parsed.html)

    return parser, start


def _check(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Try one step of a run, without its benchmarks, and say line by line what passed: masks, "
        "trainable tensors, gradients, optimiser groups, a loss that falls, and a model that is "
        "the base again with its update off. Exit code 1 when a line failed."
    )
    _with_overrides(parser)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.cli.exit_codes import Gated
        from myosotis.commands import check as preflight

        record = preflight.check_run(cfg, ["check", *parsed.overrides])
        preflight.told(record, Path(cfg.out))
        if not preflight.passed(record):
            raise Gated(record, 1)
        return record

    return parser, start


def _demo(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Run end to end on the embedded model and data: measure the base, fine-tune it, measure it "
        "again, scale the update to other strengths, and write a scorecard to reports/demo/."
    )
    _with_overrides(parser)

    def start(parsed: Arguments) -> Any:
        from myosotis.commands.demo import WORDS, demo

        return demo(_config(parsed, *WORDS))

    return parser, start


def _evaluate(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Run the benchmarks of retention.suite on any model, tuned with any tool. With --base, "
        "compare it with the model it was tuned from, item by item, and reach a verdict."
    )
    parser.add_argument("model", metavar="MODEL", help="a preset, a folder, a hub id or a run")
    parser.add_argument(
        "--base", help="the model it was tuned from: a preset, a folder or a hub id"
    )
    _with_overrides(parser)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        check(cfg)
        from myosotis.cli.hydra_app import gated
        from myosotis.commands.evaluate import evaluate

        words = [parsed.model, *(["--base", parsed.base] if parsed.base else [])]
        command = ["evaluate", *words, *parsed.overrides]
        record = evaluate(cfg, parsed.model, base=parsed.base, command=command)
        return gated(record, getattr(record, "suite_verdict", None), cfg)

    return parser, start


def _generate(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Print what a tuned model answers; with --compare, also what its base does."
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--prompt", action="append", metavar="TEXT", help="may be repeated; - reads from stdin"
    )
    parser.add_argument(
        "--compare",
        action="store_true",
        help="show the answers of base and tuned model side by side",
    )
    parser.add_argument(
        "--update",
        action="append",
        default=[],
        metavar="RUN",
        help="another run or adapter folder on the same base that answers, too; may be repeated",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=positive(int),
        default=128,
        metavar="N",
        help="longest answer, in tokens (default: 128)",
    )
    parser.add_argument(
        "--temperature",
        type=positive(float, zero=True),
        help="of sampling; 0 takes the likeliest token each time (default; with --best-of 1)",
    )
    parser.add_argument(
        "--top-k",
        type=positive(int, zero=True),
        default=0,
        help="sample only from this many of the likeliest tokens; 0: from all (default)",
    )
    parser.add_argument(
        "--top-p",
        type=share,
        default=1.0,
        help="sample only from the likeliest tokens that have this probability together",
    )
    parser.add_argument("--seed", type=seed, default=0, help="seed of the sampling (default: 0)")
    parser.add_argument(
        "--best-of",
        type=positive(int),
        metavar="N",
        help="sample so many answers, and show the one that --reward gives most",
    )
    parser.add_argument(
        "--reward", metavar="RUN", help="the run of method=reward that says what an answer is worth"
    )
    parser.set_defaults(overrides=[])

    def start(parsed: Arguments) -> Any:
        if not parsed.prompt:
            raise ConfigError("generate needs a prompt.", "Add --prompt TEXT.")
        _require_choice(parsed)
        prompts = [sys.stdin.read() if text == "-" else text for text in parsed.prompt]
        if not all(text.strip() for text in prompts):
            raise ConfigError("A prompt is empty.")
        from myosotis.commands.generate import answer

        return answer(
            parsed.run,
            prompts,
            others=parsed.update,
            compare=parsed.compare,
            max_new_tokens=parsed.max_new_tokens,
            temperature=_temperature(parsed),
            top_k=parsed.top_k,
            top_p=parsed.top_p,
            seed=parsed.seed,
            best_of=parsed.best_of or 1,
            reward=parsed.reward,
        )

    return parser, start


def _temperature(parsed: Arguments) -> float:
    if parsed.temperature is not None:
        return parsed.temperature
    return 1.0 if parsed.best_of else 0.0


def _require_choice(parsed: Arguments) -> None:
    """`--best-of` and `--reward` of `generate` belong together, and need answers that differ."""
    if parsed.best_of and parsed.reward is None:
        raise ConfigError(
            "--best-of chooses by a reward, and none is named.",
            "Add --reward RUN: a run of method=reward.",
        )
    if parsed.reward is not None and not parsed.best_of:
        raise ConfigError("--reward chooses among several answers.", "Add --best-of 8.")
    if parsed.best_of and parsed.temperature == 0:
        raise ConfigError(
            f"--best-of {parsed.best_of} with --temperature 0 is the same answer each time.",
            "Leave --temperature out (1 then), or give one above 0.",
        )


def _dial(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Scale the update of a run down until the model is within its retention budget. θ0 + αΔθ "
        "is measured at several strengths, from the base (α=0) to the tuned model (α=1). One half "
        "of the items chooses the strength that gains most within the budget, the other half "
        "confirms it. With --out, the model is written at that strength if it is confirmed; exit "
        "code 3 (forgotten) or 4 (not confirmed) says that nothing was written."
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--budget",
        type=share,
        metavar="SHARE",
        help="share of the base's score that may be lost (default: the run's budget)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the model to this folder")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="retention.… or task.items, where it should differ from the run's",
    )
    parser.set_defaults(config_name="train", config_dir=None)

    def start(parsed: Arguments) -> Any:
        if parsed.budget is not None:
            parsed.overrides.append(f"retention.budget={parsed.budget}")
        cfg = _config(parsed)
        from myosotis.cli.exit_codes import Gated
        from myosotis.commands.dial import dial
        from myosotis.retention.budget import Budget

        found = dial(parsed.run, cfg, parsed.overrides, out=parsed.out)
        if parsed.out and found["form"] is None:
            budget = Budget(accept=found["choice"].accept)
            raise Gated(found, budget.exit_code(found["verdict"]) or 4)
        return found

    return parser, start


def _recover(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Ask again what a run got wrong that its base got right: with solved examples before the "
        "question, and after a few steps of relearning on other items, which are thrown away. What "
        "comes back was mislaid, not lost. The record and the scorecard of the run show it."
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--shots",
        type=positive(int, zero=True),
        default=5,
        metavar="K",
        help="solved examples before each question (default: 5); 0: leave this way out",
    )
    parser.add_argument(
        "--steps",
        type=positive(int, zero=True),
        default=10,
        metavar="N",
        help="steps of relearning (default: 10); 0: leave this way out",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="retention.…, where it should differ from the run's",
    )
    parser.set_defaults(config_name="train", config_dir=None)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.commands.recover import recover

        return recover(parsed.run, cfg, parsed.overrides, shots=parsed.shots, steps=parsed.steps)

    return parser, start


def _forecast(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Say what a run will have lost, before its benchmarks: by how far its predictions moved "
        "(KL), and what that has cost the runs of a study of the same base. Loads no weights."
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--study", required=True, metavar="SWEEP|FOLDER|FILE", help="the runs that set the price"
    )
    parser.set_defaults(overrides=[], config_name="train", config_dir=None)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.commands.forecast import forecast

        return forecast(parsed.run, parsed.study, cfg.tracking.uri)

    return parser, start


def _export(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Write a run out for other tools: its adapter in PEFT's format, a whole model with merged "
        "weights, or a LoRA made from a full run. What was written is then loaded again and scored "
        "on the run's benchmarks."
    )
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)
    parser.add_argument(
        "--to",
        required=True,
        choices=("adapter", "merged", "lora"),
        help="adapter: in PEFT's format; merged: a whole model; lora: made from a full run",
    )
    parser.add_argument(
        "--rank", type=positive(int), metavar="R", help="rank of the LoRA (only with --to lora)"
    )
    parser.add_argument(
        "--alpha", type=strength, default=1.0, help="strength of the update (default: 1)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: in the run's folder")
    parser.add_argument(
        "--base",
        metavar="NAME",
        help="what the result names as its base model (default: its name on the hub, if known)",
    )
    parser.set_defaults(overrides=[])

    def start(parsed: Arguments) -> Any:
        from myosotis.commands.export import export

        return export(
            parsed.run,
            parsed.to,
            rank=parsed.rank,
            alpha=parsed.alpha,
            out=parsed.out,
            base=parsed.base,
        )

    return parser, start


def _export_data(parser: argparse.ArgumentParser) -> Built:
    from myosotis.cli import export_data

    _with_overrides(parser)
    return export_data.build(parser, _config)


def _rate(parser: argparse.ArgumentParser) -> Built:
    from myosotis.cli import rate

    return rate.build(parser, RUN_HELP)


def _prefer(parser: argparse.ArgumentParser) -> Built:
    from myosotis.cli import prefer

    return prefer.build(parser, RUN_HELP)


def _scorecard(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Write one run, or the comparison of many, as one self-contained page that opens without "
        "network. A sweep or a folder stands for all runs in it; a record file that another tool "
        "wrote (docs/reference/record.md) stands for one run."
    )
    parser.add_argument(
        "runs", metavar="RUN|SWEEP|FOLDER|FILE", nargs="*", help=f"{RUN_HELP} (default: last)"
    )
    parser.add_argument("--out", metavar="FILE", help="file to write (default: beside the run)")
    page_format(parser)
    parser.add_argument(
        "--figures",
        metavar="DIR",
        help="also write every figure to this folder: PDF, SVG at column width, CSV",
    )
    parser.set_defaults(overrides=[], config_name="train", config_dir=None)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.report.scorecard import is_one, scorecard
        from myosotis.tracking.find import gather
        from myosotis.utils.own_files import refuse_foreign, require_place

        found = gather(parsed.runs or ["last"], cfg.tracking.uri)
        at = (
            Path(parsed.out)
            if parsed.out
            else found.folder / f"{found.stem}.{parsed.format or 'html'}"
        )
        if parsed.out:
            require_place(at)
            refuse_foreign(at, is_one(at) or at.is_dir())
        if parsed.figures:
            require_place(Path(parsed.figures) / "figure")
        written = scorecard(found.records, at, parsed.format)
        names = [record.run_name or record.run_id[:12] for record in found.records]
        said = ", ".join(names) if len(names) <= 6 else f"{len(names)} runs"
        console.print(f"Scorecard of {terminal(said)}:", style="bold")
        results.print(terminal(written), soft_wrap=True)
        done = {"scorecard": str(written), "runs": [r.run_id for r in found.records]}
        if parsed.figures:
            from myosotis.report.figures import write_figures

            drawn = write_figures(found.records, parsed.figures)
            told = f"{len(drawn)} files of {len(drawn) // 3} figures in {parsed.figures}"
            console.print(terminal(told), soft_wrap=True)
            done["figures"] = [str(path) for path in drawn]
        return done

    return parser, start


def _sync(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Bring MLflow up to date with the run folders on disk, after its server was away or its "
        "database was lost. Doing it twice changes nothing."
    )
    parser.add_argument("run", metavar="RUN|SWEEP", help=f"{RUN_HELP}; all: every run")
    _with_overrides(parser, config=False)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.cli.exit_codes import Gated
        from myosotis.commands.sync import sync
        from myosotis.records.find import all_runs, find
        from myosotis.records.run_folder import RunFolder

        if parsed.run == "all":
            folders = all_runs()
        else:
            place = find(parsed.run)
            folders = [place] if isinstance(place, RunFolder) else place.trials()
        done = sync(folders, cfg.tracking.uri)
        # What failed comes last: it is what is left to do.
        for run in sorted(done, key=lambda run: "failed" in run):
            word = "failed" if "failed" in run else "skipped"
            what = f"{run['points']} points" if run["synced"] else f"{word}: {run['why']}"
            told = f"{run['run_name']}  {run['run_id'][:8]}  {what}"
            results.print(terminal(line(told)), soft_wrap=True)
        if failed := [run for run in done if "failed" in run]:
            told = f"{len(failed)} of {len(done)} runs failed; the same command brings them later."
            console.print(told, style="red")
            raise Gated({"runs": done}, 1)
        return {"runs": done}

    return parser, start


def _compare(parser: argparse.ArgumentParser) -> Built:
    from myosotis.cli import compare

    return compare.build(parser, _config)


def _runs(parser: argparse.ArgumentParser) -> Built:
    from myosotis.cli import runs

    return runs.build(parser, RUN_HELP)


def _ui(parser: argparse.ArgumentParser) -> Built:
    parser.description = (
        "Serve MLflow's own pages about your runs, reachable from this machine only."
    )
    parser.add_argument("--port", type=port, default=5000, help="default: 5000")
    _with_overrides(parser, config=False)

    def start(parsed: Arguments) -> Any:
        cfg = _config(parsed)
        from myosotis.cli import ui

        return ui.serve(cfg.tracking.uri, parsed.port)

    return parser, start


BUILDERS: dict[str, Callable[[argparse.ArgumentParser], Built]] = {
    "plan": _plan,
    "audit": _audit,
    "check": _check,
    "demo": _demo,
    "evaluate": _evaluate,
    "compare": _compare,
    "generate": _generate,
    "dial": _dial,
    "recover": _recover,
    "forecast": _forecast,
    "export": _export,
    "export-data": _export_data,
    "rate": _rate,
    "prefer": _prefer,
    "scorecard": _scorecard,
    "runs": _runs,
    "sync": _sync,
    "ui": _ui,
}
