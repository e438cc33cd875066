//! What is known of well-known upstreams.

use crate::{Config, ConfigError, Direction, Version};

/// What is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Any broker.
    #[default]
    Generic,
    /// AWS IoT Core, with its quotas for one connection.
    AwsIotCore,
    /// Eclipse mosquitto.
    Mosquitto,
    /// EMQX.
    Emqx,
    /// NATS with MQTT.
    Nats,
    /// RabbitMQ with its MQTT plugin.
    RabbitMq,
}

/// Names of the kinds, as the configuration has them.
pub const KINDS: &[(&str, Kind)] = &[
    ("generic", Kind::Generic),
    ("aws-iot-core", Kind::AwsIotCore),
    ("mosquitto", Kind::Mosquitto),
    ("emqx", Kind::Emqx),
    ("nats", Kind::Nats),
    ("rabbitmq", Kind::RabbitMq),
];

/// Subscriptions of one connection to AWS IoT Core.
const AWS_SUBSCRIPTIONS: usize = 50;
/// ALPN on port 443 for clients with a certificate, and for custom authorizers.
const AWS_ALPN: (&str, &str) = ("x-amzn-mqtt-ca", "mqtt");

/// Longest topic there, in bytes, and the most slashes in it; longest client id; longest keep-alive.
const AWS_TOPIC: usize = 256;
const AWS_SLASHES: usize = 7;
const AWS_CLIENT_ID: usize = 128;
const AWS_KEEP_ALIVE: u16 = 1200;

/// What counts of a topic or filter of AWS IoT Core: not the three segments that Basic Ingest has in
/// front (`$aws/rules/NAME/`), nor those of a shared subscription.
fn aws_counted(topic: &str) -> &str {
    let segments = match topic.split('/').collect::<Vec<_>>().as_slice() {
        [aws, "rules", _, _, ..] if aws.eq_ignore_ascii_case("$aws") => 3,
        ["$share", _, _, ..] => 2,
        _ => 0,
    };
    topic.splitn(segments + 1, '/').last().unwrap_or(topic)
}

/// Whether AWS IoT Core takes a topic or filter (AWS IoT Core's quotas, message broker; reserved
/// topics): at most 256 bytes and seven slashes, and of those that begin with `$` its own alone. It
/// ends the connection on others.
fn aws_takes(topic: &str) -> Result<(), String> {
    let counted = aws_counted(topic);
    let (bytes, slashes) = (counted.len(), counted.matches('/').count());
    if bytes > AWS_TOPIC {
        return Err(format!(
            "it has {bytes} bytes, AWS IoT Core takes {AWS_TOPIC}"
        ));
    }
    if slashes > AWS_SLASHES {
        return Err(format!(
            "it has {slashes} slashes, AWS IoT Core takes {AWS_SLASHES}"
        ));
    }
    let first = counted.split('/').next().unwrap_or_default();
    if first.starts_with('$') && !first.eq_ignore_ascii_case("$aws") {
        return Err("of topics that begin with $ AWS IoT Core takes $aws/ alone".into());
    }
    Ok(())
}

impl Config {
    /// Whether the upstream takes messages on a topic; otherwise why not.
    pub(crate) fn takes_topic(&self, topic: &str) -> Result<(), String> {
        match self.kind {
            Kind::AwsIotCore => aws_takes(topic),
            _ => Ok(()),
        }
    }

    /// Takes the limits of its kind for those that nothing is said about. Sources: AWS IoT Core's
    /// message broker quotas; the defaults of mosquitto.conf, EMQX's `mqtt` zone, nats-server's
    /// `max_payload` and `max_ack_pending`, and rabbitmq_mqtt's prefetch.
    pub fn preset(&mut self, kind: Kind) {
        self.kind = kind;
        match kind {
            Kind::Generic => {}
            Kind::AwsIotCore => {
                self.max_rate = Some(100);
                self.max_byte_rate = Some(512 * 1024);
                self.max_payload_bytes = Some(128 * 1024);
                self.max_in_flight = 100;
            }
            Kind::Mosquitto => self.max_in_flight = 20,
            Kind::Emqx => {
                self.max_in_flight = 32;
                self.max_payload_bytes = Some(1024 * 1024);
            }
            Kind::Nats => {
                self.max_in_flight = 100;
                self.max_payload_bytes = Some(1024 * 1024);
            }
            Kind::RabbitMq => self.max_in_flight = 10,
        }
    }

