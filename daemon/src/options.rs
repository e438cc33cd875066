//! The command line of `iotedged`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::DEFAULT_FILE;

/// AWS IoT at the edge: broker, policies, shadows, rules and bridge in one daemon.
#[derive(Debug, Parser)]
#[command(name = "iotedged", version, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE, conflicts_with = "dev")]
    pub config: PathBuf,
    /// Try it out without a configuration: own CA, one device, loopback only
    #[arg(long)]
    pub dev: bool,
    /// Where --dev keeps everything
    #[arg(
        long,
        value_name = "DIR",
        default_value = "./iotedge-data",
        requires = "dev"
    )]
    pub data_dir: PathBuf,
}

/// What it can do beside running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say what is wrong with a configuration, its policies and its rules
    Check {
        /// The configuration
        #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
        config: PathBuf,
    },
}
