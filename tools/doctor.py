"""Check whether this machine is fit for training.

    python tools/doctor.py

Checks CPUs, memory, GPUs, folders, the decoders (on clips that it writes) and gradients in the dtype that training
would select; `pip check` checks the packages' versions. Exit code 0, or 1 if something is bad. Takes under half a
minute.
"""

from videores.runtime import cli


def main() -> int:
    parser = cli.make_parser(__doc__)
    parser.parse_args()
    from videores.diagnostics import doctor  # here, so that --help needs nothing heavy

    return doctor.run_checks()


if __name__ == "__main__":
    cli.run(main)
