"""A user's mistake is one sentence and status 2; a bug keeps its traceback."""

import pytest

from datasets.errors import UserError, run_command


def raising(error):
    def main():
        raise error

    return main


def test_a_user_error_is_one_sentence_and_status_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_command(raising(UserError("data.h5 is empty; collect some data")))
    assert stopped.value.code == 2
    assert capsys.readouterr() == ("", "error: data.h5 is empty; collect some data\n")


def test_an_interrupt_is_status_130_without_traceback(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_command(raising(KeyboardInterrupt()))
    assert stopped.value.code == 130
    assert stopped.value.__suppress_context__
    assert capsys.readouterr().err == "interrupted\n"


def test_a_bug_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def test_success_returns():
    calls = []
    run_command(lambda: calls.append(1))
    assert calls == [1]
