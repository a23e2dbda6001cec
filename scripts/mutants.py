#!/usr/bin/env python3
"""Puts small faults into a scratch copy of the library, one at a time, and sees whether a test notices.

    scripts/mutants.py [--check] [--sample N] [--seed S] [NAME ...]

Each fault is an edit in Tests/Mutants/*.toml: a file, the text before, the text after, and the tests that must fail
with it. The text before has to be in the file exactly once. Where it is not, the edit has to follow the code: that is an
error, and it is found before anything is built. `--check` does no more than that.
"""
import argparse, os, pathlib, random, re, shutil, signal, subprocess, sys, tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCRATCH = pathlib.Path(os.environ.get("MESSAGEPORTS_MUTANTS_SCRATCH", ROOT / ".build" / "mutants"))
SECONDS_FOR_TESTS = 240
# Such tests run alone otherwise.
os.environ["MESSAGEPORTS_FORK_TESTS"] = "1"


def load():
    mutants = []
    for path in sorted((ROOT / "Tests" / "Mutants").glob("*.toml")):
        for mutant in tomllib.loads(path.read_text())["mutant"]:
            mutants.append(mutant | {"list": path.name})
    names = [mutant["name"] for mutant in mutants]
    doubles = {name for name in names if names.count(name) > 1}
    if doubles:
        sys.exit(f"mutants with one name: {sorted(doubles)}")
    return mutants


def seed_of_commit():
    """Each commit has its own sample, and always the same: whoever sees it fail can see that again."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(commit.stdout[:8], 16) if commit.returncode == 0 else random.randrange(1_000_000)


def edited(mutant):
    """The file's text with the fault in; `None` if the edit does not apply."""
    path = ROOT / mutant["file"]
    text = path.read_text() if path.exists() else ""
    if text.count(mutant["before"]) != 1:
        count = text.count(mutant["before"]) if path.exists() else "no file, so 0"
        print(f"error: {mutant['list']}: '{mutant['name']}' does not apply to {mutant['file']}: {count} places, not 1")
        return None
    return text.replace(mutant["before"], mutant["after"])


def copy_sources():
    """Makes the scratch copy what the sources are; leaves what is the same alone, so that it need not be built again."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    wanted = {name for name in names if name and (ROOT / name).is_file()}
    for name in wanted:
        source, target = ROOT / name, SCRATCH / name
        if not target.exists() or source.read_bytes() != target.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for directory, folders, files in os.walk(SCRATCH):
        if pathlib.Path(directory) == SCRATCH:
            folders[:] = [folder for folder in folders if folder != ".build"]
        for path in (pathlib.Path(directory) / file for file in files):
            if str(path.relative_to(SCRATCH)) not in wanted | {"Package.resolved"}:
                path.unlink()


def build():
    return subprocess.run(
        ["swift", "build", "--build-tests", "-j", str(os.cpu_count())], cwd=SCRATCH, capture_output=True, text=True)


def run(filters):
    """Whether the tests passed, how many there were, and what was printed. Time-outs are failures."""
    command = ["swift", "test", "--skip-build"] + [word for name in filters for word in ("--filter", name)]
    process = subprocess.Popen(
        command, cwd=SCRATCH, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=SECONDS_FOR_TESTS)
    except subprocess.TimeoutExpired:
        end_group(process)
        process.communicate()
        return False, 1, "no end"
    # What a test with a fault in it leaves running would disturb those that come after.
    end_group(process)
    counts = [int(count) for count in re.findall(r"Test run with (\d+) test", output)]
    return process.returncode == 0, max(counts, default=0), output


def end_group(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def filters(mutant):
    return mutant["tests"] if isinstance(mutant["tests"], list) else [mutant["tests"]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true", help="only see whether all edits apply")
    parser.add_argument("--sample", type=int, help="as many as this, at random")
    parser.add_argument("--seed", type=int, default=seed_of_commit(), help="which sample; the commit decides by default")
    options = parser.parse_args()

    mutants = load()
    if not all([edited(mutant) is not None for mutant in mutants]):
        sys.exit(1)
    if options.check:
        return print(f"{len(mutants)} mutants apply")
    unknown = set(options.names) - {mutant["name"] for mutant in mutants}
    if unknown:
        sys.exit(f"error: no mutants named {sorted(unknown)}")
    if options.names:
        mutants = [mutant for mutant in mutants if mutant["name"] in options.names]
    if options.sample is not None:
        print(f"sample of {options.sample}, seed {options.seed}")
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))

    copy_sources()
    if (result := build()).returncode != 0:
        sys.exit(result.stdout + result.stderr + "error: the library does not build without a fault")
    # Without a fault, every test named passes, and there is one.
    for name in sorted({name for mutant in mutants for name in filters(mutant)}):
        passes, count, output = run([name])
        if not passes or count == 0:
            sys.exit(f"{output[-4000:]}\nerror: '{name}': {count} tests, and they have to pass without a fault")

    missed, broken = [], []
    for number, mutant in enumerate(mutants, 1):
        target = SCRATCH / mutant["file"]
        target.write_text(edited(mutant))
        if (result := build()).returncode != 0:
            broken.append(mutant["name"])
            verdict = "does not build:\n" + "\n".join(re.findall(r".*error: .*", result.stdout)[:5])
        elif run(filters(mutant))[0]:
            missed.append(mutant["name"])
            verdict = "NOT NOTICED"
        else:
            verdict = "noticed"
        shutil.copyfile(ROOT / mutant["file"], target)
        print(f"{number}/{len(mutants)} {mutant['name']}: {verdict}", flush=True)
    print(f"{len(mutants) - len(missed) - len(broken)} of {len(mutants)} noticed")
    if missed or broken:
        sys.exit(f"error: not noticed {missed}, not built {broken}")


if __name__ == "__main__":
    main()
