"""Random networks, command lines and damage: few examples in `make test`, thousands in `make nightly`."""
