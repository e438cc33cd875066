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

/// What [`decompress`] finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// No gzip file.
    Plain,
    /// This is in it.
    Payload(Vec<u8>),
    /// More than the limit is in it.
    TooLarge,
}

/// What is in a gzip file, at most `most` bytes.
pub fn decompress(payload: &[u8], most: usize) -> Found {
    match payload::decompress(payload, most) {
        Unpacked::Plain => Found::Plain,
        Unpacked::Payload(found) => Found::Payload(found),
        Unpacked::TooLarge => Found::TooLarge,
    }
}

/// A JSON object with one member more.
pub fn with_member(payload: &[u8], name: &str, value: &str) -> Option<Vec<u8>> {
    payload::with_member(payload, name, value)
}

/// How it ended, and what was not read.
pub type Passed<'a> = (Result<(), Ended>, &'a [u8]);

/// What a proxy's answers lead to, and what is left of them; `None`: it waits though all is there.
///
/// # Errors
/// `url` is none of an upstream.
pub fn proxy<'a>(
    url: &str,
    socks: bool,
    login: Option<(&str, &str)>,
    mut answers: &'a [u8],
) -> Result<Option<Passed<'a>>, ConfigError> {
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
