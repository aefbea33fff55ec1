"""The ``isoserve`` program: its list of commands, their help, completion and missing extras."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from isoserve.cli import COMMANDS, cli

ROOT = Path(__file__).parents[2]


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_the_summary_of_the_list(name: str) -> None:
    home, summary = COMMANDS[name]
    module, attribute = home.split(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command)
    assert " ".join((command.help or "").split("\n\n")[0].split()) == summary
    inner = command.commands if isinstance(command, click.Group) else {"": command}
    for inner_name, each in inner.items():
        words = [*name.split(), *inner_name.split()]
        shown = CliRunner().invoke(cli, [*words, "--help"])
        assert shown.exit_code == 0
        assert f"isoserve {' '.join(words)} " in shown.output.partition("Example")[2]
        undocumented = [
            parameter.name
            for parameter in each.params
            if isinstance(parameter, click.Option) and not parameter.help
        ]
        assert undocumented == []


def test_the_list_and_completion_load_neither_torch_nor_the_server() -> None:
    program = (
        "import sys; from click.testing import CliRunner;"
        "from click.shell_completion import BashComplete; from isoserve.cli import cli;"
        "print(CliRunner().invoke(cli, ['--help']).exit_code,"
        "len(BashComplete(cli, {}, 'isoserve', '_X').get_completions([], '')),"
        "'torch' in sys.modules, 'onnxruntime' in sys.modules, 'fastapi' in sys.modules)"
    )
    assert python(program).stdout.split() == ["0", str(len(COMMANDS)), "False", "False", "False"]


def test_completion_knows_commands_and_their_options() -> None:
    complete = BashComplete(cli, {}, "isoserve", "_ISOSERVE_COMPLETE").get_completions
    assert [item.value for item in complete([], "pre")] == ["predict"]
    assert "--format" in [item.value for item in complete(["predict"], "--")]
    assert [item.value for item in complete(["predict", "--format"], "j")] == ["jsonl"]


def test_without_the_train_extra_its_commands_say_what_to_install() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "from click.testing import CliRunner; from isoserve.cli import cli\n"
        "for name in ('train', 'card', 'inspect'):\n"
        "    done = CliRunner().invoke(cli, [name, '--help'])\n"
        "    print(done.exit_code, 'isoserve[train]' in done.output)"
    )
    assert python(program).stdout.splitlines() == ["2 True", "2 True", "0 False"]
