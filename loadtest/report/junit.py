"""The result as JUnit's XML: a suite for each scenario, a case for each threshold."""

import re
from datetime import UTC, datetime
from typing import Final
from xml.etree import ElementTree

from loadtest.report.words import facts, outcome
from loadtest.results import Compared, GateResult, Outcome, ScenarioResult

_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""XML 1.0 has no place for these, not even escaped: https://www.w3.org/TR/xml/#charsets."""


def junit(result: GateResult) -> bytes:
    root = ElementTree.Element("testsuites", name=f"load gate: {result.phase}")
    for scenario in result.scenarios:
        _scenario(root, result, scenario)
    if result.compared:
        _compared(root, result)
    _count(root)
    ElementTree.indent(root)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, encoding='unicode')}\n".encode()


def _scenario(root: ElementTree.Element, result: GateResult, scenario: ScenarioResult) -> None:
    suite = _suite(root, result, scenario.name, scenario.began, scenario.ended - scenario.began)
    for check in scenario.checks:
        case = _case(suite, check.name)
        if check.outcome is Outcome.FAILED:
            _said(case, "failure", check.why or outcome(check))
        elif check.outcome is Outcome.NOT_JUDGED:
            _said(case, "skipped", check.why)


def _compared(root: ElementTree.Element, result: GateResult) -> None:
    suite = _suite(root, result, "comparison", result.began, result.ended - result.began)
    for each in result.compared:
        case = _case(suite, each.figure)
        if each.worse:
            _said(case, "failure", worse(each))


def worse(each: Compared) -> str:
    return f"{each.ratio:.2f} times the baseline, and up to {1 + each.tolerance:.2f} may be noise"


def _suite(root: ElementTree.Element, result: GateResult, name: str, began: float, took: float) -> ElementTree.Element:
    when = datetime.fromtimestamp(began, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ElementTree.SubElement(
        root, "testsuite", name=f"{result.phase}: {name}", timestamp=when, time=f"{took:.3f}", errors="0"
    )
    properties = ElementTree.SubElement(suite, "properties")
    for key, value in facts(result):
        ElementTree.SubElement(properties, "property", name=_clean(key), value=_clean(value))
    return suite


def _case(suite: ElementTree.Element, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=suite.attrib["name"], name=_clean(name), time="0")


def _said(case: ElementTree.Element, what: str, message: str) -> None:
    ElementTree.SubElement(case, what, message=_clean(message)).text = _clean(message)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)


def _count(root: ElementTree.Element) -> None:
    """How many of each there are, on every suite and on the whole."""
    for element in (*root, root):
        for name, path in (("tests", ".//testcase"), ("failures", ".//failure"), ("skipped", ".//skipped")):
            element.set(name, str(len(element.findall(path))))
