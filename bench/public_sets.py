"""Public data sets, each trained from its raw file by one command and scored by the right metric.

    python bench/public_sets.py --data FOLDER [--only NAME …] [--steps 20]

FOLDER holds a folder a data set, with train.jsonl and test.jsonl as they were published (their
READMEs say where). Every command is printed before it runs, and stands in docs/benchmarks.md with
what it measured: base against LoRA on the embedded model, on the same held-out examples.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Of each set: the data, and how its task is scored. {d} is its folder.
FILES = "data=jsonl data.path={d}/train.jsonl data.val_path={d}/test.jsonl"
PAIRS = "method=dpo data=pairs data.path={d}/train.jsonl data.val_path={d}/test.jsonl"
SETS = {
    "banking77": f"{FILES} data.fields.prompt=text data.fields.completion=category "
    "task.metric=label_accuracy task.metrics=[macro_f1] task.max_new_tokens=12",
    "dolly_small": f"{FILES} data.allow_markers=true data.template=none task.metric=rougeL",
    "e2e_nlg": f"{FILES} data.fields.prompt=mr data.fields.completion=ref task.metric=bleu",
    "gsm8k": f"{FILES} task.metric=numeric task.max_new_tokens=160",
    "mts_dialog": f"{FILES} data.fields.prompt=[section_header,dialogue] "
    "data.fields.completion=section_text task.metric=rougeL task.metrics=[rouge1,rouge2] "
    "task.max_new_tokens=96",
    "pubmedqa": f"{FILES} data.fields.prompt=[CONTEXTS,QUESTION] "
    "data.fields.completion=final_decision task.metric=label_accuracy task.metrics=[macro_f1] "
    "task.max_new_tokens=6",
    "rasbt_instructions": f"{FILES} task.metric=rougeL",
    "wikisql": f"{FILES} data.fields.prompt=question data.fields.completion=query "
    "task.metric=sql_match task.metrics=[chrf] task.max_new_tokens=80",
    "wikitext2_raw": "data=jsonl data.path={d}/test.jsonl data.fields.text=page "
    "task.metric=perplexity data.max_length=512",
    "rasbt_preference": f"{PAIRS} task.metric=accuracy",
    "llamafactory_dpo_demo": f"{PAIRS} task.metric=accuracy",
    "orca_dpo_ms": f"{PAIRS} task.metric=accuracy",
}


def command(name: str, data: Path, steps: int, out: Path) -> list[str]:
    """The command that trains one set; it is `myosotis train` and these settings."""
    given = SETS[name].format(d=data / name).split()
    method = [] if any(word.startswith("method=") for word in given) else ["method=lora"]
    small = [
        f"trainer.max_steps={steps}",
        "data.max_length=512" if "wikitext" not in name else "",
        "data.train_items=200",
        "task.items=40",
        "task.generate=40",
        "task.shots=0",
        "retention=none",
        "retention.kl_items=0",
        "trainer.val_every=null",
        "trainer.checkpoint_every=null",
        "trainer.num_threads=1",
        "tracking=none",
        f"out={out}",
    ]
    return ["myosotis", "train", *method, *given, *filter(None, small)]


def row(name: str, record: dict[str, Any]) -> str:
    """A line of the table: every metric that was asked for."""
    task = record["task"]
    asked = [task, *(e for e in task["extra"] if e["metric"] in SETS[name])]
    told = "; ".join(
        f"{one['metric']} {one['base']:.3g} → {one['tuned']:.3g} ({one['lo']:+.2g} to "
        f"{one['hi']:+.2g})"
        for one in asked
    )
    seconds = record["cost"].get("total_seconds") or 0
    return f"| {name} | {task['n']} | {told} | {seconds / 60:.0f} min |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.only:
            out = Path(folder) / name
            words = command(name, asked.data, asked.steps, out)
            print("$", shlex.join(words), flush=True)
            done = subprocess.run([sys.executable, "-m", "myosotis.cli", *words[1:]], check=False)
            if done.returncode == 0:
                print(row(name, json.loads((out / "record.json").read_text())), flush=True)
            else:
                print(f"| {name} | exit code {done.returncode} |", flush=True)


if __name__ == "__main__":
    main()
