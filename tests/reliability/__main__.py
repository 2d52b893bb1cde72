"""Attack the scripts and the library by hand, with counts of one's own.

    python tests/reliability kills --full        100 kills, at random instants, of the five scripts
                                                 that write
    python tests/reliability mutations --full    300 changed files, read again
    python tests/reliability inputs --full       500 bad settings and files
    python tests/reliability soak --full         10^6 steps captured and as many not, 500 compiled
                                                 fits

Several attacks follow one another in one process. Without --full the counts are those of the test
suite, and figures are not rendered. The exit status is 1 where anything was lost, silent or hung.
"""

import argparse
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import torch
from launch import leave_figures_blank
from tqdm import tqdm


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("attacks", nargs="+", choices=("kills", "mutations", "inputs", "soak"))
    parser.add_argument("--full", action="store_true")
    parser.add_argument(
        "--compile", default="off", choices=("off", "on"), help="of the runs that are killed"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the folder of runs and logs also where all went well",
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.full:
        leave_figures_blank()
    folder = Path(tempfile.mkdtemp(prefix="pyrovae-"))
    failed = False
    # the soak may start threads, beside which the others are not to fork
    for attack in sorted(set(options.attacks), key=list(ATTACKS).index):
        lost = _attempt(attack, options, folder / attack)
        print(f"{attack}: {'FAILED' if lost else 'passed'}", flush=True)
        failed = failed or lost
    if failed or options.keep:
        print(f"runs and logs: {folder}")
    else:
        shutil.rmtree(folder)
    return int(failed)


def _attempt(attack: str, options: argparse.Namespace, folder: Path) -> bool:
    """Whether the attack found anything, or could not be made."""
    folder.mkdir()
    try:
        return ATTACKS[attack](options, folder)
    except Exception:
        traceback.print_exc(file=sys.stdout)
        return True


def _kills(options: argparse.Namespace, folder: Path) -> bool:
    import kills

    reports = []
    for script in tqdm(kills.COMMANDS, unit="script"):
        reports.append(
            kills.attack(
                script,
                folder / script,
                kills=20 if options.full else 1,
                seed=options.seed,
                compile=options.compile,
            )
        )
        tqdm.write(f"{script}: {reports[-1]}")
    print(f"{sum(report.kills for report in reports)} kills in all, compile={options.compile}")
    return any(report.different or report.failed for report in reports)


def _mutations(options: argparse.Namespace, folder: Path) -> bool:
    import mutations

    reports = []
    for writer in tqdm(mutations.READERS, unit="script"):
        whole = folder.parent / "kills" / writer / "whole"  # if that attack came before
        reports.append(
            mutations.attack(
                writer,
                folder / writer,
                mutations=60 if options.full else 2,
                seed=options.seed,
                finished=whole if whole.exists() else None,
            )
        )
        tqdm.write(f"{writer}: {reports[-1]}")
    print(f"{sum(report.mutations for report in reports)} mutations in all")
    return any(report.silent or report.tracebacks for report in reports)


def _inputs(options: argparse.Namespace, folder: Path) -> bool:
    import bad_inputs

    report = bad_inputs.attack(folder, inputs=500 if options.full else 24, seed=options.seed)
    print(report)
    print("accepted and run, to be looked at:", *report.accepted, sep="\n  ")
    return bool(report.tracebacks or report.hangs)


def _soak(options: argparse.Namespace, folder: Path) -> bool:
    import soak

    steps, epoch, fits = (1_000_000, 1000, 500) if options.full else (800, 100, 4)
    grown = {
        f"steps, compile={mode}": soak.growth(
            soak.steps(
                steps,
                compile=mode,
                epoch=epoch,
                every=max(1, steps // (10 * epoch)),
                say=tqdm.write,
            )
        )
        for mode in ("on", "off")
    }
    grown["compiled fits"] = soak.growth(soak.fits(fits, every=max(1, fits // 10), say=tqdm.write))
    for name, mib in grown.items():
        print(f"{name}: {mib:+.1f} MiB in the second half beyond the first")
    return any(mib > 20 for mib in grown.values())


ATTACKS = {"kills": _kills, "mutations": _mutations, "inputs": _inputs, "soak": _soak}

if __name__ == "__main__":
    sys.exit(main())
