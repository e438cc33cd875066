//! The variables of `${…}` and of conditions (today's guide, "AWS IoT Core policy variables").

use std::borrow::Cow;

use crate::context::Context;

/// Longest value that is put in place of a variable, in characters.
const MAX_VALUE_CHARACTERS: usize = 1024;

/// Characters that keep a certificate's value from being put in place of its variable.
const CERTIFICATE_WILDCARDS: [char; 5] = ['*', '$', '+', '?', '#'];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Variable {
    ClientId,
    SourceIp,
    CertificateId,
    ThingName,
    ThingTypeName,
    ThingAttribute(String),
    IsAttached,
    /// `Subject.CommonName`, with the index of the value, from 0.
    CertificateName(String, usize),
    /// `Subject.CommonName.List`
    CertificateList(String),
    SerialNumber,
    AvailableKeys,
    ConnectAttributes,
    LastWillTopic,
    DomainName,
    SecureTransport,
    CurrentTime,
    EpochTime,
    /// A name that this gateway has no value for, ever.
    Unknown(String),
}

/// The values of a condition's key.
pub(crate) enum Values<'c> {
    Missing,
    One(Cow<'c, str>),
    Names(&'c [String]),
    Words(&'c [&'c str]),
    Owned(Vec<String>),
}

impl Values<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Missing => 0,
            Self::One(_) => 1,
            Self::Names(v) => v.len(),
            Self::Words(v) => v.len(),
            Self::Owned(v) => v.len(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(move |i| match self {
            Self::Missing => None,
            Self::One(v) => Some(&**v),
            Self::Names(v) => v.get(i).map(String::as_str),
            Self::Words(v) => v.get(i).copied(),
            Self::Owned(v) => v.get(i).map(String::as_str),
        })
    }
}

fn known_attribute(name: &str) -> bool {
    const ATTRIBUTES: [&str; 13] = [
        "DistinguishedNameQualifier",
        "Country",
        "Organization",
        "OrganizationalUnit",
        "State",
        "CommonName",
        "SerialNumber",
        "Title",
        "Surname",
        "GivenName",
        "Initials",
        "Pseudonym",
        "GenerationQualifier",
    ];
    const ALTERNATIVE: [&str; 5] = [
        "RFC822Name",
        "DNSName",
        "DirectoryName",
        "UniformResourceIdentifier",
        "IPAddress",
    ];
    let Some((side, attribute)) = name.split_once('.') else {
        return false;
    };
    if !side.eq_ignore_ascii_case("Subject") && !side.eq_ignore_ascii_case("Issuer") {
        return false;
    }
    let is = |list: &[&str], x: &str| list.iter().any(|a| a.eq_ignore_ascii_case(x));
    match attribute.split_once('.') {
        None => is(&ATTRIBUTES, attribute),
        Some((first, rest)) => {
            first.eq_ignore_ascii_case("AlternativeName") && is(&ALTERNATIVE, rest)
        }
    }
}

fn certificate_variable(name: &str) -> Option<Variable> {
    if known_attribute(name) {
        return Some(Variable::CertificateName(name.to_owned(), 0));
    }
    let (base, suffix) = name.rsplit_once('.')?;
    if !known_attribute(base) {
        return None;
    }
    if suffix.eq_ignore_ascii_case("List") {
        return Some(Variable::CertificateList(base.to_owned()));
    }
    // `.1` is the second value, as the guide's worked sentence has it.
    let index = suffix.parse().ok()?;
    Some(Variable::CertificateName(base.to_owned(), index))
}

