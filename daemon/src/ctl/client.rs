//! One connection to the daemon.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::CtlError;
use super::protocol::{MAX_LINE, Message, Reply, Request};

/// How long an answer may take. A reload waits for listeners and a publish for the disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the socket may be when nobody says: of the service, of `--dev` started here.
const PLACES: [&str; 2] = [crate::config::DEFAULT_SOCKET, "iotedge-data/control.sock"];

/// Whether the socket of this folder was made by this user or by root: nobody else's is asked for
/// keys.
fn is_own(path: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    match std::fs::symlink_metadata(path) {
        Ok(found) => found.uid() == user || found.uid() == 0,
        // Then connecting says why.
        Err(_) => true,
    }
}

pub(super) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects: to `socket`, else to `$IOTEDGE_SOCKET`, else to the first of the usual places
    /// where a daemon answers.
    pub(super) fn connect(socket: Option<&Path>) -> Result<Self, CtlError> {
        let environment = std::env::var_os("IOTEDGE_SOCKET").filter(|v| !v.is_empty());
        let given = socket
            .map(Path::to_owned)
            .or(environment.map(PathBuf::from));
        let places = match &given {
            Some(path) => vec![path.clone()],
            None => PLACES.iter().map(PathBuf::from).collect(),
        };
        let mut failures = Vec::new();
        for path in &places {
            if given.is_none() && path.is_relative() && !is_own(path) {
                failures.push(format!("{}: not yours", path.display()));
                continue;
            }
            match UnixStream::connect(path) {
                Ok(stream) => return Self::on(stream),
                Err(e) => {
                    let absent = matches!(
                        e.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                    );
                    failures.push(format!("{}: {e}", path.display()));
                    // A gateway that runs and does not let this user in is the one that is meant.
                    if !absent {
                        break;
                    }
                }
            }
        }
        let failures = failures.join("; ");
        Err(CtlError::NoDaemon(format!(
            "no gateway answers ({failures}); is it running? --socket names another socket"
        )))
    }

    fn on(stream: UnixStream) -> Result<Self, CtlError> {
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)))
            .map_err(lost)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks and waits for the answer.
    pub(super) fn ask(&mut self, request: &Request) -> Result<serde_json::Value, CtlError> {
        let line = request.to_line();
        if line.len() > MAX_LINE {
            return Err(CtlError::Failed(format!(
                "the request has {} bytes; at most {MAX_LINE} can be sent",
                line.len()
            )));
        }
        self.stream.get_mut().write_all(&line).map_err(lost)?;
        match self.read()? {
            Some(Reply::Ok(value)) => Ok(value),
            Some(Reply::Error(failure)) => Err(CtlError::Refused {
                reason: failure.reason,
                message: failure.message,
            }),
            Some(Reply::Message(_)) => Err(CtlError::Answer("a message before an answer".into())),
            None => Err(CtlError::NoDaemon(
                "the gateway closed the connection without an answer".into(),
            )),
        }
    }

    /// Asks, and takes the answer apart.
    pub(super) fn get<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, CtlError> {
        read_as(self.ask(request)?)
    }

    /// The next message, however long it takes; `None` when the gateway is gone.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, CtlError> {
        self.stream.get_ref().set_read_timeout(None).map_err(lost)?;
        match self.read()? {
            None => Ok(None),
            Some(Reply::Message(message)) => Ok(Some(message)),
            Some(Reply::Error(failure)) => Err(CtlError::Refused {
                reason: failure.reason,
                message: failure.message,
            }),
            Some(Reply::Ok(_)) => Err(CtlError::Answer("an answer to nothing".into())),
        }
    }

    fn read(&mut self) -> Result<Option<Reply>, CtlError> {
        let mut line = Vec::new();
        let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        self.stream
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(lost)?;
        if line.is_empty() {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            return Err(CtlError::Answer("it ends in the middle of a line".into()));
        }
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|e| CtlError::Answer(e.to_string()))
    }
}

pub(super) fn read_as<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, CtlError> {
    serde_json::from_value(value).map_err(|e| CtlError::Answer(e.to_string()))
}

fn lost(error: std::io::Error) -> CtlError {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => {
            CtlError::NoDaemon(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))
        }
        _ => CtlError::NoDaemon(format!("the connection to the gateway is lost: {error}")),
    }
}
