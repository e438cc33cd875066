//! Each command: what it asks and how it shows the answer.

use std::ffi::OsStr;
use std::io::{Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use base64::Engine as _;
use iotedge_model::reserved::shadow_prefix;
use iotedge_model::{QoS, ThingName, TopicFilter};
use serde_json::{Value, json};

mod dead_letters;
mod groups;
mod policy;
mod rules;
mod things;

use super::args::{Arguments, Bridge, Cert, Command, Publish, Shadow, ShadowArg, Subscribe};
use super::certificates::{self, Files};
use super::client::{Client, read_as};
use super::protocol::{self as p, Base64, Request};
use super::{CtlError, offline, show};

/// Where answers go, and in which form.
pub(super) struct Session<'a> {
    socket: Option<&'a Path>,
    pub(super) json: bool,
    pub(super) out: &'a mut dyn Write,
}

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), CtlError> {
    let mut session = Session {
        socket: arguments.socket.as_deref(),
        json: arguments.json,
        out,
    };
    match &arguments.command {
        Command::Status => session.status(),
        Command::Cert(command) => session.cert(command),
        Command::Ca(command) => command.run(&mut session),
        Command::Clock(command) => command.run(&mut session),
        Command::Policy(command) => session.policy(command),
        Command::Thing(command) => session.thing(command),
        Command::ThingType(command) => session.thing_type(command),
        Command::ThingGroup(command) => session.thing_group(command),
        Command::Shadow(command) => session.shadow(command),
        Command::Rule(command) => session.rule(command),
        Command::Bridge(command) => session.bridge(command),
        Command::DeadLetters(command) => session.dead_letters(command, None),
        Command::Publish(publish) => session.publish(publish),
        Command::Subscribe(subscribe) => session.subscribe(subscribe),
        Command::Password => super::password::run(session.json, session.out),
        Command::Reload => session.ask_and_show(&Request::Reload, show::reloaded),
    }
}

type Show<T> = fn(&T, &mut dyn Write) -> std::io::Result<()>;

