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

impl Config {
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
                Ok(())
            }
            Kind::Nats if self.version == Version::V5 => {
                value("mqtt_version", "NATS speaks MQTT 3.1.1 only")
            }
            _ => Ok(()),
        }
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
    fn nats_has_no_version_5() {
        let mut config = Config::new("n", "mqtt://host", "gateway");
        config.preset(Kind::Nats);
        assert_eq!(config.check(), Ok(()));
        config.version = Version::V5;
        assert!(config.check().is_err());
    }
}
