//! `bridge test`: one connection from the name to the subscriptions, and which layer fails.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use iotedge_model::{QoS, Topic};
use iotedge_ports::LinkState;
use tokio::time::{Instant, timeout, timeout_at};

use crate::shared::{Desired, Shared};
use crate::uplink::{
    Accepted, Acknowledged, Connection, Ended, Event, Filter, Layer, Publish, reason,
};
use crate::{Bridge, Direction};

/// For the link to let go, for the connection, the subscriptions, a message and good-bye, twice: together
/// below 20 s.
const LET_GO: Duration = Duration::from_secs(4);
const CONNECTING: Duration = Duration::from_secs(9);
const SUBSCRIBING: Duration = Duration::from_secs(3);
const PUBLISHING: Duration = Duration::from_secs(2);
const FAREWELL: Duration = Duration::from_millis(500);
/// Filters of one SUBSCRIBE; AWS IoT Core takes no more.
pub(crate) const FILTERS: usize = 8;

/// One layer of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialStep {
    /// `settings`, `DNS`, `TCP`, `proxy`, `TLS`, `WebSocket`, `CONNACK`, `subscribe`,
    /// `publish` or `policy`.
    pub layer: &'static str,
    /// Whether it stands.
    pub ok: bool,
    /// What was found.
    pub text: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

/// Sets a link back to what it was.
struct Restore<'a> {
    link: &'a Shared,
}

impl Drop for Restore<'_> {
    fn drop(&mut self) {
        // Who paused it meanwhile means it.
        let held = self.link.paused().is_some();
        self.link.desired.send_if_modified(|now| {
            let changes = *now == Desired::Paused && !held;
            if changes {
                *now = Desired::Run;
            }
            changes
        });
    }
}

impl Bridge {
    /// Connects once as the link does, while the link itself is paused: two connections with one
    /// client id push each other out. `None`: no upstream has this name. Takes less than 20 s; the
    /// last step is the one that failed, if one did.
    ///
    /// What a policy says of publishing shows only when something is published: `publish` is a topic
    /// of the upstream that gets an empty message with QoS 1.
    pub async fn test(&self, upstream: &str, publish: Option<&Topic>) -> Option<Vec<TrialStep>> {
        let link = self.link(upstream)?;
        let _restore = Restore { link: &link };
        link.desired.send_if_modified(|now| {
            let changes = *now == Desired::Run;
            if changes {
                *now = Desired::Paused;
            }
            changes
        });
        let _ = timeout(LET_GO, let_go(&link)).await;
        Some(run(&link, publish).await)
    }
}

async fn let_go(link: &Shared) {
    let mut told = link.told.subscribe();
    let down = |state: &LinkState| matches!(state, LinkState::Paused | LinkState::Stopped);
    // Its sender lives in `link`.
    let _ = told.wait_for(down).await;
}

fn millis(since: Instant, until: Instant) -> u64 {
    u64::try_from((until - since).as_millis()).unwrap_or(u64::MAX)
}

async fn run(link: &Arc<Shared>, topic: Option<&Topic>) -> Vec<TrialStep> {
    let begun: Mutex<Vec<(Layer, Instant)>> = Mutex::default();
    let progress = |layer| {
        let mut begun = begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push((layer, Instant::now()));
    };
    let start = Instant::now();
    let connecting = timeout(CONNECTING, link.connector.connect(&progress));
    let outcome = connecting.await;
    let end = Instant::now();
    let begun = begun.into_inner().unwrap_or_else(PoisonError::into_inner);
    let last = begun.last().map_or(Layer::Settings, |(layer, _)| *layer);
    let failed = match &outcome {
        Ok(Ok(_)) => None,
        Ok(Err(ended)) => Some(ended.clone()),
        Err(_) => Some(Ended::lost(last, "no answer within 9 s")),
    };
    let mut found = link.connector.found();
    if let Ok(Ok((_, accepted))) = &outcome {
        found.push((Layer::Connack, said(accepted)));
    }
    let of_layer = |layer: Layer| {
        let text = found.iter().find(|(of, _)| *of == layer);
        text.map_or_else(|| "ok".to_owned(), |(_, text)| text.clone())
    };
    let mut steps = Vec::new();
    for (at, (layer, from)) in begun.iter().enumerate() {
        let until = begun.get(at + 1).map_or(end, |(_, next)| *next);
        let is_last = at + 1 == begun.len();
        if is_last && failed.is_some() {
            break;
        }
        steps.push(TrialStep {
            layer: layer.as_str(),
            ok: true,
            text: of_layer(*layer),
            millis: millis(*from, until),
        });
    }
    if let Some(ended) = failed {
        let from = begun.last().map_or(start, |(_, from)| *from);
        steps.push(TrialStep {
            layer: layer_of(&ended, link),
            ok: false,
            text: format!("{}{}", ended.text, hint(&ended, link)),
            millis: millis(from, end),
        });
    }
    if let Ok(Ok((mut connection, _))) = outcome {
        steps.push(subscribe(link, &mut *connection).await);
        let stands = steps.last().is_some_and(|step| step.ok);
        if let Some(topic) = topic.filter(|_| stands) {
            steps.push(publish(link, &mut *connection, topic).await);
        }
        if connection.disconnect().is_ok() {
            let _ = timeout(FAREWELL, left(&mut *connection)).await;
        }
        let _ = timeout(FAREWELL, connection.finish()).await;
    }
    steps
}

