//! The control socket: what `iotedgectl` asks of the running daemon.

mod authorities;
mod certificates;
mod clock;
mod dead_letters;
mod groups;
mod messages;
mod policies;
mod queues;
mod rules;
mod shadows;
mod status;
mod things;
mod who;

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use iotedge_model::{Principal, PrincipalKind};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedReadHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::ctl::protocol::{Failure, MAX_LINE, Reply, Request};
use crate::house::Rooms;

/// Commands at once; the next waits.
const CONNECTIONS: usize = 32;
/// Subscriptions at once; the next is refused.
const STREAMS: usize = 32;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// How long to wait when the system has no more file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The reason of a request that has no end.
const TOO_LONG: &str = "too-long";

/// The socket and its task.
pub struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Control {
    /// Opens the socket for the daemon's user and group.
    pub fn start(rooms: Arc<Rooms>) -> Result<Self, String> {
        let path = rooms.config.admin.socket.clone();
        let listener = bind(&path).map_err(|e| format!("admin.socket {}: {e}", path.display()))?;
        Ok(Self {
            path,
            task: tokio::spawn(serve(listener, rooms)),
        })
    }

    /// Takes no more commands.
    pub async fn stop(self) {
        self.task.abort();
        // Aborted on purpose: there is nothing to learn from how it ended.
        let _ = self.task.await;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was gone already");
        }
    }
}

/// A socket that a killed daemon left behind is replaced; anything else is not touched.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(io::Error::other("is there and no socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Bound under another name and moved into place: whoever sees the path can use it.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    match std::fs::remove_file(&fresh) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, rooms: Arc<Rooms>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let streams = Arc::new(Semaphore::new(STREAMS));
    // Dropped with this task, so that no command outlives the socket.
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (rooms, streams) = (rooms.clone(), streams.clone());
                    tasks.spawn(async move {
                        converse(stream, &rooms, place, &streams).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed on the control socket");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a command ended by a panic");
                }
            }
        }
    }
}

async fn converse(
    stream: UnixStream,
    rooms: &Arc<Rooms>,
    place: OwnedSemaphorePermit,
    streams: &Semaphore,
) {
    let principal = match stream.peer_cred() {
        Ok(peer) => Arc::new(Principal {
            kind: PrincipalKind::LocalUser {
                uid: peer.uid(),
                listener: None,
            },
        }),
        Err(error) => {
            tracing::warn!(%error, "the kernel does not say who asks");
            return;
        }
    };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    // A connection that says nothing must not keep its place.
    while let Ok(Some(line)) = tokio::time::timeout(IDLE, read_line(&mut reader)).await {
        let request = line.and_then(|line| Request::from_line(&line));
        let reply = match request {
            Ok(Request::Subscribe(subscribe)) => {
                let Ok(_stream) = streams.try_acquire() else {
                    let message = format!("there are {STREAMS} subscriptions already");
                    let reply = Reply::error("refused", message).to_line();
                    // The client may have gone; then nobody wants to know.
                    let _ = writer.write_all(&reply).await;
                    return;
                };
                // It may last for days: the place is for commands.
                drop(place);
                messages::subscribe(rooms, &principal, subscribe, reader, writer).await;
                return;
            }
            Ok(request) => answer(rooms, &principal, request).await,
            Err(failure) => Err(failure),
        };
        let whole = !matches!(&reply, Err(failure) if failure.reason == TOO_LONG);
        let reply = reply.unwrap_or_else(Reply::Error);
        // Behind an over-long line nobody knows where the next request begins.
        if writer.write_all(&reply.to_line()).await.is_err() || !whole {
            return;
        }
    }
}

/// The next line; `None` at the end.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> Option<Result<Vec<u8>, Failure>> {
    let mut line = Vec::new();
    let limit = MAX_LINE as u64;
    match reader.take(limit).read_until(b'\n', &mut line).await {
        Ok(0) | Err(_) => None,
        Ok(_) if line.last() == Some(&b'\n') => Some(Ok(line)),
        Ok(n) if n >= MAX_LINE => Some(Err(Failure::new(
            TOO_LONG,
            format!("a request has at most {MAX_LINE} bytes"),
        ))),
        // Cut off in the middle.
        Ok(_) => None,
    }
}

type Answer = Result<Reply, Failure>;

async fn answer(rooms: &Arc<Rooms>, principal: &Arc<Principal>, request: Request) -> Answer {
    match request {
        Request::Status => Ok(status::status(rooms)),
        Request::BridgeStatus => Ok(status::bridge(rooms)),
        Request::BridgeTest(test) => status::bridge_test(rooms, &test).await,
        Request::BridgeQueue(queue) => queues::list(rooms, &queue),
        Request::RuleList => Ok(rules::list(rooms)),
        Request::RuleShow(rule) => rules::show(rooms, &rule.name),
        Request::Reload => status::reload(rooms).await,
        Request::Publish(publish) => messages::publish(rooms, principal, publish).await,
        // Streams; see `converse`.
        Request::Subscribe(_) => Err(Failure::new("invalid", "subscribe streams")),
        Request::ShadowGet(shadow) => shadows::get(rooms, shadow).await,
        Request::ShadowUpdate(update) => shadows::update(rooms, update).await,
        Request::ShadowDelete(shadow) => shadows::delete(rooms, shadow).await,
        changes => {
            // These wait for the disk.
            let (rooms, principal) = (rooms.clone(), principal.clone());
            let work = move || change(&rooms, &principal, changes);
            let done = tokio::task::spawn_blocking(work).await;
            done.unwrap_or_else(|e| Err(Failure::new("failed", format!("the command failed: {e}"))))
        }
    }
}

