"""Groups of commands that import a command only when it is asked for."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose commands are named by their places.

    Args:
        places: name of a command -> `module:name` of it, imported when the command is asked for. So coding a picture
            imports nothing of training, and a folder can bring a command to a group of a folder that it imports.
        arguments: of :class:`click.Group`.
    """

    def __init__(self, *arguments: Any, places: dict[str, str], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.places})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.places:
            return super().get_command(ctx, cmd_name)
        command: click.Command = resolve_name(self.places[cmd_name])
        return command
