"""Tabs that show the page with the time-series component."""

from __future__ import annotations


def open_chart(context, address):
    tab = context.new_page()
    tab.set_default_timeout(20_000)
    tab.failures = []
    tab.on("pageerror", lambda error: tab.failures.append(str(error)))
    tab.goto(address)
    tab.locator("[data-drawn]").wait_for()
    wait_until_idle(tab)
    return tab


def wait_until_idle(tab):
    tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
