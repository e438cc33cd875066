//! The command line of `iotedgectl`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use iotedge_model::{CertificateId, QoS, ShadowName, ThingName, Topic, TopicFilter};

mod dead_letters;
mod groups;
mod policy;
mod things;

pub(super) use dead_letters::{Chosen, DeadLetters};
pub(super) use groups::{GroupArg, GroupPolicy, Member, ThingGroup};
pub(super) use policy::{Explain, Policy, PolicyTarget, Version, VersionArg};
pub(super) use things::{Principal, Thing, ThingArg, ThingType, ThingUpdate, TypeArg};

use super::authorities::{Ca, Clock};

/// Talks to the running gateway.
#[derive(Debug, Parser)]
#[command(
    name = "iotedgectl",
    version,
    about = "Talks to the running IoT edge gateway",
    after_help = "Exit codes: 0 done, 1 refused or failed, 2 wrong usage.",
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct Arguments {
    /// Control socket [default: $IOTEDGE_SOCKET, /run/iotedge/control.sock, then
    /// ./iotedge-data/control.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Listeners, clients, sessions, queues, upstreams and drops on one screen
    Status,
    /// Client certificates
    #[command(subcommand)]
    Cert(Cert),
    /// Certificate authorities: the gateway's own, and registered ones
    #[command(subcommand)]
    Ca(Ca),
    /// The gateway's clock
    #[command(subcommand)]
    Clock(Clock),
    /// Policies
    #[command(subcommand)]
    Policy(Policy),
    /// The registry of things
    #[command(subcommand)]
    Thing(Thing),
    /// Types of things
    #[command(subcommand)]
    ThingType(ThingType),
    /// Groups of things, with policies of their own
    #[command(subcommand)]
    ThingGroup(ThingGroup),
    /// Device shadows
    #[command(subcommand)]
    Shadow(Shadow),
    /// Topic rules
    #[command(subcommand)]
    Rule(Rule),
    /// Upstreams
    #[command(subcommand)]
    Bridge(Bridge),
    /// Messages that a rule's action or an upstream never takes
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Publish one message
    Publish(Publish),
    /// Print the messages of a filter as they come
    Subscribe(Subscribe),
    /// Read configuration, policies and rules again
    Reload,
    /// Print the argon2 hash of a password read from standard input, for [[user]]; needs no daemon
    Password,
}

