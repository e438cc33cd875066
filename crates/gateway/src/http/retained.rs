//! `GET /retainedMessage/{url-encoded topic}` and `GET /retainedMessage?maxResults=N&nextToken=T`
//! (AWS IoT Core's data plane, `GetRetainedMessage` and `ListRetainedMessages`).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use iotedge_model::{Action, Message, Topic, percent_decode};
use iotedge_ports::{HttpRequest, HttpResponse, Method};
use serde_json::json;

use super::properties::user_properties_json;
use super::request::{Wrong, authorize, error, invalid};
use crate::Context;

/// What a page has at most, and without a word about it.
const MOST: usize = 200;

pub(super) const PATH: &str = "/retainedMessage";

/// One message, or the list of them: `rest` is what follows [`PATH`].
pub(super) fn answer(context: &Context, request: &HttpRequest, rest: &str) -> HttpResponse {
    let found = match rest.strip_prefix('/') {
        Some(topic) if !topic.is_empty() => one(context, request, topic),
        _ => page(context, request),
    };
    found.unwrap_or_else(|(status, kind, message)| error(status, kind, &message, request.trace))
}

fn only_get(request: &HttpRequest) -> Result<(), Wrong> {
    if request.method == Method::Get {
        return Ok(());
    }
    let message = "Retained messages are read with GET".into();
    Err((405, "MethodNotAllowedException", message))
}

fn one(context: &Context, request: &HttpRequest, encoded: &str) -> Result<HttpResponse, Wrong> {
    only_get(request)?;
    let text =
        percent_decode(encoded).ok_or_else(|| invalid("The topic is not URL-encoded".into()))?;
    let topic = Topic::new(&text).map_err(|e| invalid(e.to_string()))?;
    authorize(context, request, Action::GetRetainedMessage, &text)?;
    let Some(message) = context.broker.retained(&topic) else {
        let message = format!("There is no retained message on {text:?}");
        return Err((404, "ResourceNotFoundException", message));
    };
    let body = json!({
        "topic": message.topic.as_str(),
        "payload": STANDARD.encode(&message.payload),
        "qos": u8::from(message.qos),
        "lastModifiedTime": message.accepted_at.0,
        "userProperties": user_properties_json(message.properties.as_deref()),
    });
    Ok(HttpResponse::json(200, body.to_string()))
}

fn page(context: &Context, request: &HttpRequest) -> Result<HttpResponse, Wrong> {
    only_get(request)?;
    let most = match request.query("maxResults") {
        None => MOST,
        Some(text) => text
            .parse()
            .ok()
            .filter(|n| (1..=MOST).contains(n))
            .ok_or_else(|| invalid(format!("maxResults is 1 to {MOST}, not {text:?}")))?,
    };
    let after = request.query("nextToken").map(after).transpose()?;
    authorize(context, request, Action::ListRetainedMessages, "*")?;
    let mut found = context.broker.retained_after(after.as_ref(), most + 1);
    let next = (found.len() > most).then(|| {
        found.truncate(most);
        found.last().map(|last| token(last))
    });
    let body = json!({
        "retainedTopics": found.iter().map(|m| summary(m)).collect::<Vec<_>>(),
        "nextToken": next.flatten(),
    });
    Ok(HttpResponse::json(200, body.to_string()))
}

fn summary(message: &Message) -> serde_json::Value {
    json!({
        "topic": message.topic.as_str(),
        "payloadSize": message.payload.len(),
        "qos": u8::from(message.qos),
        "lastModifiedTime": message.accepted_at.0,
    })
}

/// Where the next page begins: behind the last topic of this one, which may be gone by then.
fn token(last: &Message) -> String {
    URL_SAFE_NO_PAD.encode(last.topic.as_str())
}

fn after(token: &str) -> Result<Topic, Wrong> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| Topic::new(&text).ok())
        .ok_or_else(|| invalid("nextToken is not of an earlier page".into()))
}