impl Variable {
    /// Key names are compared without letter case, as in IAM; names of attributes with it.
    pub(crate) fn parse(name: &str) -> Self {
        const ATTRIBUTE: &str = "iot:connection.thing.attributes[";
        const CERTIFICATE: &str = "iot:certificate.";
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "iot:clientid" => return Self::ClientId,
            "aws:sourceip" => return Self::SourceIp,
            "iot:certificateid" => return Self::CertificateId,
            // The second spelling stands in the guide's examples for registered devices.
            "iot:connection.thing.thingname" | "iot:thing.thingname" => return Self::ThingName,
            "iot:connection.thing.thingtypename" => return Self::ThingTypeName,
            "iot:connection.thing.isattached" => return Self::IsAttached,
            "iot:certificate.serialnumber" => return Self::SerialNumber,
            "iot:certificate.availablekeys" => return Self::AvailableKeys,
            "iot:connectattributes" => return Self::ConnectAttributes,
            "iot:lastwilltopic" => return Self::LastWillTopic,
            "iot:domainname" => return Self::DomainName,
            "aws:securetransport" => return Self::SecureTransport,
            "aws:currenttime" => return Self::CurrentTime,
            "aws:epochtime" => return Self::EpochTime,
            _ => {}
        }
        // Lower-casing ASCII keeps every byte's place.
        if lower.starts_with(ATTRIBUTE) && lower.ends_with(']') {
            let attribute = name.get(ATTRIBUTE.len()..name.len() - 1).unwrap_or("");
            return Self::ThingAttribute(attribute.to_owned());
        }
        if lower.starts_with(CERTIFICATE) {
            let rest = name.get(CERTIFICATE.len()..).unwrap_or("");
            if let Some(variable) = certificate_variable(rest) {
                return variable;
            }
        }
        Self::Unknown(name.to_owned())
    }

    /// Whether its value changes by itself.
    pub(crate) fn is_time(&self) -> bool {
        matches!(self, Self::CurrentTime | Self::EpochTime)
    }

    /// The text that takes the variable's place in a pattern; `None` leaves it unresolved.
    pub(crate) fn text<'c>(&self, context: &'c Context<'_>) -> Option<Cow<'c, str>> {
        let value = self.single(context)?;
        let from_certificate = matches!(self, Self::CertificateName(..) | Self::SerialNumber);
        if from_certificate && value.contains(CERTIFICATE_WILDCARDS) {
            return None;
        }
        // Only a text with more bytes can have more characters.
        if value.len() > MAX_VALUE_CHARACTERS && value.chars().count() > MAX_VALUE_CHARACTERS {
            return None;
        }
        Some(value)
    }

    fn single<'c>(&self, context: &'c Context<'_>) -> Option<Cow<'c, str>> {
        let attached = || context.connected_thing().filter(|t| t.attached);
        let borrowed: &'c str = match self {
            Self::ClientId => Some(context.client_id).filter(|c| !c.is_empty())?,
            Self::CertificateId => context.certificate_id?,
            Self::ThingName => attached()?.name,
            Self::ThingTypeName => attached()?.thing_type?,
            Self::ThingAttribute(name) => {
                let (_, value) = attached()?.attributes.iter().find(|(n, _)| n == name)?;
                value
            }
            Self::CertificateName(name, index) => context.certificate?.values(name).get(*index)?,
            Self::SerialNumber => context.certificate?.serial_number()?,
            Self::IsAttached => {
                if context.transport != crate::Transport::Mqtt {
                    return None;
                }
                if attached().is_some() {
                    "true"
                } else {
                    "false"
                }
            }
            Self::DomainName => context.domain_name?,
            Self::SecureTransport => match context.secure? {
                true => "true",
                false => "false",
            },
            Self::EpochTime => return Some(context.now?.seconds().to_string().into()),
            Self::CurrentTime => return Some(crate::operand::date_text(context.now?).into()),
            Self::SourceIp => return Some(context.source_ip?.to_canonical().to_string().into()),
            Self::LastWillTopic => {
                let topic = context.connect?.last_will_topic?;
                return Some(context.scope.arn("topic", topic).as_str().to_owned().into());
            }
            Self::CertificateList(_)
            | Self::AvailableKeys
            | Self::ConnectAttributes
            | Self::Unknown(_) => return None,
        };
        Some(Cow::Borrowed(borrowed))
    }

    /// The values that a condition compares.
    pub(crate) fn values<'c>(&self, context: &'c Context<'_>) -> Values<'c> {
        match self {
            Self::CertificateList(name) => match context.certificate {
                Some(names) => Values::Names(names.values(name)),
                None => Values::Missing,
            },
            Self::ConnectAttributes => match context.connect {
                Some(connect) => Values::Words(connect.attributes),
                None => Values::Missing,
            },
            Self::AvailableKeys => match context.certificate {
                Some(names) => Values::Owned(
                    names
                        .keys()
                        .map(|k| format!("iot:Certificate.{k}"))
                        .chain(
                            names
                                .serial_number()
                                .map(|_| "iot:Certificate.SerialNumber".to_owned()),
                        )
                        .collect(),
                ),
                None => Values::Missing,
            },
            single => single.single(context).map_or(Values::Missing, Values::One),
        }
    }
}
