//! `iotedgectl ca` and `iotedgectl clock`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;
use iotedge_model::UnixMillis;

use super::args::CertId;
use super::protocol::{self as p, CaInfo, CaRotated, ClockInfo, RegistrationCode, Request};
use super::run::Session;
use super::show::fields;
use super::text::{table, time};
use super::{CtlError, offline};

#[derive(Debug, Subcommand)]
pub(super) enum Ca {
    /// The gateway's own CA, the one from before a rotation, and registered ones
    List,
    /// One of them, with its certificate
    Describe(CertId),
    /// The common name that a verification certificate must have
    RegistrationCode {
        /// Make another one
        #[arg(long)]
        new: bool,
    },
    /// Register a CA: devices with its certificates can be registered
    Register {
        /// Its PEM file
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// A certificate that it signed, with the registration code as common name
        #[arg(long, value_name = "FILE")]
        verification: PathBuf,
        /// Switch it on at once
        #[arg(long)]
        activate: bool,
        /// Let devices register themselves when they first connect
        #[arg(long)]
        auto_registration: bool,
    },
    /// Let certificates that it signed be registered
    Activate(CertId),
    /// Register nothing more that it signed; what is registered goes on
    Deactivate(CertId),
    /// Whether devices register themselves when they first connect
    AutoRegistration {
        #[command(flatten)]
        ca: CertId,
        /// on or off
        #[arg(value_parser = switch, action = clap::ArgAction::Set)]
        state: bool,
    },
    /// Forget an inactive registered CA
    Delete(CertId),
    /// Put a new CA in the place of the gateway's own; the old one counts until it is dropped
    Rotate,
    /// Forget the CA from before the rotation
    Drop {
        /// Revoke all that it signed
        #[arg(long)]
        revoke: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Clock {
    /// What it says, whether that can be believed, and why
    Show,
    /// Take the system's clock for right, whatever was known before
    Trust,
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("on or off"),
    }
}

impl Ca {
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<(), CtlError> {
        let named = |ca: &CertId| p::Certificate { id: ca.id.clone() };
        let update = |ca: &CertId, active, auto_registration| {
            Request::CaUpdate(p::CaUpdate {
                id: ca.id.clone(),
                active,
                auto_registration,
            })
        };
        match self {
            Self::List => session.ask_and_list(&Request::CaList, list),
            Self::Describe(ca) => session.ask_and_show(&Request::CaDescribe(named(ca)), one),
            Self::RegistrationCode { new } => {
                let code = p::CaRegistrationCode { anew: *new };
                session.ask_and_show(&Request::CaRegistrationCode(code), registration_code)
            }
            Self::Register {
                pem,
                verification,
                activate,
                auto_registration,
            } => {
                let register = p::CaRegister {
                    pem: offline::read_text(pem)?,
                    verification: offline::read_text(verification)?,
                    active: *activate,
                    auto_registration: *auto_registration,
                };
                session.ask_and_show(&Request::CaRegister(register), one)
            }
            Self::Activate(ca) => session.ask_and_show(&update(ca, Some(true), None), status),
            Self::Deactivate(ca) => session.ask_and_show(&update(ca, Some(false), None), status),
            Self::AutoRegistration { ca, state } => {
                session.ask_and_show(&update(ca, None, Some(*state)), status)
            }
            Self::Delete(ca) => session.ask_and_say(&Request::CaDelete(named(ca)), "deleted"),
            Self::Rotate => session.ask_and_show(&Request::CaRotate, rotated),
            Self::Drop { revoke } => {
                let request = Request::CaDrop(p::CaDrop { revoke: *revoke });
                session.ask_and_list(&request, dropped)
            }
        }
    }
}

impl Clock {
    pub(super) fn run(&self, session: &mut Session<'_>) -> Result<(), CtlError> {
        let request = match self {
            Self::Show => Request::ClockShow,
            Self::Trust => Request::ClockTrust,
        };
        session.ask_and_show(&request, clock)
    }
}

fn row(ca: &CaInfo) -> [String; 6] {
    [
        ca.certificate_id.clone(),
        ca.kind.clone(),
        ca.status.clone(),
        ca.auto_registration_status.clone(),
        ca.certificates.to_string(),
        ca.subject.clone(),
    ]
}

fn list(all: &[CaInfo], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = all.iter().map(row).collect();
    let header = ["CA", "KIND", "STATUS", "AUTO", "SIGNED", "SUBJECT"];
    table(out, header, &rows, "no CAs")
}

fn one(ca: &CaInfo, out: &mut dyn Write) -> io::Result<()> {
    let seconds = |s: i64| time(UnixMillis(u64::try_from(s).unwrap_or(0) * 1000));
    let mut lines = vec![
        ("ca", ca.certificate_id.clone()),
        ("arn", ca.certificate_arn.clone()),
        ("kind", ca.kind.clone()),
        ("status", ca.status.clone()),
        ("registration", ca.auto_registration_status.clone()),
        ("subject", ca.subject.clone()),
        ("valid from", seconds(ca.not_before)),
        ("valid to", seconds(ca.not_after)),
        ("signed", ca.certificates.to_string()),
    ];
    if let Some(since) = ca.creation_date {
        lines.push(("here since", time(since)));
    }
    fields(out, &lines)?;
    match &ca.certificate_pem {
        Some(pem) => writeln!(out, "{}", pem.trim_end()),
        None => Ok(()),
    }
}

fn status(ca: &CaInfo, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{} {}, auto-registration {}",
        ca.certificate_id, ca.status, ca.auto_registration_status
    )
}

fn registration_code(code: &RegistrationCode, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}", code.registration_code)
}

fn rotated(rotated: &CaRotated, out: &mut dyn Write) -> io::Result<()> {
    list(&rotated.authorities, out)?;
    let advice = match rotated.crossed {
        true => "clients that trust the old CA go on; give them the new one before you drop it:",
        false => {
            "THE OLD CA MAY NOT SIGN ANOTHER: clients that trust it alone no longer trust this gateway. \
             Give them the new one:"
        }
    };
    writeln!(out, "{advice}\n{}", rotated.ca_pem.trim_end())
}

fn dropped(revoked: &[String], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "dropped; {} certificates revoked", revoked.len())?;
    revoked.iter().try_for_each(|id| writeln!(out, "  {id}"))
}

fn clock(clock: &ClockInfo, out: &mut dyn Write) -> io::Result<()> {
    let trusted = if clock.trusted { "yes" } else { "no" };
    fields(
        out,
        &[
            ("time", time(clock.time)),
            ("trusted", trusted.into()),
            ("basis", clock.basis.clone()),
            ("not before", time(clock.last_known_time)),
        ],
    )
}
