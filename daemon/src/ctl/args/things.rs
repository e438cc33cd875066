//! `iotedgectl thing ...`, `iotedgectl thing-type ...`.

use clap::{Args, Subcommand};
use iotedge_model::{CertificateId, ThingName, ThingTypeName};

use super::{attribute, certificate, thing};

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum Thing {
    /// Make a thing
    Create {
        /// Its name
        #[arg(value_parser = thing)]
        name: ThingName,
        /// Its type
        #[arg(long = "type", value_name = "TYPE", value_parser = thing_type)]
        thing_type: Option<ThingTypeName>,
        /// An attribute: at most 3, with a type 50
        #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
        attributes: Vec<(String, String)>,
    },
    /// All things, or those that are looked for
    List(ThingQuery),
    /// One thing, with its attributes and certificates
    Describe(ThingArg),
    /// Change a thing's attributes or type
    Update(ThingUpdate),
    /// Delete a thing that no certificate is attached to
    Delete {
        #[command(flatten)]
        thing: ThingArg,
        /// Only when it has this version
        #[arg(long, value_name = "N")]
        expected_version: Option<u64>,
    },
    /// Attach a certificate to a thing
    Attach(Principal),
    /// Detach a certificate from a thing
    Detach(Principal),
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct ThingArg {
    /// Its name
    #[arg(value_parser = thing)]
    pub(in crate::ctl) name: ThingName,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct ThingQuery {
    /// Only those of this type
    #[arg(long = "type", value_name = "TYPE", value_parser = thing_type)]
    pub(in crate::ctl) thing_type: Option<ThingTypeName>,
    /// Only those with this attribute, or with this value of it
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(in crate::ctl) attribute: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct ThingUpdate {
    /// Its name
    #[arg(value_parser = thing)]
    pub(in crate::ctl) name: ThingName,
    /// Set an attribute
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    pub(in crate::ctl) attributes: Vec<(String, String)>,
    /// Remove an attribute
    #[arg(long, value_name = "NAME", conflicts_with = "replace")]
    pub(in crate::ctl) remove: Vec<String>,
    /// Let the thing have the given attributes and no others
    #[arg(long)]
    pub(in crate::ctl) replace: bool,
    /// Give it this type
    #[arg(long = "type", value_name = "TYPE", value_parser = thing_type, conflicts_with = "no_type")]
    pub(in crate::ctl) thing_type: Option<ThingTypeName>,
    /// Take its type away
    #[arg(long)]
    pub(in crate::ctl) no_type: bool,
    /// Only when it has this version
    #[arg(long, value_name = "N")]
    pub(in crate::ctl) expected_version: Option<u64>,
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct Principal {
    /// The thing
    #[arg(value_parser = thing)]
    pub(in crate::ctl) name: ThingName,
    /// Certificate id or ARN
    #[arg(value_name = "CERT", value_parser = certificate)]
    pub(in crate::ctl) certificate: CertificateId,
}

#[derive(Debug, Subcommand)]
pub(in crate::ctl) enum ThingType {
    /// Make a thing type; it never changes
    Create {
        /// Its name
        #[arg(value_parser = thing_type)]
        name: ThingTypeName,
        /// What it is
        #[arg(long)]
        description: Option<String>,
        /// An attribute that things of the type are looked for by: at most 3
        #[arg(long, value_name = "NAME")]
        searchable: Vec<String>,
    },
    /// All thing types
    List,
    /// One thing type
    Describe(TypeArg),
    /// Let no thing get it any more
    Deprecate(TypeArg),
    /// Undo deprecate
    #[command(visible_alias = "undo-deprecate")]
    Undo(TypeArg),
    /// Delete a type that no thing has, five minutes after it was deprecated
    Delete(TypeArg),
}

#[derive(Debug, Args)]
pub(in crate::ctl) struct TypeArg {
    /// Its name
    #[arg(value_parser = thing_type)]
    pub(in crate::ctl) name: ThingTypeName,
}

fn thing_type(text: &str) -> Result<ThingTypeName, iotedge_model::NameError> {
    ThingTypeName::new(text)
}
