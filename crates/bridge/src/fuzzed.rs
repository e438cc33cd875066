//! What reads bytes of others with suspicion, without sockets: for fuzz targets and for the tests that go
//! through their corpora.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use iotedge_model::{Topic, TopicError};

use crate::endpoint::{Endpoint, ProxyScheme};
use crate::payload::{self, Unpacked};
use crate::uplink::Ended;
use crate::uplink::proxy::{self, Login};
use crate::{ConfigError, Template, mapping};

/// A template's topic.
///
/// # Errors
/// It makes none.
pub fn render(template: &Template, topic: &str, client_id: &str) -> Result<Topic, TopicError> {
    template.render(topic, client_id)
}

/// A topic with another prefix.
///
/// # Errors
/// It has not the one, or is none with the other.
pub fn map(topic: &str, from: &str, to: &str) -> Result<Topic, TopicError> {
    mapping::map(topic, from, to)
}

/// A payload as a gzip file, where that is smaller or it is one.
pub fn compress(payload: &[u8]) -> Option<Vec<u8>> {
    payload::compress(payload)
}

/// What is in a gzip file: `Ok(None)`: it is none.
///
/// # Errors
/// More than `most` bytes are in it.
pub fn decompress(payload: &[u8], most: usize) -> Result<Option<Vec<u8>>, ()> {
    match payload::decompress(payload, most) {
        Unpacked::Plain => Ok(None),
        Unpacked::Payload(found) => Ok(Some(found)),
        Unpacked::TooLarge => Err(()),
    }
}

/// A JSON object with one member more.
pub fn with_member(payload: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    payload::with_member(payload, name, value)
}

/// What a proxy's answers lead to, and what is left of them; `None`: it waits though all is there.
///
/// # Errors
/// `url` is none of an upstream.
pub fn proxy<'a>(
    url: &str,
    socks: bool,
    login: Option<(&str, &str)>,
    mut answers: &'a [u8],
) -> Result<Option<(Result<(), Ended>, &'a [u8])>, ConfigError> {
    let endpoint = Endpoint::parse(url)?;
    let speaks = match socks {
        true => ProxyScheme::Socks5,
        false => ProxyScheme::Http,
    };
    let login = login.map(|(username, password)| Login::new(username, password));
    let outcome = {
        let mut stream = tokio::io::join(&mut answers, tokio::io::sink());
        let mut passing = pin!(proxy::pass(&mut stream, speaks, &endpoint, login));
        passing
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
    };
    Ok(match outcome {
        Poll::Ready(outcome) => Some((outcome, answers)),
        Poll::Pending => None,
    })
}
