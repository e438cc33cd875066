//! `iotedgectl dead-letters ...`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum DeadLetters {
    /// What is kept, oldest first
    List {
        /// Only of this queue: RULE/N or RULE/error of a rule's action, UPSTREAM/ROUTE of a route;
        /// a rule's or an upstream's name is all of its queues
        #[arg(long, value_name = "NAME")]
        queue: Option<String>,
        /// Only those behind this number
        #[arg(long, value_name = "ID")]
        after: Option<u64>,
        /// At most so many
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100,
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// One of them, with what would be sent
    Show {
        /// Its number
        id: u64,
    },
    /// Put back into their queues, behind what waits there
    Replay(Chosen),
    /// Remove for good
    Drop(Chosen),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(in crate::ctl) struct Chosen {
    /// Their numbers
    #[arg(conflicts_with_all = ["queue", "all"])]
    pub(in crate::ctl) ids: Vec<u64>,
    /// All of this queue, as `list` has it
    #[arg(long, value_name = "NAME")]
    pub(in crate::ctl) queue: Option<String>,
    /// All of them
    #[arg(long, conflicts_with = "queue")]
    pub(in crate::ctl) all: bool,
}
