//! `iotedgectl policy ...`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use iotedge_model::{CertificateId, Topic};

use super::{certificate, topic};

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Policy {
    /// Make a policy of a policy document
    Create {
        /// Its name
        name: String,
        /// The document; `-` reads standard input
        file: PathBuf,
        /// Make a new default version when the policy is there; the oldest of five versions goes
        #[arg(long)]
        replace: bool,
    },
    /// All policies
    List,
    /// The document that is in force
    Show {
        /// Its name
        name: String,
    },
    /// Delete a policy that is attached to nothing
    Delete {
        /// Its name
        name: String,
    },
    /// Versions of a policy: at most five, of which one is in force
    #[command(subcommand)]
    Version(Version),
    /// Attach a policy to a certificate
    Attach(PolicyTarget),
    /// Detach a policy from a certificate
    Detach(PolicyTarget),
    /// Say whether a principal may do something, and which statement says so
    Explain(Explain),
    /// Evaluate a request of a file, without a daemon: allow, deny or invalid
    Test {
        /// JSON with policies, principal, client_id, action, resource; `-` reads standard input
        #[arg(long, value_name = "FILE")]
        request: PathBuf,
        /// Region in resource ARNs
        #[arg(long, default_value = "us-east-1")]
        region: String,
        /// Account in resource ARNs
        #[arg(long, default_value = "123456789012")]
        account_id: String,
    },
    /// Say what is wrong with or odd about a policy document, without a daemon
    Lint {
        /// The document; `-` reads standard input
        file: PathBuf,
        /// The gateway's region: resources of others can never match
        #[arg(long, requires = "account_id")]
        region: Option<String>,
        /// The gateway's account
        #[arg(long, requires = "region")]
        account_id: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Version {
    /// Add a version
    Create {
        /// The policy's name
        name: String,
        /// The document; `-` reads standard input
        file: PathBuf,
        /// Put it in force at once
        #[arg(long)]
        set_default: bool,
    },
    /// All versions
    List {
        /// The policy's name
        name: String,
    },
    /// The document of a version
    Show(VersionArg),
    /// Put a version in force
    SetDefault(VersionArg),
    /// Delete a version that is not in force
    Delete(VersionArg),
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct VersionArg {
    /// The policy's name
    pub(in crate::ctl) name: String,
    /// The version's number
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::ctl) version: u64,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct PolicyTarget {
    /// The policy's name
    pub(in crate::ctl) name: String,
    /// Certificate id or ARN
    #[arg(value_name = "CERT", value_parser = certificate)]
    pub(in crate::ctl) certificate: CertificateId,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::ctl) struct Who {
    /// Who asks: a certificate, by its id or ARN
    #[arg(long, value_name = "ID", value_parser = certificate)]
    pub(in crate::ctl) cert: Option<CertificateId>,
    /// Who asks: a user of the configuration
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) user: Option<String>,
    /// Who asks: whoever comes by this listener without proof, by its address as configured
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::ctl) listener: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct Explain {
    #[command(flatten)]
    pub(in crate::ctl) who: Who,
    /// The client id that it would connect with; empty for HTTP
    #[arg(long)]
    pub(in crate::ctl) client_id: String,
    /// For example iot:Publish
    #[arg(long)]
    pub(in crate::ctl) action: String,
    /// Topic, filter, client id or thing name
    #[arg(long)]
    pub(in crate::ctl) resource: String,
    /// The client's address
    #[arg(long)]
    pub(in crate::ctl) source_ip: Option<IpAddr>,
    /// With iot:Connect: the session outlives the connection
    #[arg(long)]
    pub(in crate::ctl) persistent: bool,
    /// With iot:Connect: the will's topic
    #[arg(long, value_name = "TOPIC", value_parser = topic)]
    pub(in crate::ctl) will: Option<Topic>,
    /// The server name that the client asks for in its TLS handshake
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) domain_name: Option<String>,
    /// The client comes without TLS
    #[arg(long)]
    pub(in crate::ctl) plain: bool,
}
