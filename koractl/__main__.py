"""`python -m koractl` is `kora`."""

from koractl.app import main

main()