impl Session<'_> {
    pub(super) fn connect(&self) -> Result<Client, CtlError> {
        Client::connect(self.socket)
    }

    /// Asks, and prints the answer as JSON or as `show` has it.
    pub(super) fn ask_and_show<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
        show: Show<T>,
    ) -> Result<(), CtlError> {
        let answer = self.connect()?.ask(request)?;
        if self.json {
            return Ok(writeln!(self.out, "{answer}")?);
        }
        Ok(show(&read_as(answer)?, self.out)?)
    }

    /// The same for a list.
    pub(super) fn ask_and_list<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
        show: fn(&[T], &mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), CtlError> {
        let answer = self.connect()?.ask(request)?;
        if self.json {
            return Ok(writeln!(self.out, "{answer}")?);
        }
        let all: Vec<T> = read_as(answer)?;
        Ok(show(&all, self.out)?)
    }

    /// Asks for something that has no answer but that it is done.
    pub(super) fn ask_and_say(&mut self, request: &Request, done: &str) -> Result<(), CtlError> {
        let answer = self.connect()?.ask(request)?;
        match self.json {
            true => writeln!(self.out, "{answer}")?,
            false => writeln!(self.out, "{done}")?,
        }
        Ok(())
    }

    fn status(&mut self) -> Result<(), CtlError> {
        self.ask_and_show(&Request::Status, show::status)
    }

    fn cert(&mut self, command: &Cert) -> Result<(), CtlError> {
        let certificate = |id: &super::args::CertId| p::Certificate { id: id.id.clone() };
        match command {
            Cert::Create {
                name,
                csr,
                policies,
                thing,
                out,
            } => {
                let request = p::CertCreate {
                    name: name.clone(),
                    csr: csr.as_deref().map(offline::read_text).transpose()?,
                    policies: policies.clone(),
                    thing: thing.clone(),
                };
                let stem = csr.as_deref().and_then(Path::file_stem);
                let stem = stem.map(|s| s.to_string_lossy().into_owned());
                let file = name.clone().or(stem).unwrap_or_default();
                self.create_certificate(request, &file, out)
            }
            Cert::Register {
                pem,
                ca,
                name,
                policies,
                inactive,
            } => {
                let request = Request::CertRegister(p::CertRegister {
                    ca: ca.as_deref().map(certificates::ca_id).transpose()?,
                    pem: offline::read_text(pem)?,
                    name: name.clone(),
                    active: !inactive,
                    policies: policies.clone(),
                });
                self.ask_and_show(&request, show::certificate)
            }
            Cert::List { ca } => {
                let ca = ca.as_deref().map(certificates::ca_id).transpose()?;
                self.ask_and_list(&Request::CertList(p::CertList { ca }), show::certificates)
            }
            Cert::Delete(id) => self.ask_and_say(&Request::CertDelete(certificate(id)), "deleted"),
            Cert::Transfer { certificate, .. } => Err(certificates::no_transfer(&certificate.id)),
            Cert::Describe(id) => {
                self.ask_and_show(&Request::CertDescribe(certificate(id)), show::certificate)
            }
            Cert::Activate(id) => self.ask_and_show(
                &Request::CertActivate(certificate(id)),
                show::certificate_status,
            ),
            Cert::Deactivate(id) => self.ask_and_show(
                &Request::CertDeactivate(certificate(id)),
                show::certificate_status,
            ),
            Cert::Revoke(id) => self.ask_and_show(
                &Request::CertRevoke(certificate(id)),
                show::certificate_status,
            ),
        }
    }

    fn create_certificate(
        &mut self,
        request: p::CertCreate,
        file: &str,
        out: &Path,
    ) -> Result<(), CtlError> {
        let files = Files::prepare(out, file, request.csr.is_none())?;
        let idle = request.policies.is_empty();
        let mut client = self.connect()?;
        let made: p::CertificateCreated = client.get(&Request::CertCreate(request))?;
        if let Err(error) = files.write(&made) {
            // A key that is nowhere is of no use to anyone: no certificate is left active for it.
            if let Some(id) = iotedge_model::CertificateId::parse(&made.certificate_id) {
                client.ask(&Request::CertRevoke(p::Certificate { id }))?;
            }
            return Err(error);
        }
        let key = made.private_key.as_ref().map(|_| &files.key);
        if self.json {
            let answer = json!({
                "certificateId": made.certificate_id,
                "certificateArn": made.certificate_arn,
                "files": {
                    "certificate": files.certificate,
                    "key": key,
                    "ca": files.ca,
                },
            });
            return Ok(writeln!(self.out, "{answer}")?);
        }
        writeln!(self.out, "{}", made.certificate_id)?;
        for path in [Some(&files.certificate), key, Some(&files.ca)]
            .into_iter()
            .flatten()
        {
            writeln!(self.out, "  {}", path.display())?;
        }
        if idle {
            let hint = "it may do nothing yet: iotedgectl policy attach NAME CERT";
            writeln!(self.out, "{hint}")?;
        }
        Ok(())
    }

    fn shadow(&mut self, command: &Shadow) -> Result<(), CtlError> {
        let shadow = |s: &ShadowArg| p::Shadow {
            thing: s.thing.clone(),
            name: s.name.clone(),
        };
        let request = match command {
            Shadow::Conflicts { clear } => return self.shadow_conflicts(*clear),
            Shadow::List { thing } => return self.shadow_list(thing.as_ref()),
            Shadow::Watch { shadow, count } => return self.shadow_watch(shadow, *count),
            Shadow::Get(s) => Request::ShadowGet(shadow(s)),
            Shadow::Delete(s) => Request::ShadowDelete(shadow(s)),
            Shadow::Update {
                shadow: s,
                document,
            } => Request::ShadowUpdate(p::ShadowUpdate {
                thing: s.thing.clone(),
                name: s.name.clone(),
                document: Base64(argument(OsStr::new(document))?),
            }),
        };
        self.ask_and_show(&request, show::json)
    }

    fn shadow_list(&mut self, thing: Option<&ThingName>) -> Result<(), CtlError> {
        let mut client = self.connect()?;
        let mut all: Vec<p::ShadowInfo> = Vec::new();
        loop {
            let request = Request::ShadowList(p::ShadowList {
                thing: thing.cloned(),
                after: all.last().map(p::ShadowInfo::key),
            });
            let page: Vec<p::ShadowInfo> = client.get(&request)?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        if self.json {
            return Ok(writeln!(self.out, "{}", json!(all))?);
        }
        Ok(show::shadows(&all, self.out)?)
    }

    fn shadow_conflicts(&mut self, clear: bool) -> Result<(), CtlError> {
        if clear {
            return self.ask_and_show(&Request::ShadowConflictsClear, show::json);
        }
        let mut client = self.connect()?;
        let mut all: Vec<p::ConflictInfo> = Vec::new();
        loop {
            let request = Request::ShadowConflicts(p::ShadowConflicts {
                after: all.last().map(|conflict| conflict.id),
            });
            let page: Vec<p::ConflictInfo> = client.get(&request)?;
            if page.is_empty() {
                break;
            }
            all.extend(page);
        }
        if self.json {
            return Ok(writeln!(self.out, "{}", json!(all))?);
        }
        Ok(show::conflicts(&all, self.out)?)
    }

    /// What the service says on its topics is what is watched: no state comes twice, none is left
    /// out while the connection lasts.
    fn shadow_watch(&mut self, shadow: &ShadowArg, count: Option<u64>) -> Result<(), CtlError> {
        let prefix = shadow_prefix(&shadow.thing, shadow.name.as_ref());
        let filter = TopicFilter::new(&format!("{prefix}/+/+"))
            .map_err(|e| CtlError::Failed(e.to_string()))?;
        let mut client = self.connect()?;
        client.ask(&Request::Subscribe(p::Subscribe {
            filter,
            qos: QoS::AtLeastOnce,
        }))?;
        let mut left = count;
        while left != Some(0) {
            let Some(message) = client.next_message()? else {
                return Err(CtlError::NoDaemon("the gateway went away".into()));
            };
            let document: Option<Value> = serde_json::from_slice(&message.payload.0).ok();
            let topic = message.topic.to_string();
            let news = match topic.strip_prefix(&format!("{prefix}/")) {
                Some("update/documents") => document.and_then(|d| d.get("current").cloned()),
                Some("delete/accepted") => document.map(|d| json!({"deleted": d})),
                _ => None,
            };
            if let Some(news) = news {
                writeln!(self.out, "{news}")?;
                self.out.flush()?;
                left = left.map(|n| n - 1);
            }
        }
        Ok(())
    }

    fn bridge(&mut self, command: &Bridge) -> Result<(), CtlError> {
        let named = |name: &String| p::Upstream {
            upstream: name.clone(),
        };
        match command {
            Bridge::Status => self.ask_and_show(&Request::BridgeStatus, show::bridge),
            Bridge::Test { upstream, publish } => self.bridge_test(p::BridgeTest {
                upstream: upstream.clone(),
                publish: publish.clone(),
            }),
            Bridge::Queue { upstream, peek } => {
                let request = Request::BridgeQueue(p::BridgeQueue {
                    upstream: upstream.clone(),
                    peek: *peek,
                });
                self.ask_and_list(&request, show::queues)
            }
            Bridge::DeadLetters(command) => self.dead_letters(command, Some("route")),
            Bridge::Pause { upstream } => {
                self.ask_and_say(&Request::BridgePause(named(upstream)), "paused")
            }
            Bridge::Resume { upstream } => {
                self.ask_and_say(&Request::BridgeResume(named(upstream)), "resumed")
            }
        }
    }

    fn bridge_test(&mut self, test: p::BridgeTest) -> Result<(), CtlError> {
        let tested: p::BridgeTested = self.connect()?.get(&Request::BridgeTest(test))?;
        match self.json {
            true => writeln!(self.out, "{}", json!(tested))?,
            false => show::bridge_test(&tested, self.out)?,
        }
        match tested.steps.iter().find(|step| !step.ok) {
            None => Ok(()),
            Some(step) => Err(CtlError::Failed(format!(
                "{} fails: {}",
                step.layer, step.text
            ))),
        }
    }

    fn publish(&mut self, publish: &Publish) -> Result<(), CtlError> {
        let request = Request::Publish(p::Publish {
            topic: publish.topic.clone(),
            payload: Base64(argument(&publish.payload)?),
            qos: publish.qos,
            retain: publish.retain,
        });
        let answer = self.connect()?.ask(&request)?;
        // Like other publishers, silent when it went well.
        if self.json {
            writeln!(self.out, "{answer}")?;
        }
        Ok(())
    }

    fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), CtlError> {
        let mut client = self.connect()?;
        client.ask(&Request::Subscribe(p::Subscribe {
            filter: subscribe.filter.clone(),
            qos: subscribe.qos,
        }))?;
        let mut left = subscribe.count;
        while left != Some(0) {
            let Some(message) = client.next_message()? else {
                return Err(CtlError::NoDaemon("the gateway went away".into()));
            };
            self.print(&message)?;
            left = left.map(|n| n - 1);
        }
        Ok(())
    }

    /// A message on a line of its own; out at once, because whoever reads waits for it.
    fn print(&mut self, message: &p::Message) -> Result<(), CtlError> {
        let payload = &message.payload.0;
        if self.json {
            let (key, value) = payload_member(payload);
            let line = json!({
                "topic": message.topic,
                key: value,
                "qos": message.qos,
                "retain": message.retain,
            });
            writeln!(self.out, "{line}")?;
        } else {
            write!(self.out, "{} ", message.topic)?;
            self.out.write_all(payload)?;
            self.out.write_all(b"\n")?;
        }
        Ok(self.out.flush()?)
    }
}

/// A payload in JSON output: `payload` as text, or `payload_base64`.
pub(super) fn payload_member(payload: &[u8]) -> (&'static str, String) {
    match std::str::from_utf8(payload) {
        Ok(text) => ("payload", text.to_owned()),
        Err(_) => (
            "payload_base64",
            base64::engine::general_purpose::STANDARD.encode(payload),
        ),
    }
}

/// An argument's bytes; `-` stands for standard input.
fn argument(text: &OsStr) -> Result<Vec<u8>, CtlError> {
    if text != "-" {
        return Ok(text.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|e| CtlError::Failed(format!("standard input: {e}")))?;
    Ok(bytes)
}
