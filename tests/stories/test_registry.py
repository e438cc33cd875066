"""The registry by command: the guide's own examples, and its limits."""

import json

import pytest


@pytest.fixture
def ctl(daemon):
    gateway = daemon().start()

    def run(line, ok=True):
        done = gateway.ctl(*line.split(), "--json")
        assert (done.returncode == 0) == ok, (line, done.stdout, done.stderr)
        return json.loads(done.stdout) if ok else done.stderr

    run.gateway = gateway
    return run


def names(things):
    return [thing["thingName"] for thing in things]


def test_things_are_created_listed_found_updated_and_deleted_as_in_the_guide(ctl):
    ctl("thing-type create LightBulb --description bulb --searchable wattage --searchable model")
    ctl("thing-type create StopLight")
    made = ctl("thing create MyLightBulb --attribute wattage=75 --attribute model=123")
    assert made["thingArn"] == "arn:aws:iot:local:000000000000:thing/MyLightBulb"
    assert (made["version"], made["defaultClientId"]) == (1, "MyLightBulb")
    ctl("thing create MyWallSwitch --attribute numOfStates=3")
    ctl("thing create MyRGBLight --type LightBulb --attribute wattage=75 --attribute model=123")
    ctl("thing create MySecondLightBulb --type LightBulb --attribute wattage=60")
    assert names(ctl("thing list --type LightBulb")) == ["MyRGBLight", "MySecondLightBulb"]
    assert names(ctl("thing list --attribute wattage=75")) == ["MyLightBulb", "MyRGBLight"]
    assert names(ctl("thing list --type LightBulb --attribute wattage=75")) == ["MyRGBLight"]
    assert len(ctl("thing list --attribute wattage")) == 3
    updated = ctl("thing update MyLightBulb --attribute wattage=150 --attribute model=456")
    assert (updated["version"], updated["attributes"]) == (2, {"model": "456", "wattage": "150"})
    updated = ctl("thing update MyLightBulb --type StopLight --expected-version 2 --remove model")
    assert (updated["thingTypeName"], updated["attributes"]) == ("StopLight", {"wattage": "150"})
    assert "has version 3, not 2" in ctl("thing update MyLightBulb --no-type --expected-version 2", ok=False)
    assert "thingTypeName" not in ctl("thing update MyLightBulb --no-type --replace")
    assert ctl("thing describe MyLightBulb")["attributes"] == {}
    ctl("thing delete MyLightBulb --expected-version 4")
    assert "no thing MyLightBulb" in ctl("thing describe MyLightBulb", ok=False)
    ctl.gateway.restart()
    assert names(ctl("thing list")) == ["MyRGBLight", "MySecondLightBulb", "MyWallSwitch"]


def test_a_certificate_is_attached_and_detached_by_id_or_arn(ctl):
    identity = ctl.gateway.cert("bulb")
    arn = f"arn:aws:iot:local:000000000000:cert/{identity.id}"
    ctl("thing create bulb")
    ctl(f"thing attach bulb {arn}")
    assert ctl("thing describe bulb")["principals"] == [identity.id]
    assert ctl(f"cert describe {identity.id}")["things"] == ["bulb"]
    assert "1 certificates attached" in ctl("thing delete bulb", ok=False)
    ctl(f"thing detach bulb {identity.id}")
    assert "is not attached" in ctl(f"thing detach bulb {arn}", ok=False)
    ctl("thing delete bulb")


def test_limits_are_those_of_the_guide(ctl):
    ctl("thing-type create T")
    many = " ".join(f"--attribute a{n}=x" for n in range(51))
    assert "without a type has at most 3" in ctl(
        "thing create t --attribute a=1 --attribute b=2 --attribute c=3 --attribute d=4", ok=False
    )
    assert "with a type has at most 50" in ctl(f"thing create t --type T {many}", ok=False)
    ctl("thing create t --type T " + many.rsplit(" ", 2)[0])
    assert "without a type has at most 3" in ctl("thing update t --no-type", ok=False)
    assert "no thing type Nothing" in ctl("thing create u --type Nothing", ok=False)
    assert "at most 3" in ctl(
        "thing-type create S --searchable a --searchable b --searchable c --searchable d", ok=False
    )


def test_a_type_is_deprecated_undone_and_deleted_five_minutes_later(ctl):
    ctl("thing-type create StopLight --description traffic --searchable model")
    ctl("thing create light --type StopLight")
    assert "is not deprecated" in ctl("thing-type delete StopLight", ok=False)
    deprecated = ctl("thing-type deprecate StopLight")["thingTypeMetadata"]
    assert deprecated["deprecated"] and deprecated["deprecationDate"] > 1_600_000_000_000
    assert "is deprecated" in ctl("thing create other --type StopLight", ok=False)
    assert "1 things have type" in ctl("thing-type delete StopLight", ok=False)
    ctl("thing delete light")
    assert "less than five minutes ago" in ctl("thing-type delete StopLight", ok=False)
    undone = ctl("thing-type undo StopLight")
    assert undone["thingTypeMetadata"]["deprecated"] is False
    assert "deprecationDate" not in undone["thingTypeMetadata"]
    assert undone["thingTypeProperties"] == {
        "thingTypeDescription": "traffic", "searchableAttributes": ["model"],
    }
    ctl("thing create other --type StopLight")
    assert [t["thingTypeName"] for t in ctl("thing-type list")] == ["StopLight"]
    assert ctl("thing-type create StopLight --description traffic --searchable model") == undone
    assert "never changes" in ctl("thing-type create StopLight", ok=False)
