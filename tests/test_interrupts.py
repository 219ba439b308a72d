"""Ctrl-C, SIGTERM and SIGHUP end a command in one way, from its first import to its last table."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launch import alive, command, heeding, running, wait_until

from qtablate import interrupts
from qtablate.cli import main as cli
from qtablate.interrupts import SAVE, SIGNALS, Stopped

START = "import os, signal, sys, time\nfrom qtablate import interrupts\n"
KILL = "os.kill(os.getpid(), int(sys.argv[1]))\n"


def said(script: str, *words: str, ignored: tuple[signal.Signals, ...] = ()) -> tuple[int, str]:
    """Exit code and output of a script."""
    with running([sys.executable, "-W", "error", "-c", START + script, *words], ignored=ignored) as process:
        out, _ = process.communicate(timeout=60)
    return process.returncode, out


@pytest.mark.parametrize("signum", SIGNALS)
def test_while_the_program_is_imported_a_signal_says_stopped(signum):
    assert said(f"interrupts.leave_at_once()\n{KILL}", str(int(signum))) == (128 + signum, "Stopped.\n")


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_command_says_stopped_and_exits_as_the_signal_has_it(monkeypatch, capsys, signum):
    monkeypatch.setattr(cli, "app", lambda **_: signal.raise_signal(signum))
    before = signal.getsignal(signum)
    monkeypatch.setattr(interrupts, "_handle", lambda handler: signal.signal(signum, handler))
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 128 + signum
    assert capsys.readouterr() == ("", "Stopped.\n")
    assert signal.getsignal(signum) == before


@pytest.mark.parametrize("signum", SIGNALS)
def test_what_the_caller_ignores_stays_ignored(signum):
    """Under nohup that is SIGHUP, in a script's background job SIGINT."""
    script = f"interrupts.leave_at_once()\n{KILL}with interrupts.raised():\n    {KILL}interrupts.ignore()\nprint('on')\n"
    assert said(script, str(int(signum)), ignored=(signum,)) == (0, "on\n")
    assert said(script, str(int(signum)))[0] == 128 + signum


def test_in_the_middle_of_an_import_it_waits_for_its_end(tmp_path):
    swallows = (
        f"import os, sys, time\ntry:\n    {KILL}    time.sleep(0.1)\nexcept BaseException: pass\n"
        "print('imported', flush=True)\n"
    )
    (tmp_path / "swallows.py").write_text(swallows)
    script = (
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "try:\n    with interrupts.raised():\n        import swallows\n        time.sleep(60)\n"
        "except interrupts.Stopped as stop:\n    print(stop.code)\n"
    )
    assert said(script, str(int(signal.SIGTERM))) == (0, "imported\n143\n")


def test_a_command_that_ends_before_the_import_is_looked_at_again_is_stopped_too(tmp_path):
    (tmp_path / "killed.py").write_text(f"import os, sys\n{KILL}")
    script = (
        f"sys.path.insert(0, {str(tmp_path)!r})\ninterrupts._IMPORTING_AGAIN = 60\n"
        "try:\n    with interrupts.raised():\n        import killed\n        sys.exit(2)\n"
        "except interrupts.Stopped as stop:\n    print(stop.code)\n"
    )
    assert said(script, str(int(signal.SIGHUP))) == (0, "129\n")


SECOND = """
interrupts._TWICE = float(sys.argv[2])
try:
    with interrupts.raised():
        try:
            os.kill(os.getpid(), int(sys.argv[1]))
        finally:
            print("keeps", flush=True)
            for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                os.kill(os.getpid(), signum)
            print("kept", flush=True)
except interrupts.Stopped as stop:
    print(stop.code)
"""


@pytest.mark.parametrize("signum", SIGNALS)
def test_while_it_stops_another_ctrl_c_ends_it_and_other_signals_do_not(signum):
    assert said(SECOND, str(int(signum)), "-1") == (130, "keeps\nStopped at once.\n")
    assert said(SECOND, str(int(signum)), "60") == (0, f"keeps\nkept\n{128 + signum}\n")  # some launchers send it twice


def test_a_lost_terminal_keeps_nothing_from_being_written(tmp_path):
    """Printing to it is an error. Short sleeps: a signal that comes right before a sleep is heard after it."""
    ours, theirs = pty.openpty()
    script = (
        f"try:\n    with interrupts.raised():\n        print('on', flush=True)\n        for _ in range(600): time.sleep(0.1)\n"
        f"except interrupts.Stopped as stop:\n    print('on', flush=True)\n    open({str(tmp_path / 'kept')!r}, 'w').close()\n"
    )
    with heeding():
        process = subprocess.Popen(
            [sys.executable, "-c", START + script], stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
    os.close(theirs)
    assert os.read(ours, 2) == b"on"
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0
    assert (tmp_path / "kept").exists()


def test_signals_are_held_back_for_what_is_started_within():
    script = (
        "import signal, sys\nheld = {str(int(one)) for one in signal.pthread_sigmask(signal.SIG_BLOCK, ())}\n"
        "sys.exit(held != set(sys.argv[1:]))"
    )
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with interrupts.blocked():
        everything = subprocess.run([sys.executable, "-c", script, *(str(int(one)) for one in (*SIGNALS, SAVE))], check=False)
    with interrupts.blocked(signal.SIGHUP):
        one = subprocess.run([sys.executable, "-c", script, str(int(signal.SIGHUP))], check=False)
    assert (everything.returncode, one.returncode) == (0, 0)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_stopped_is_no_interrupt_that_a_command_line_library_would_take_for_its_own():
    assert not issubclass(Stopped, Exception | KeyboardInterrupt)
    assert (Stopped(signal.SIGHUP).code, str(Stopped(signal.SIGHUP))) == (129, "SIGHUP")


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_command_that_is_still_being_imported_leaves_no_traceback(signum, tmp_path):
    """`report` of a folder that is none: it imports pandas and matplotlib first."""
    with running(command("report", str(tmp_path))) as process:
        maps = Path(f"/proc/{process.pid}/maps")
        assert wait_until(lambda: "_multiarray_umath" in maps.read_text(), 60, 0.001)
        process.send_signal(signum)
        out, _ = process.communicate(timeout=60)
        assert wait_until(lambda: not alive(process.pid), 5)
    assert process.returncode == 128 + signum, out
    assert out.splitlines()[-1] == "Stopped."  # it may have found out before that the folder is none
    assert "Traceback" not in out