/// What CONNACK said.
fn said(accepted: &Accepted) -> String {
    let mut text = match accepted.session_present {
        true => "our session is there".to_owned(),
        false => "a new session".to_owned(),
    };
    if accepted.receive_maximum < u16::MAX {
        text.push_str(&format!(", {} in flight", accepted.receive_maximum));
    }
    if let Some(bytes) = accepted.maximum_packet_size {
        text.push_str(&format!(", packets of {bytes} bytes"));
    }
    if accepted.maximum_qos < QoS::AtLeastOnce {
        text.push_str(", QoS 0 only");
    }
    if !accepted.retain_available {
        text.push_str(", no retained messages");
    }
    text
}

/// With AWS IoT Core silence after CONNECT is a matter of policy.
fn layer_of(ended: &Ended, link: &Shared) -> &'static str {
    match (ended.layer, ended.code) {
        (Layer::Connack | Layer::Mqtt, None) if !link.config.hint().is_empty() => "policy",
        (Layer::Mqtt, _) => Layer::Connack.as_str(),
        (layer, _) => layer.as_str(),
    }
}

fn hint(ended: &Ended, link: &Shared) -> &'static str {
    let config = &link.config;
    match (ended.layer, ended.code) {
        (Layer::Connack | Layer::Mqtt, None) => config.hint(),
        (Layer::Connack, Some(0x04 | 0x05 | 0x86 | 0x87 | 0x8C)) => {
            match (&config.username, &config.certificate) {
                (Some(_), _) => {
                    "; look at username and password_file, and at what this user may do"
                }
                (None, Some(_)) => {
                    "; may this certificate connect with this client_id, or are username and \
                     password_file needed?"
                }
                (None, None) => "; username and password_file, or a certificate, may be needed",
            }
        }
        _ => "",
    }
}

async fn event(connection: &mut dyn Connection) -> Result<Event, Ended> {
    poll_fn(|cx| connection.poll_event(cx)).await
}

async fn left(connection: &mut dyn Connection) {
    while let Ok(event) = event(connection).await {
        if event == Event::Left {
            return;
        }
    }
}

async fn subscribe(link: &Shared, connection: &mut dyn Connection) -> TrialStep {
    let start = Instant::now();
    let step = |layer, ok, text: String| TrialStep {
        layer,
        ok,
        text,
        millis: millis(start, Instant::now()),
    };
    let filters: Vec<Filter> = link
        .config
        .routes
        .iter()
        .filter(|route| route.direction == Direction::In)
        .filter_map(|route| {
            Some(Filter {
                filter: route.remote_filter().ok()?.to_string(),
                qos: route.qos,
                // A protocol error with a shared one (MQTT 5, 3.8.3.1).
                no_local: !route.is_shared(),
                retain_as_published: true,
                retained: false,
            })
        })
        .collect();
    for part in filters.chunks(FILTERS) {
        if let Err(ended) = connection.subscribe(part.to_vec()) {
            return step("subscribe", false, ended.text);
        }
        let codes = match timeout_at(start + SUBSCRIBING, suback(connection)).await {
            Ok(Ok(codes)) => codes,
            Ok(Err(ended)) => {
                let text = format!(
                    "the upstream ends the connection at SUBSCRIBE: {}{}",
                    ended.text,
                    link.config.hint()
                );
                return step("policy", false, text);
            }
            Err(_) => return step("subscribe", false, "no SUBACK within 3 s".into()),
        };
        let refused = part.iter().zip(codes).find(|(_, code)| *code >= 0x80);
        if let Some((filter, code)) = refused {
            let layer = match code {
                0x80 | 0x87 => "policy",
                _ => "subscribe",
            };
            let text = format!("{}: {}", filter.filter, reason::told("SUBACK", code, None));
            return step(layer, false, text);
        }
    }
    step("subscribe", true, format!("{} filters", filters.len()))
}

async fn publish(link: &Shared, connection: &mut dyn Connection, topic: &Topic) -> TrialStep {
    let start = Instant::now();
    let step = |layer, ok, text: String| TrialStep {
        layer,
        ok,
        text,
        millis: millis(start, Instant::now()),
    };
    if let Err(why) = link.config.takes_topic(topic.as_str()) {
        return step("publish", false, why);
    }
    let sent = connection.publish(Publish {
        topic: topic.to_string(),
        payload: Bytes::new(),
        qos: QoS::AtLeastOnce,
        retain: false,
        expiry: None,
        properties: None,
    });
    if let Err(ended) = sent {
        return step("publish", false, ended.text);
    }
    match timeout_at(start + PUBLISHING, puback(connection)).await {
        Ok(Ok(ack)) if ack.reason < 0x80 => step(
            "policy",
            true,
            format!("a message to {topic} is acknowledged"),
        ),
        Ok(Ok(ack)) => {
            let layer = match ack.reason {
                0x80 | 0x87 => "policy",
                _ => "publish",
            };
            let said = reason::told("PUBACK", ack.reason, ack.said.as_deref());
            step(layer, false, format!("{topic}: {said}"))
        }
        Ok(Err(ended)) => {
            let text = format!(
                "the upstream ends the connection at PUBLISH to {topic}: {}{}",
                ended.text,
                link.config.hint()
            );
            step("policy", false, text)
        }
        Err(_) => step("publish", false, "no PUBACK within 2 s".into()),
    }
}

async fn puback(connection: &mut dyn Connection) -> Result<Acknowledged, Ended> {
    loop {
        if let Event::Acknowledged(ack) = event(connection).await? {
            return Ok(ack);
        }
    }
}

async fn suback(connection: &mut dyn Connection) -> Result<Vec<u8>, Ended> {
    loop {
        // What comes in meanwhile is not acknowledged, so it comes again.
        if let Event::Subscribed(codes) = event(connection).await? {
            return Ok(codes);
        }
    }
}
