# SPDX-License-Identifier: Apache-2.0
"""The words that policy and responder share without knowing each other."""

from tests.protocol.pxe.test_responder import AT_67, POLICY
from tests.protocol.pxe.test_rules import captured

from dpd.protocol.pxe.exchange import Grant, Outcome, Policy, Question, Reply, everywhere
from dpd.protocol.pxe.responder import answer, examine
from dpd.site.decision import Outcome as DecisionOutcome


def test_the_responders_outcomes_are_those_of_the_decision() -> None:
    assert {outcome.name: outcome.value for outcome in Outcome} == {each.name: each.value for each in DecisionOutcome}


def test_a_question_knows_its_step() -> None:
    question = examine(captured("edk2-x64-discover"), AT_67, POLICY)
    assert isinstance(question, Question)
    assert question.is_discover
    assert question.server == AT_67.server


def test_without_settings_no_network_differs_and_no_loader_is_refused() -> None:
    policy = Policy(rules=())
    assert policy.place_of("10.0.0.1") == everywhere("")
    assert policy.refusal_of("ipxe.efi") == ""


def test_a_reply_to_everyone_is_a_broadcast() -> None:
    question = examine(captured("edk2-x64-discover"), AT_67, POLICY)
    assert isinstance(question, Question)
    reply = answer(question, Grant(), POLICY)
    assert isinstance(reply, Reply)
    assert reply.is_broadcast
