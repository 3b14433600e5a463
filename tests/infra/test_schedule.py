"""Each deployment runs at its own second, within its period, for ever the same."""

import re

import pytest

import bicep
import on_paper
from conftest import MAIN, deploy, settings

PERIODS = [a[0] for d in bicep.parse(MAIN) if d.name == "runEveryMinutes" for n, a in d.decorators if n == "allowed"][0]
MINUTES = [item[1] for item in PERIODS[1]]


def schedule(scope: str, monkeypatch, **parameters) -> str:
    monkeypatch.setitem(on_paper.FUNCTIONS, "uniqueString", lambda *_: scope)
    return settings(deploy(**parameters))["FunctionConfigTimerSchedule"]


def fires(cron: str) -> list[int]:
    """Minutes of the hour at which a schedule fires."""
    start, step = re.fullmatch(r"\d+ (\d+)-59/(\d+) \* \* \* \*", cron).groups()
    return list(range(int(start), 60, int(step)))


@pytest.mark.parametrize("period", MINUTES)
@pytest.mark.parametrize("scope", ["aaaaaaaaaaaaa", "7777777777777", "vbbttfm4gnjrk", "z2z2z2z2z2z2z"])
def test_second_and_minute_lie_within_the_period(scope, period, monkeypatch):
    cron = schedule(scope, monkeypatch, runEveryMinutes=period)
    second, minute = int(cron.split()[0]), int(cron.split()[1].split("-")[0])
    assert 0 <= second < 60 and 0 <= minute < period
    times = fires(cron)
    assert len(times) == 60 // period
    assert all(later - earlier == period for earlier, later in zip(times, times[1:]))


def test_the_offset_is_that_of_three_letters_of_the_hash(monkeypatch):
    # b c d -> 1*1024 + 2*32 + 3 = 1091; 1091 % 60 = 11. e f g -> 4*1024 + 5*32 + 6 = 4262; 4262 % 5 = 2.
    assert schedule("bcdefgaaaaaaa", monkeypatch) == "11 2-59/5 * * * *"
    # 7 is worth 31: 32767 % 60 = 7, 32767 % 5 = 2.
    assert schedule("7777777777777", monkeypatch) == "7 2-59/5 * * * *"


def test_two_hundred_trusts_do_not_call_together(monkeypatch):
    seen: dict[str, int] = {}
    for trust in range(200):
        cron = schedule(on_paper.unique_string(str(trust)), monkeypatch)
        seen[cron] = seen.get(cron, 0) + 1
    # 300 slots of a second in five minutes; at second 0 the predecessor had all 200.
    assert max(seen.values()) <= 6 and len(seen) > 120


def test_a_redeploy_keeps_the_offset():
    assert deploy().outputs["timerSchedule"] == deploy().outputs["timerSchedule"]


def test_every_period_divides_the_hour():
    assert all(60 % period == 0 for period in MINUTES)
