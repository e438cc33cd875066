//! From the command line to the end of the process.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use iotedge_telemetry::event;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{self, Config};
use crate::dev;
use crate::documents;
use crate::house::{self, House};
use crate::options::{Command, Options};

/// Exit code for a configuration that cannot be used.
const BAD_CONFIGURATION: u8 = 1;

/// `iotedged`.
pub fn main(args: Vec<std::ffi::OsString>) -> ExitCode {
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            // There is nowhere else to say that stderr is closed.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if let Some(Command::Check { config }) = options.command {
        return check(&config);
    }
    let loaded = if options.dev {
        Ok(Config::dev(&options.data_dir))
    } else {
        config::load(&options.config).map_err(|errors| lines(errors.problems()))
    };
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => return refuse(&problems),
    };
    if let Err(error) = iotedge_telemetry::init(config.log.format, &config.log.level) {
        return refuse(&[error.to_string()]);
    }
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Commands that wait for a commit; handshakes and messages never come here.
        .max_blocking_threads(8)
        // How many turns of connections come between two looks at the sockets. With the default of 61
        // the acknowledgements of one client wait behind a turn of each of many publishers.
        .event_interval(16)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(config, options.dev)),
        Err(error) => refuse(&[format!("cannot start: {error}")]),
    }
}

/// A connection is a file: as many as the system allows, not the shell's default of 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

fn lines<T: ToString>(problems: &[T]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn refuse(problems: &[String]) -> ExitCode {
    for problem in problems {
        eprintln!("iotedged: {problem}");
    }
    ExitCode::from(BAD_CONFIGURATION)
}

fn check(file: &Path) -> ExitCode {
    let problems = match config::load(file) {
        Ok(config) => match documents::read(&config).and_then(|_| house::check_files(&config)) {
            Ok(()) => {
                println!("{}: good", file.display());
                return ExitCode::SUCCESS;
            }
            Err(problems) => problems,
        },
        Err(errors) => lines(errors.problems()),
    };
    for problem in problems {
        eprintln!("{problem}");
    }
    ExitCode::from(BAD_CONFIGURATION)
}

async fn run(config: Config, dev: bool) -> ExitCode {
    let signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return refuse(&[format!("cannot listen to signals: {error}")]),
    };
    let house = match House::open(config, dev).await {
        Ok(house) => house,
        Err(problems) => return refuse(&problems),
    };
    tracing::info!(
        event = event::LIFECYCLE,
        "iotedged {} is ready",
        env!("CARGO_PKG_VERSION")
    );
    notify(&[sd_notify::NotifyState::Ready]);
    if dev {
        let text = dev::how_to_connect(house.config());
        // A closed stdout is no reason to stop.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    give_back();
    let code = wait(&house, signals).await;
    notify(&[sd_notify::NotifyState::Stopping]);
    house.stop().await;
    tracing::info!(event = event::LIFECYCLE, "stopped");
    code
}

/// What only the start needed is most of the code that was run. Without it the gateway is larger.
fn give_back() {
    match iotedge_pages::give_back_code() {
        Ok(bytes) => tracing::debug!(
            event = event::LIFECYCLE,
            bytes,
            "gave back code of the start"
        ),
        Err(error) => tracing::debug!(event = event::LIFECYCLE, "code of the start stays: {error}"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// How often sessions are looked at, and the watchdog is told when it asks no more often.
const TICK: Duration = Duration::from_secs(1);

/// When what comes with a start is over, too: first connections, sweeps, what a first start makes.
const SETTLED: Duration = Duration::from_secs(20);

/// Until the daemon is to stop.
async fn wait(house: &House, mut signals: Signals) -> ExitCode {
    let period = sd_notify::watchdog_enabled().map_or(TICK, |watchdog| TICK.min(watchdog / 3));
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let settled = tokio::time::sleep(SETTLED);
    tokio::pin!(settled);
    let mut settling = true;
    loop {
        tokio::select! {
            () = &mut settled, if settling => {
                settling = false;
                give_back();
            }
            _ = signals.terminate.recv() => return ExitCode::SUCCESS,
            _ = signals.interrupt.recv() => return ExitCode::SUCCESS,
            _ = signals.hangup.recv() => {
                notify(&[sd_notify::NotifyState::Reloading]);
                match house.reload().await {
                    Ok(changes) => {
                        tracing::info!(event = event::RELOAD, "reloaded: {}", changes.join("; "));
                    }
                    Err(problems) => {
                        for problem in problems {
                            tracing::error!(event = event::RELOAD, "not reloaded: {problem}");
                        }
                    }
                }
                notify(&[sd_notify::NotifyState::Ready]);
            }
            reason = house.failed() => {
                tracing::error!(
                    event = event::LIFECYCLE,
                    "the store has failed and the daemon ends, to be started again: {reason}"
                );
                return ExitCode::FAILURE;
            }
            _ = tick.tick() => {
                house.tick();
                // The lock of the broker was free: nothing is stuck.
                notify(&[sd_notify::NotifyState::Watchdog]);
            }
        }
    }
}

/// Tells systemd, where it listens.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
