"""The policies of the AWS IoT developer guide of 2016, "Example Policies", as it prints them, scanning
errors mended: each with what a client may and may not do by it."""

ARN = "arn:aws:iot:us-east-1:123456789012:"
ANYONE = {"Effect": "Allow", "Action": ["iot:Connect"], "Resource": ["*"]}


def document(*statements):
    return {"Version": "2012-10-17", "Statement": list(statements)}


def statement(effect, actions, *resources):
    whole = [r if r == "*" else ARN + r for r in resources]
    return {"Effect": effect, "Action": actions, "Resource": whole}


def case(name, policy, connect=(), publish=(), subscribe=(), receive=()):
    """Each of the four is a list of (name, whether it is allowed)."""
    return (name, policy, dict(connect), dict(publish), dict(subscribe), dict(receive))


CASES = [
    case(
        "overview: publish to one topic",
        document(statement("Allow", ["iot:Publish"], "topic/foo/bar"), ANYONE),
        connect=[("anyone", True)],
        publish=[("foo/bar", True), ("foo", False), ("foo/bar/x", False)],
        subscribe=[("foo/bar", False)],
    ),
    case(
        "one client id",
        document(statement("Allow", ["iot:Connect"], "client/clientid1")),
        connect=[("clientid1", True), ("clientid11", False), ("+", False), ("*", False)],
    ),
    case(
        "a set of client ids",
        document(
            statement(
                "Allow", ["iot:Connect"], "client/clientid1", "client/clientid2", "client/clientid3"
            ),
            statement("Allow", ["iot:Publish", "iot:Subscribe", "iot:Receive"], "*"),
        ),
        connect=[("clientid1", True), ("clientid3", True), ("clientid4", False)],
        publish=[("any/topic", True)],
        subscribe=[("any/#", True)],
        receive=[("any/topic", True)],
    ),
    case(
        "all client ids but some",
        document(
            statement("Deny", ["iot:Connect"], "client/clientid1", "client/clientid2"), ANYONE
        ),
        connect=[("clientid1", False), ("clientid2", False), ("clientid3", True)],
        publish=[("foo", False)],
    ),
    case(
        "subscribe to foo/*",
        document(ANYONE, statement("Allow", ["iot:Subscribe"], "topicfilter/foo/*")),
        subscribe=[("foo/bar", True), ("foo/#", True), ("foo", False), ("#", False)],
        publish=[("foo/bar", False)],
        receive=[("foo/bar", False)],
    ),
    case(
        "everything",
        document(statement("Allow", ["iot:*"], "*")),
        connect=[("anyone", True)],
        publish=[("any/topic", True)],
        subscribe=[("#", True)],
        receive=[("any/topic", True)],
    ),
    case(
        "publish to all topics",
        document(statement("Allow", ["iot:Publish", "iot:Connect"], "*")),
        publish=[("any/topic", True)],
        subscribe=[("any/topic", False)],
    ),
    case(
        "publish to two topics",
        document(ANYONE, statement("Allow", ["iot:Publish"], "topic/foo/bar", "topic/foo/baz")),
        publish=[("foo/bar", True), ("foo/baz", True), ("foo/bat", False)],
    ),
    case(
        "not publish to one topic",
        document(ANYONE, statement("Deny", ["iot:Publish"], "topic/foo/bar")),
        publish=[("foo/bar", False), ("foo/baz", False)],
    ),
    case(
        "subscribe to foo/+/bar as it is written",
        document(ANYONE, statement("Allow", ["iot:Subscribe"], "topicfilter/foo/+/bar")),
        subscribe=[("foo/+/bar", True), ("foo/x/bar", False), ("foo/#", False)],
    ),
    case(
        "publish to foo and subscribe to foo/bar/*",
        document(
            ANYONE,
            statement("Allow", ["iot:Publish"], "topic/foo"),
            statement("Allow", ["iot:Subscribe"], "topicfilter/foo/bar/*"),
        ),
        publish=[("foo", True), ("foo/bar", False)],
        subscribe=[("foo/bar/x", True), ("foo/bar/+/y", True), ("foo/bar", False)],
    ),
    case(
        "publish to foo and not to bar",
        document(
            ANYONE,
            statement("Allow", ["iot:Publish"], "topic/foo"),
            statement("Deny", ["iot:Publish"], "topic/bar"),
        ),
        publish=[("foo", True), ("bar", False)],
    ),
    case(
        "subscribe to one filter",
        document(ANYONE, statement("Allow", ["iot:Subscribe"], "topicfilter/foo/bar")),
        subscribe=[("foo/bar", True), ("foo/+", False), ("foo/bar/x", False)],
    ),
    case(
        "one provisioning topic",
        document(
            ANYONE,
            statement(
                "Allow",
                ["iot:Publish", "iot:Receive"],
                "topic/iotmonitor/provisioning/8050373158915119971",
            ),
            statement(
                "Allow",
                ["iot:Subscribe"],
                "topicfilter/iotmonitor/provisioning/8050373158915119971",
            ),
        ),
        publish=[("iotmonitor/provisioning/8050373158915119971", True), ("iotmonitor", False)],
        subscribe=[
            ("iotmonitor/provisioning/8050373158915119971", True),
            ("iotmonitor/provisioning/+", False),
        ],
        receive=[("iotmonitor/provisioning/8050373158915119971", True)],
    ),
    case(
        "identities without authentication, each action by its name",
        document(
            statement(
                "Allow",
                [
                    "iot:Connect",
                    "iot:Publish",
                    "iot:Subscribe",
                    "iot:Receive",
                    "iot:GetThingShadow",
                    "iot:UpdateThingShadow",
                    "iot:DeleteThingShadow",
                ],
                "*",
            )
        ),
        connect=[("anyone", True)],
        publish=[("any/topic", True)],
        subscribe=[("any/#", True)],
        receive=[("any/topic", True)],
    ),
    case(
        "publish over HTTP to any topic",
        document(statement("Allow", ["iot:Publish"], "*")),
        connect=[("anyone", False)],
    ),
    case(
        "publish over HTTP to topic1",
        document(statement("Allow", ["iot:Publish"], "topic/topic1")),
        connect=[("anyone", False)],
    ),
    case(
        "client id and a topic of its own",
        document(
            statement("Allow", ["iot:Connect"], "client/${iot:ClientId}"),
            statement("Allow", ["iot:Publish"], "topic/foo/bar/${iot:ClientId}"),
        ),
        connect=[("anyone", True)],
        publish=[("foo/bar/client", True), ("foo/bar/other", False)],
    ),
]

# Over HTTP there is no client id, and nobody connects.
HTTP_CASES = [
    ("any topic", document(statement("Allow", ["iot:Publish"], "*")), {"topic1": 200, "a/b": 200}),
    (
        "topic1",
        document(statement("Allow", ["iot:Publish"], "topic/topic1")),
        {"topic1": 200, "topic2": 403},
    ),
    (
        "topic1 and topic2",
        document(statement("Allow", ["iot:Publish"], "topic/topic1", "topic/topic2")),
        {"topic1": 200, "topic2": 200, "topic3": 403},
    ),
]
