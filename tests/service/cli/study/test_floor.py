"""The command that makes a floor."""

from typer.testing import CliRunner

from isogloss.service.cli.main import app


def test_a_floor_that_there_is_not_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["floor", "d", "--how", "sideways"]).exit_code == 2
