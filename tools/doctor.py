"""Says whether this machine and its packages are fit for training, and what to do where they are not.

    python tools/doctor.py

Looks at package versions, the decoders (on clips that it writes), processors, memory, GPUs, folders, and gradients in
the number format that training would choose. Exit code 0, or 1 if something is bad. Takes under half a minute.
"""

import argparse

from videores.runtime import cli


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    from videores.diagnostics import doctor  # here, so that --help needs nothing heavy

    return doctor.run_checks()


if __name__ == "__main__":
    cli.run(main)
