"""Alarms on what AWS runs for us: our own telemetry watches the rest.

They go to one topic, whose mail reaches a person also where the cluster, and all that it watches with, is away.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws

from infra.aws.policies import Statement, document
from infra.component import Component
from infra.settings import Stack

_PERIOD_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """`metric` of a namespace (`AWS/RDS`) is beyond its threshold for so many minutes: above it, or below.

    `why`: what it means, for who reads the mail. `statistic`: Average, Maximum, Minimum or Sum of each minute.
    `silent_is_bad`: no value at all is an alarm, too.
    """

    name: str
    namespace: str
    metric: str
    dimensions: Mapping[str, pulumi.Input[str]]
    threshold: float
    minutes: int
    why: str
    statistic: str = "Average"
    below: bool = False
    silent_is_bad: bool = False


class Topic(Component):
    """`arn` of the topic that alarms tell, and who hears of it by mail (AWS asks them to confirm once)."""

    def __init__(
        self, stack: Stack, account: str, email: str, key: pulumi.Input[str], opts: pulumi.ResourceOptions
    ) -> None:
        super().__init__("aws:Topic", stack, part="alarms", opts=opts)
        # The edge's is in the region of a cell.
        name = self.named("alarms" if stack.region else "edge-alarms")
        topic = aws.sns.Topic("alarms", name=name, kms_master_key_id=key, tags=self.tagged("alarms"), opts=self.child())
        may = Statement(
            actions=["sns:Publish"],
            resources=[topic.arn],
            principals={"Service": ["cloudwatch.amazonaws.com"]},
            conditions={"StringEquals": {"aws:SourceAccount": account}},
        )
        aws.sns.TopicPolicy("alarms", arn=topic.arn, policy=document(may), opts=self.child())
        aws.sns.TopicSubscription("alarms", topic=topic.arn, protocol="email", endpoint=email, opts=self.child())
        self.arn = topic.arn
        self.register_outputs({"arn": topic.arn})


def watch(of: Component, alarm: Alarm, topic: pulumi.Input[str]) -> None:
    """Makes the alarm as a part of what it is about; its end is told, too."""
    aws.cloudwatch.MetricAlarm(
        alarm.name,
        name=of.named(alarm.name),
        alarm_description=alarm.why,
        namespace=alarm.namespace,
        metric_name=alarm.metric,
        dimensions=alarm.dimensions,
        statistic=alarm.statistic,
        comparison_operator="LessThanThreshold" if alarm.below else "GreaterThanThreshold",
        threshold=alarm.threshold,
        period=_PERIOD_S,
        evaluation_periods=alarm.minutes,
        treat_missing_data="breaching" if alarm.silent_is_bad else "missing",
        alarm_actions=[topic],
        ok_actions=[topic],
        tags=of.tagged(alarm.name),
        opts=of.child(),
    )
