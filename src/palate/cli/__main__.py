"""`python -m palate.cli`, which torchrun can start on every rank."""

from palate.cli.main import main

main()
