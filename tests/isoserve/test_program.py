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

from isoserve.cli import COMMANDS, cli, main

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
    assert [item.value for item in complete(["serve", "--device"], "c")] == ["cpu", "cuda"]
    assert [item.type for item in complete(["serve", "--repository"], "mod")] == ["file"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("serve --port x", "--port (ISOSERVE_PORT): Input should be a valid integer"),
        (
            "serve --device gpu",
            "Input should be 'cpu', 'cuda' or 'tensorrt', got 'gpu'",
        ),
        ("train photos --output run --epochs many", "--epochs is 'many': Input should be a valid"),
        ("train photos", "Missing option '--output' (see 'isoserve train --help')"),
        ("predict a.jpg --format csv --model m", "'csv' is not one of 'table', 'jsonl' (see"),
        ("predict a.jpg --colour", "No such option '--colour'"),
        ("predikt", "No such command 'predikt'"),
        (f"predict {300 * 'a'} --model m", f"File name too long: {300 * 'a'}"),
        ("inspect nowhere.onnx", "nowhere.onnx: the file cannot be read: No such file"),
    ],
)
def test_bad_usage_is_one_line_on_stderr_and_exit_code_2(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["isoserve", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out) == (2, "")
    (line,) = shown.err.splitlines()
    assert line.startswith("isoserve: ")
    assert said in line


@pytest.mark.parametrize("words", ["--help", "train --help", "--version"])
def test_what_was_asked_for_ends_with_0(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["isoserve", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert capsys.readouterr().out.startswith(("Usage: isoserve", "isoserve, version"))


def test_without_the_train_extra_its_commands_say_what_to_install() -> None:
    program = (
        "import sys; sys.modules['torch'] = sys.modules['matplotlib'] = None\n"
        "from click.testing import CliRunner; from isoserve.cli import cli\n"
        "for name in ('train', 'card', 'inspect'):\n"
        "    done = CliRunner().invoke(cli, [name, '--help'])\n"
        "    print(done.exit_code, 'isoserve[train]' in done.output)"
    )
    assert python(program).stdout.splitlines() == ["2 True", "2 True", "0 False"]
