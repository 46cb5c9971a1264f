"""`python -m gifthorse` is `gifthorse`."""

from gifthorse.cli.main import run

if __name__ == "__main__":
    run()