    /// ALPN that goes without saying: AWS IoT Core needs it on port 443.
    pub(crate) fn default_alpn(&self, port: u16) -> Option<&'static str> {
        if self.kind != Kind::AwsIotCore || port != 443 {
            return None;
        }
        Some(match self.certificate {
            Some(_) => AWS_ALPN.0,
            None => AWS_ALPN.1,
        })
    }

    /// What its kind does not do.
    pub(crate) fn check_kind(&self, tls: bool) -> Result<(), ConfigError> {
        let value = |key, reason| Err(ConfigError::Value { key, reason });
        match self.kind {
            Kind::AwsIotCore => {
                if !tls {
                    return value("url", "AWS IoT Core speaks mqtts:// and wss:// only");
                }
                if self.certificate.is_none() && self.username.is_none() {
                    return value(
                        "certificate",
                        "AWS IoT Core wants a certificate, or a username for a custom authorizer",
                    );
                }
                let inbound = self.routes.iter().filter(|r| r.direction == Direction::In);
                if inbound.count() > AWS_SUBSCRIPTIONS {
                    return value(
                        "route",
                        "AWS IoT Core takes 50 subscriptions of a connection",
                    );
                }
                if self.client_id.len() > AWS_CLIENT_ID {
                    return value("client_id", "AWS IoT Core takes 128 bytes");
                }
                if self.keep_alive > AWS_KEEP_ALIVE {
                    return value("keep_alive", "AWS IoT Core allows 1200 seconds");
                }
                self.check_filters()
            }
            Kind::Nats if self.version == Version::V5 => {
                value("mqtt_version", "NATS speaks MQTT 3.1.1 only")
            }
            _ => Ok(()),
        }
    }

    /// Subscriptions that AWS IoT Core would end the connection on.
    fn check_filters(&self) -> Result<(), ConfigError> {
        for route in &self.routes {
            let filter = format!("{}{}", route.remote_prefix, route.filter);
            if route.direction == Direction::In && aws_takes(&filter).is_err() {
                return Err(ConfigError::Rule {
                    route: route.name.clone(),
                    key: "filter",
                    reason: "AWS IoT Core takes filters of 256 bytes and seven slashes, and of those \
                             that begin with $ $aws/ and $share/ alone",
                });
            }
        }
        Ok(())
    }

    /// What an end without words means.
    pub(crate) fn hint(&self) -> &'static str {
        match self.kind {
            Kind::AwsIotCore => {
                " (AWS IoT Core says no more when a policy does not allow it, when another client \
                 connects with this client id, and when a message breaks a limit)"
            }
            _ => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(url: &str) -> Config {
        let mut config = Config::new("cloud", url, "gateway");
        config.preset(Kind::AwsIotCore);
        config.certificate = Some("c".into());
        config.key = Some("k".into());
        config
    }

    #[test]
    fn aws_iot_core_has_its_quotas_and_needs_tls_and_an_identity() {
        let config = aws("mqtts://host");
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.max_rate, Some(100));
        assert_eq!(config.max_byte_rate, Some(524_288));
        assert_eq!(config.max_payload_bytes, Some(131_072));
        assert_eq!(config.max_in_flight, 100);
        assert!(aws("mqtt://host").check().is_err());
        let mut nobody = aws("mqtts://host");
        nobody.certificate = None;
        nobody.key = None;
        assert!(nobody.check().is_err());
        nobody.username = Some("me?x-amz-customauthorizer-name=a".into());
        assert_eq!(nobody.check(), Ok(()));
        assert_eq!(nobody.default_alpn(443), Some("mqtt"));
        assert_eq!(config.default_alpn(443), Some("x-amzn-mqtt-ca"));
        assert_eq!(config.default_alpn(8883), None);
    }

    #[test]
    fn aws_iot_cores_limits_of_topics_are_told_before_they_cost_the_connection() {
        let config = aws("mqtts://host");
        let long = |n: usize| "x".repeat(n);
        for topic in [
            "a/b".to_owned(),
            long(256),
            "é".repeat(128),
            "1/2/3/4/5/6/7/8".into(),
            "$aws/things/t/shadow/name/n/update".into(),
            format!("$aws/rules/r/{}", long(256)),
            "$AWS/rules/r/1/2/3/4/5/6/7/8".into(),
            "$aws/rules/r".into(),
        ] {
            assert_eq!(config.takes_topic(&topic), Ok(()), "{topic}");
        }
        for (topic, why) in [
            (long(257), "257 bytes"),
            ("é".repeat(129), "258 bytes"),
            ("1/2/3/4/5/6/7/8/9".into(), "8 slashes"),
            (format!("$aws/rules/r/{}", long(257)), "257 bytes"),
            ("$aws/rules/r/1/2/3/4/5/6/7/8/9".into(), "8 slashes"),
            ("$aws/rules/r/$x".into(), "begin with $"),
            ("$SYS/x".into(), "begin with $"),
            ("$awsx/y".into(), "begin with $"),
        ] {
            let said = config.takes_topic(&topic).unwrap_err();
            assert!(said.contains(why), "{topic}: {said}");
        }
        let other = Config::new("o", "mqtt://host", "gateway");
        assert_eq!(other.takes_topic(&long(60_000)), Ok(()));
    }

    #[test]
    fn aws_iot_cores_limits_of_settings_are_told_at_the_start() {
        let with = |change: fn(&mut Config)| {
            let mut config = aws("mqtts://host");
            change(&mut config);
            config.check()
        };
        assert!(with(|c| c.client_id = "x".repeat(129)).is_err());
        assert!(with(|c| c.keep_alive = 1201).is_err());
        let inbound = |filter: &str| {
            let mut config = aws("mqtts://host");
            config.routes.push(crate::Route::new(Direction::In, filter));
            config.check()
        };
        for good in ["$aws/things/+/jobs/#", "$share/g/a/#", "1/2/3/4/5/6/7/#"] {
            assert_eq!(inbound(good), Ok(()), "{good}");
        }
        for bad in ["1/2/3/4/5/6/7/8/#", "$SYS/#", "$share/g/$SYS/#"] {
            assert!(inbound(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nats_has_no_version_5() {
        let mut config = Config::new("n", "mqtt://host", "gateway");
        config.preset(Kind::Nats);
        assert_eq!(config.check(), Ok(()));
        config.version = Version::V5;
        assert!(config.check().is_err());
    }
}
