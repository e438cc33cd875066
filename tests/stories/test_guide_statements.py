"""The rules of the guide's tutorials and examples, word for word, with local actions where the
guide's are of the cloud; those themselves are refused with a sentence."""

import json

import pytest

from harness.clients import Client

BUTTON = {"serialNumber": "ABCDEFG12345", "batteryVoltage": "2000mV", "clickType": "SINGLE"}
READING = {
    "deviceid": "iot123",
    "temp": 54.98,
    "humidity": 32.43,
    "coords": {"latitude": 47.615694, "longitude": -122.3359976},
}
SENML = {
    "e": [
        {"n": "temperature", "u": "Cel", "t": 1234, "v": 22.5},
        {"n": "light", "u": "lm", "t": 1235, "v": 135},
        {"n": "acidity", "u": "pH", "t": 1235, "v": 7},
    ]
}
ROLE = "arn:aws:iam::123456789012:role/my-iot-role"

# Statement, topic, payload, output. In the guide's order.
STATEMENTS = {
    "button": ("SELECT * FROM 'iotbutton/ABCDEFG12345'", "iotbutton/ABCDEFG12345", BUTTON, BUTTON),
    "button-any": ("SELECT * FROM 'iotbutton/+'", "iotbutton/ABCDEFG12345", BUTTON, BUTTON),
    "iot-test": ("SELECT * FROM 'iot/test'", "iot/test", READING, READING),
    "nested-query": (
        "SELECT (SELECT v FROM e WHERE n = 'temperature') as temperature FROM 'my/topic'",
        "my/topic",
        SENML,
        {"temperature": [{"v": 22.5}]},
    ),
    "flattened": (
        "SELECT get((SELECT v FROM e WHERE n = 'temperature'),0).v as temperature FROM 'topic'",
        "topic",
        SENML,
        {"temperature": 22.5},
    ),
    "array": (
        "SELECT VALUE arr FROM 'topic'",
        "topic",
        {"a": {"b": "c"}, "arr": [1, 2, 3, 4]},
        [1, 2, 3, 4],
    ),
    "wrapped": ("SELECT * AS message FROM 'some/topic'", "some/topic", BUTTON, {"message": BUTTON}),
    "extension": (
        "SELECT state.temperature FROM 'mydevices/device1'",
        "mydevices/device1",
        {"state": {"temperature": 21}},
        {"temperature": 21},
    ),
    "mqtt-source": (
        "SELECT * FROM mqtt('com.example/sensors/+')",
        "com.example/sensors/1",
        READING,
        READING,
    ),
    "where": ("SELECT * FROM 'iot/thing/#' WHERE temp > 50", "iot/thing/1", READING, READING),
    "hashed": (
        "SELECT temp, md5(deviceid) AS hashed_id FROM 'topic/#'",
        "topic/x",
        READING,
        {"temp": 54.98, "hashed_id": "e37f81fb397e595c4aeb5645b8cbbbd1"},
    ),
    "substitution": (
        "SELECT *, topic() AS topic FROM 'my/iot/topic'",
        "my/iot/topic",
        READING,
        {**READING, "topic": "my/iot/topic"},
    ),
    "case": (
        "SELECT CASE location WHEN 'home' THEN 'off' WHEN 'work' THEN 'on' ELSE 'silent' END AS ringer"
        " FROM 'phone'",
        "phone",
        {"location": "work"},
        {"ringer": "on"},
    ),
}


def republished(sql, topic="out/${topic()}"):
    action = {"republish": {"topic": topic, "roleArn": ROLE, "qos": 1}}
    return {"sql": sql, "ruleDisabled": False, "awsIotSqlVersion": "2016-03-23-beta", "actions": [action]}


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_of_the_guide(daemon, name):
    sql, topic, payload, expected = STATEMENTS[name]
    gateway = daemon(rules={"guide": republished(sql)}).start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("out/#", 1)
    client.publish(topic, json.dumps(payload).encode())
    message = client.next()
    client.disconnect()
    assert message.topic == f"out/{topic}"
    assert json.loads(message.payload) == expected


def test_timestamps_are_milliseconds(daemon):
    sql = "SELECT *, timestamp() as timestamp FROM 'iot/test'"
    gateway = daemon(rules={"guide": republished(sql)}).start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("out/#", 1)
    client.publish("iot/test", json.dumps(READING).encode())
    out = json.loads(client.next().payload)
    client.disconnect()
    assert len(str(out.pop("timestamp"))) == 13 and out == READING


def test_trimming_shadow_messages(daemon):
    # The guide calls topic(2) the thing's name; counted from 1 it is the third level.
    rule = republished("SELECT state, version FROM '$aws/things/+/shadow/update/delta'", "${topic(3)}/delta")
    gateway = daemon(rules={"trim": rule}).start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("lamp/delta", 1)
    gateway.ctl_ok("shadow", "update", "lamp", '{"state": {"desired": {"color": "red"}}}')
    message = client.next()
    client.disconnect()
    assert message.topic == "lamp/delta"
    assert json.loads(message.payload) == {"state": {"color": "red"}, "version": 1}


def test_a_function_of_the_cloud_runs_the_error_action(daemon):
    sql = (
        "SELECT * FROM 'iot/test' where machinelearning_predict('my-model',"
        " 'arn:aws:iam::123456789012:role/my-iot-aml-role', *).predictedLabel=1"
    )
    error = {"errorAction": {"republish": {"topic": "errors", "roleArn": ROLE, "qos": 1}}}
    gateway = daemon(rules={"predict": {**republished(sql), **error}}).start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("errors", 1)
    client.publish("iot/test", b"{}")
    document = json.loads(client.next().payload)
    client.disconnect()
    assert document["ruleName"] == "predict"
    [failure] = document["failures"]
    assert "machinelearning_predict() asks Amazon Machine Learning" in failure["errorMessage"]


def test_a_variable_is_the_same_in_the_output_and_in_the_topic(daemon):
    sql = "SET @id = newuuid() SELECT @id AS id, temp FROM 'in'"
    gateway = daemon(rules={"set": republished(sql, "out/${@id}")}).start()
    client = Client("c", gateway.ports["mqtt"]).connect()
    client.subscribe("out/#", 1)
    client.publish("in", json.dumps(READING).encode())
    message = client.next()
    client.disconnect()
    assert message.topic == "out/" + json.loads(message.payload)["id"]