fn change(rooms: &Rooms, principal: &Principal, request: Request) -> Answer {
    match request {
        Request::BridgePause(pause) => {
            status::pause(rooms, &pause.upstream, Some(&who::asks(principal)))
        }
        Request::BridgeResume(resume) => status::pause(rooms, &resume.upstream, None),
        Request::CertCreate(create) => certificates::create(rooms, create),
        Request::CertRegister(register) => certificates::register(rooms, &register),
        Request::CertList(list) => Ok(certificates::list(rooms, &list)),
        Request::CertDescribe(certificate) => certificates::describe(rooms, &certificate.id),
        Request::CertActivate(certificate) => certificates::activate(rooms, &certificate.id),
        Request::CertDeactivate(certificate) => certificates::deactivate(rooms, &certificate.id),
        Request::CertRevoke(certificate) => certificates::revoke(rooms, &certificate.id),
        Request::CertDelete(certificate) => certificates::delete(rooms, &certificate.id),
        Request::CaList => authorities::list(rooms),
        Request::CaDescribe(ca) => authorities::describe(rooms, &ca.id),
        Request::CaRegistrationCode(code) => authorities::code(rooms, code.anew),
        Request::CaRegister(register) => authorities::register(rooms, &register),
        Request::CaUpdate(update) => authorities::update(rooms, &update),
        Request::CaDelete(ca) => authorities::delete(rooms, &ca.id),
        Request::CaRotate => authorities::rotate(rooms),
        Request::CaDrop(drop) => authorities::drop_old(rooms, drop.revoke),
        Request::ClockShow => Ok(clock::show(rooms)),
        Request::ClockTrust => Ok(clock::trust(rooms)),
        Request::PolicyCreate(create) => policies::create(rooms, &create),
        Request::PolicyList => Ok(policies::list(rooms)),
        Request::PolicyShow(policy) => policies::show(rooms, &policy.name),
        Request::PolicyDelete(policy) => policies::delete(rooms, &policy.name),
        Request::PolicyVersionCreate(create) => policies::create_version(rooms, &create),
        Request::PolicyVersionList(policy) => policies::list_versions(rooms, &policy.name),
        Request::PolicyVersionShow(version) => policies::show_version(rooms, &version),
        Request::PolicyVersionSetDefault(v) => policies::set_default_version(rooms, &v),
        Request::PolicyVersionDelete(version) => policies::delete_version(rooms, &version),
        Request::PolicyAttach(target) => policies::attach(rooms, &target),
        Request::PolicyDetach(target) => policies::detach(rooms, &target),
        Request::PolicyExplain(explain) => policies::explain(rooms, &explain),
        Request::RuleCreate(create) => rules::put(rooms, &create),
        Request::RuleEnable(rule) => rules::enable(rooms, &rule.name, true),
        Request::RuleDisable(rule) => rules::enable(rooms, &rule.name, false),
        Request::RuleDelete(rule) => rules::delete(rooms, &rule.name),
        Request::DeadLetterList(list) => dead_letters::list(rooms, &list),
        Request::DeadLetterShow(letter) => dead_letters::show(rooms, letter.id),
        Request::DeadLetterReplay(letter) => dead_letters::replay(rooms, letter.id),
        Request::DeadLetterDrop(letter) => dead_letters::drop_one(rooms, letter.id),
        Request::ShadowList(list) => shadows::list(rooms, &list),
        Request::ShadowConflicts(page) => shadows::conflicts(rooms, page.after),
        Request::ShadowConflictsClear => shadows::clear_conflicts(rooms),
        Request::ThingCreate(create) => things::create(rooms, create),
        Request::ThingList(list) => things::list(rooms, list),
        Request::ThingDescribe(thing) => things::describe(rooms, &thing.name),
        Request::ThingUpdate(update) => things::update(rooms, update),
        Request::ThingDelete(delete) => things::delete(rooms, &delete),
        Request::ThingAttach(attach) => things::attach(rooms, &attach),
        Request::ThingDetach(attach) => things::detach(rooms, &attach),
        Request::ThingGroupCreate(create) => groups::create(rooms, create),
        Request::ThingGroupList => Ok(groups::list(rooms)),
        Request::ThingGroupDescribe(group) => groups::describe(rooms, &group.name),
        Request::ThingGroupDelete(group) => groups::delete(rooms, &group.name),
        Request::ThingGroupAdd(member) => groups::add(rooms, &member),
        Request::ThingGroupRemove(member) => groups::remove(rooms, &member),
        Request::ThingGroupAttachPolicy(target) => groups::attach_policy(rooms, &target),
        Request::ThingGroupDetachPolicy(target) => groups::detach_policy(rooms, &target),
        Request::ThingTypeCreate(create) => things::create_type(rooms, create),
        Request::ThingTypeList => Ok(things::list_types(rooms)),
        Request::ThingTypeDescribe(named) => things::describe_type(rooms, &named.name),
        Request::ThingTypeDeprecate(deprecate) => things::deprecate_type(rooms, &deprecate),
        Request::ThingTypeDelete(named) => things::delete_type(rooms, &named.name),
        other => Err(Failure::new(
            "unsupported",
            format!("{other:?} is not known here"),
        )),
    }
}