#[derive(Debug, Subcommand)]
pub(super) enum Cert {
    /// Make a certificate signed by the gateway's CA: NAME.pem, NAME.key, ca.pem
    Create {
        /// Its subject's common name, and the name of the files
        #[arg(long, required_unless_present = "csr")]
        name: Option<String>,
        /// Sign this certificate signing request (PEM): its key stays where it is
        #[arg(long, value_name = "FILE")]
        csr: Option<PathBuf>,
        /// Attach this policy; without one the certificate may do nothing
        #[arg(long = "policy", value_name = "POLICY")]
        policies: Vec<String>,
        /// Attach it to this thing, which is made when it is missing
        #[arg(long, value_parser = thing)]
        thing: Option<ThingName>,
        /// Folder of the files
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Register a certificate made elsewhere
    Register {
        /// Its PEM file
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// The registered CA that signed it, where several have its key: PEM file or id
        #[arg(long, value_name = "CA")]
        ca: Option<String>,
        /// What to call it [default: its common name]
        #[arg(long)]
        name: Option<String>,
        /// Attach this policy
        #[arg(long = "policy", value_name = "POLICY")]
        policies: Vec<String>,
        /// Register it as inactive
        #[arg(long)]
        inactive: bool,
    },
    /// All certificates
    List {
        /// Only those that this CA signed: PEM file or id
        #[arg(long, value_name = "CA")]
        ca: Option<String>,
    },
    /// One certificate, with its policies and things
    Describe(CertId),
    /// Let it connect
    Activate(CertId),
    /// Keep it out until it is activated again
    Deactivate(CertId),
    /// Keep it out for ever
    Revoke(CertId),
    /// Forget one that cannot connect and has no policies and things
    Delete(CertId),
    /// Not possible here: says what to do instead
    Transfer {
        #[command(flatten)]
        certificate: CertId,
        /// The other account
        #[arg(long, value_name = "ACCOUNT")]
        to: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(super) struct CertId {
    /// Certificate id: 64 hex digits
    #[arg(value_name = "CERT", value_parser = certificate)]
    pub(super) id: CertificateId,
}

#[derive(Debug, Subcommand)]
pub(super) enum Shadow {
    /// Print a shadow document
    Get(ShadowArg),
    /// Update a shadow
    Update {
        #[command(flatten)]
        shadow: ShadowArg,
        /// The request document, as a device would send it; `-` reads standard input
        document: String,
    },
    /// Delete a shadow
    Delete(ShadowArg),
    /// List a thing's shadows, or all things that have one
    List {
        /// Thing
        #[arg(value_parser = thing)]
        thing: Option<ThingName>,
    },
    /// What could not be kept together with the cloud, and what was overwritten, oldest first
    Conflicts {
        /// Forget all of them
        #[arg(long)]
        clear: bool,
    },
    /// Print each new state of a thing's shadows as it comes, and deletions, until interrupted
    Watch {
        #[command(flatten)]
        shadow: ShadowArg,
        /// End after so many
        #[arg(short = 'n', value_name = "COUNT")]
        count: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub(super) struct ShadowArg {
    /// The thing
    #[arg(value_parser = thing)]
    pub(super) thing: ThingName,
    /// A named shadow instead of the classic one
    #[arg(long, value_parser = shadow_name)]
    pub(super) name: Option<ShadowName>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Rule {
    /// Make a rule of a topicRulePayload document
    Create {
        /// Its name
        name: String,
        /// The document; `-` reads standard input
        file: PathBuf,
    },
    /// Replace a rule that was made by command
    Replace {
        /// Its name
        name: String,
        /// The document; `-` reads standard input
        file: PathBuf,
    },
    /// All rules
    List,
    /// A rule's document
    Show(RuleArg),
    /// Let a rule run
    Enable(RuleArg),
    /// Keep a rule, but do not let it run
    Disable(RuleArg),
    /// Delete a rule that was made by command
    Delete(RuleArg),
    /// Evaluate a statement for one message, without a daemon and without side effects
    Test(RuleTest),
}

#[derive(Debug, Args)]
pub(super) struct RuleArg {
    /// Its name
    pub(super) name: String,
}

#[derive(Debug, Args)]
pub(super) struct RuleTest {
    /// The statement
    #[arg(long)]
    pub(super) sql: String,
    /// The message's topic
    #[arg(long)]
    pub(super) topic: String,
    /// File with the message's payload; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(super) payload: PathBuf,
    /// Version of the statement
    #[arg(long, value_name = "VERSION")]
    pub(super) sql_version: Option<String>,
    /// The publisher's client id
    #[arg(long, default_value = "")]
    pub(super) client_id: String,
    /// Evaluate this substitution template and print its string
    #[arg(long)]
    pub(super) template: Option<String>,
    /// Print what each part of the statement is for this message
    #[arg(long)]
    pub(super) explain: bool,
    /// JSON file: account_id, via, certificate_thumbprint, rule_name, source_ip, properties,
    /// shadows, things
    #[arg(long, value_name = "FILE")]
    pub(super) context: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Bridge {
    /// Upstreams with their state, and the accounts of their routes
    Status,
    /// What waits in the queues
    #[command(after_help = "Example: iotedgectl bridge queue --upstream cloud --peek 5")]
    Queue {
        /// Only this upstream
        #[arg(long)]
        upstream: Option<String>,
        /// With the first COUNT messages of each: when accepted, topic, bytes, QoS and client
        #[arg(long, value_name = "COUNT", default_value_t = 0,
              value_parser = clap::value_parser!(u32).range(0..=100))]
        peek: u32,
    },
    /// Connect once, layer by layer, and name the one that fails; a working link is dropped meanwhile
    #[command(
        after_help = "Connects outside windows, over budget and while paused, too.\n\
                            Examples: iotedgectl bridge test cloud\n          \
                            iotedgectl bridge test cloud --publish site7/test"
    )]
    Test {
        /// Its name
        upstream: String,
        /// Publish an empty message to this topic of the upstream, with QoS 1: what a policy says of
        /// publishing shows in no other way
        #[arg(long, value_name = "TOPIC")]
        publish: Option<String>,
    },
    /// Messages that an upstream never takes
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Stop sending to and receiving from an upstream, over restarts; its queue goes on filling
    #[command(after_help = "Example: iotedgectl bridge pause cloud")]
    Pause {
        /// Its name
        upstream: String,
    },
    /// Undo pause; a link that waits for its next try begins it at once
    #[command(after_help = "Example: iotedgectl bridge resume cloud")]
    Resume {
        /// Its name
        upstream: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// Where to
    #[arg(value_parser = topic)]
    pub(super) topic: Topic,
    /// What; `-` reads standard input
    #[arg(allow_negative_numbers = true)]
    pub(super) payload: OsString,
    /// Quality of service
    #[arg(short, long, value_parser = qos, default_value = "0")]
    pub(super) qos: QoS,
    /// Keep it as the topic's retained message
    #[arg(short, long)]
    pub(super) retain: bool,
}

#[derive(Debug, Args)]
pub(super) struct Subscribe {
    /// What to hear
    #[arg(value_parser = filter)]
    pub(super) filter: TopicFilter,
    /// Highest quality of service
    #[arg(short, long, value_parser = qos, default_value = "0")]
    pub(super) qos: QoS,
    /// End after so many messages
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
}

pub(super) fn certificate(text: &str) -> Result<CertificateId, &'static str> {
    let id = match text.rsplit_once(":cert/") {
        Some((arn, id)) if arn.starts_with("arn:") => id,
        _ => text,
    };
    CertificateId::parse(&id.to_ascii_lowercase()).ok_or("a certificate id has 64 hex digits")
}

fn thing(text: &str) -> Result<ThingName, iotedge_model::NameError> {
    ThingName::new(text)
}

fn shadow_name(text: &str) -> Result<ShadowName, iotedge_model::NameError> {
    ShadowName::new(text)
}

fn topic(text: &str) -> Result<Topic, iotedge_model::TopicError> {
    Topic::new(text)
}

fn filter(text: &str) -> Result<TopicFilter, iotedge_model::TopicError> {
    TopicFilter::new(text)
}

fn qos(text: &str) -> Result<QoS, &'static str> {
    match text {
        "0" => Ok(QoS::AtMostOnce),
        "1" => Ok(QoS::AtLeastOnce),
        "2" => Ok(QoS::ExactlyOnce),
        _ => Err("QoS is 0, 1 or 2"),
    }
}

fn attribute(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("an attribute is NAME=VALUE"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_makes_sense_to_clap() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_behind_the_command() {
        for line in [
            "iotedgectl --json --socket s shadow get lamp",
            "iotedgectl shadow get lamp --json --socket s",
            "iotedgectl shadow --json get --socket s lamp",
        ] {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert!(arguments.json, "{line}");
            assert_eq!(arguments.socket, Some("s".into()), "{line}");
        }
    }

    #[test]
    fn payloads_may_look_like_numbers_and_flags_stand_anywhere() {
        let line = ["iotedgectl", "publish", "t", "-q", "1", "-r", "-5.5"];
        let Command::Publish(publish) = Arguments::try_parse_from(line).unwrap().command else {
            panic!("not publish");
        };
        assert_eq!(publish.payload, "-5.5");
        assert!(publish.retain);
        assert_eq!(publish.qos, QoS::AtLeastOnce);
    }

    #[test]
    fn wrong_usage_ends_with_2() {
        for line in [
            "iotedgectl",
            "iotedgectl frobnicate",
            "iotedgectl cert",
            "iotedgectl cert create",
            "iotedgectl publish",
            "iotedgectl publish a/# x",
            "iotedgectl publish a x -q 3",
            "iotedgectl subscribe a/#/b",
            "iotedgectl subscribe a -n 0",
            "iotedgectl status --nonsense",
            "iotedgectl cert revoke abc",
            "iotedgectl thing create a/b",
        ] {
            let error = Arguments::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
