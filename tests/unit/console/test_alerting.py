"""Which alerts are told, how often, and what the terminal is sent."""

from __future__ import annotations

from msgspec.structs import replace

from console.alerting import AlertSettings, Desktop, From, Limit, Notice, Policy, sounds
from engine.snapshot import Alert, Severity

ALERT = Alert(id="heat", severity=Severity.CRITICAL, text="heat over its block", since=1_577_973_127_000)
NOTICE = Notice(id="heat", severity=Severity.CRITICAL, text="heat over its block", since=1_577_973_127_000)


def test_one_message_for_an_alert_and_severity_and_again_while_nobody_acknowledges() -> None:
    policy = Policy(300)
    assert [notice.id for notice in policy.due([ALERT], 0)] == ["heat"]
    assert policy.due([ALERT], 299) == []
    (again,) = policy.due([replace(ALERT, text="worse words")], 300)
    assert again.again
    assert again.line == "CRITICAL still, since 13:52:07 UTC: worse words"
    assert policy.due([replace(ALERT, acknowledged=True)], 900) == []


def test_another_severity_is_another_message() -> None:
    policy = Policy(300)
    policy.due([replace(ALERT, severity=Severity.WARNING)], 0)
    assert len(policy.due([ALERT], 1)) == 1


def test_an_alert_that_comes_and_goes_is_not_told_each_time() -> None:
    policy = Policy(300)
    policy.due([ALERT], 0)
    for second in range(1, 299, 2):
        policy.due([], second)
        assert policy.due([ALERT], second + 1) == []
    policy.due([], 400)
    (back,) = policy.due([ALERT], 401)
    assert not back.again


def test_what_stood_is_told_to_be_over_once_it_is_gone_for_a_minute_and_anew_if_it_comes_back() -> None:
    policy, standing = Policy(300), replace(ALERT, lasting=True)
    policy.due([standing], 0)
    assert policy.due([], 10) == []
    assert policy.due([standing], 30) == [], "it came back before anybody was told otherwise"
    assert policy.due([], 40) == policy.due([], 99) == []
    (over,) = policy.due([], 100)
    assert (over.over, over.line) == (True, "over: CRITICAL since 13:52:07 UTC: heat over its block")
    assert policy.due([], 101) == []
    (again,) = policy.due([standing], 102)
    assert not again.over
    assert sounds(AlertSettings(), over, "t", in_tmux=False) == "", "nobody is woken for it"


def test_an_acknowledged_alert_or_one_of_another_severity_is_not_over_and_a_passing_one_never_is() -> None:
    policy, standing = Policy(300), replace(ALERT, lasting=True)
    policy.due([standing], 0)
    assert policy.due([replace(standing, acknowledged=True)], 200) == []
    (warning,) = policy.due([replace(standing, severity=Severity.WARNING)], 250)
    assert (warning.severity, warning.over) == (Severity.WARNING, False)
    passing = Policy(300)
    passing.due([ALERT], 0)
    assert [passing.due([], second) for second in (10, 200, 400)] == [[], [], []]


def test_a_storm_becomes_one_number() -> None:
    limit = Limit(From.WARNING, 3)
    storm = [replace(NOTICE, id=str(n), severity=Severity.WARNING, text=f"t{n}") for n in range(49)]
    out = limit.take([*storm, replace(NOTICE, text="the worst")], 0)
    assert [notice.text for notice in out] == ["t0", "t1", "48 more alerts; the worst: the worst"]
    assert out[-1].severity is Severity.CRITICAL
    assert limit.take([NOTICE], 30) == []
    assert [notice.text for notice in limit.take([], 60)] == [NOTICE.text]


def test_a_channel_hears_what_is_loud_enough_and_not_of_its_own_trouble() -> None:
    limit = Limit(From.CRITICAL, 6, own="notify:phone")
    quiet, own = replace(NOTICE, severity=Severity.WARNING), replace(NOTICE, id="notify:phone")
    assert limit.take([quiet, own, NOTICE], 0) == [NOTICE]
    assert Limit(From.NEVER, 6).take([NOTICE], 0) == []


def test_the_terminal_is_sent_what_was_asked_for_and_nothing_hostile() -> None:
    hostile = replace(NOTICE, text="a\x1b]52;c;x\x07b;c\n")
    everything = AlertSettings(desktop=From.WARNING)
    assert sounds(everything, hostile, "Sextant", in_tmux=False).count("\x1b") == 1
    assert sounds(AlertSettings(), NOTICE, "Sextant", in_tmux=True) == "\x07"
    assert sounds(AlertSettings(bell=From.NEVER), NOTICE, "Sextant", in_tmux=False) == ""
    assert sounds(AlertSettings(), replace(NOTICE, severity=Severity.WARNING), "S", in_tmux=False) == ""
    by_777 = AlertSettings(bell=From.NEVER, desktop=From.CRITICAL, desktop_code=Desktop.OSC777)
    assert sounds(by_777, hostile, "Sextant", in_tmux=False).count(";") == 3
    wrapped = sounds(by_777, NOTICE, "Sextant", in_tmux=True)
    assert wrapped == "\x1bPtmux;\x1b\x1b]777;notify;Sextant;CRITICAL heat over its block\x07\x1b\\"
