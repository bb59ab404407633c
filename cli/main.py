"""The entry point: names the commands and the modules they live in."""

import importlib
import sys

import click

from cli import console

COMMANDS = {
    "audit": "cli.audit",
    "catalog": "cli.catalog",
    "clients": "cli.clients",
    "deploy": "cli.deployment",
    "keys": "cli.keys",
    "local": "cli.local",
    "orders": "cli.orders",
    "package": "cli.packaging",
    "providers": "cli.providers",
    "tenants": "cli.tenants",
    "wallet": "cli.wallet",
}
"""Each command is `NAME_command` in its module, which is imported only when it is needed."""


class LazyGroup(console.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(COMMANDS[cmd_name]), f"{cmd_name}_command")
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def panelgate() -> None:
    """Operate a gateway in front of SMM panels."""


def main() -> None:
    """Run the command line of this process."""
    sys.exit(console.run(panelgate, sys.argv[1:]))
