"""`python -m pcdistill.cli`, the same as the command `pcdistill`."""

from pcdistill.cli.app import main

if __name__ == "__main__":
    main()
