//! What the gateway reads out of certificates, of version 1 and 3 alike.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iotedge_model::CertificateId;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::asn1_rs::{Any, FromDer as _, Oid, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{AttributeTypeAndValue, SubjectPublicKeyInfo, X509Name};

use crate::CertificateError;

/// The values of one name of a subject or issuer, by the name that policy variables use.
pub type NameValues = BTreeMap<String, Vec<String>>;

/// What policy variables (`iot:Certificate.*`) can ask of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateFacts {
    /// `CommonName`, `Organization`, ..., `AlternativeName.DNSName`, ...: what stands behind
    /// `iot:Certificate.Subject.`. Values in the certificate's order.
    pub subject: NameValues,
    /// The same of `iot:Certificate.Issuer.`.
    pub issuer: NameValues,
    /// `iot:Certificate.SerialNumber`: upper-case hex digits, two a byte.
    pub serial_number: String,
    /// The subject as one line, for people.
    pub subject_line: String,
    /// The issuer as one line, for people.
    pub issuer_line: String,
    /// Begin of its validity, seconds since 1970.
    pub not_before: i64,
    /// End of its validity, seconds since 1970.
    pub not_after: i64,
}

/// The id of a certificate: the SHA-256 of its DER.
pub fn principal_of(der: &[u8]) -> CertificateId {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    let mut bytes = [0_u8; 32];
    for (to, from) in bytes.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    CertificateId::from_digest(&bytes)
}

/// Reads one certificate out of PEM text.
pub fn certificate_of_pem(pem: &str) -> Result<CertificateDer<'static>, CertificateError> {
    let mut all = certificates_of_pem(pem)?;
    match (all.len(), all.pop()) {
        (1, Some(one)) => Ok(one),
        (n, _) => Err(CertificateError::Several(n)),
    }
}

/// Reads all certificates out of PEM text; at least one.
pub fn certificates_of_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| CertificateError::Malformed(format!("{e:?}")))?;
    if all.is_empty() {
        return Err(CertificateError::NoPem);
    }
    Ok(all)
}

/// One certificate as PEM text (RFC 7468) and nothing else.
pub(crate) fn pem_of(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (at, character) in body.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

/// Parses DER, whatever its version; nothing may follow it.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|e| CertificateError::Malformed(e.to_string()))?;
    if !rest.is_empty() {
        return Err(CertificateError::Malformed(
            "there are bytes behind it".into(),
        ));
    }
    Ok(certificate)
}

/// The public key, as `SubjectPublicKeyInfo`.
pub(crate) fn key_of<'a>(certificate: &X509Certificate<'a>) -> SubjectPublicKeyInfoDer<'a> {
    SubjectPublicKeyInfoDer::from(certificate.tbs_certificate.subject_pki.raw)
}

pub(crate) fn public_key<'a>(key: &SubjectPublicKeyInfo<'a>) -> SubjectPublicKeyInfoDer<'a> {
    SubjectPublicKeyInfoDer::from(key.raw)
}

/// The first common name of a name.
pub(crate) fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    names.find_map(text_of)
}

/// The elements of a SEQUENCE, each with its header.
pub(crate) fn elements_of(sequence: &[u8]) -> Option<Vec<&[u8]>> {
    let (_, outer) = Any::from_der(sequence).ok()?;
    let mut left = outer.data;
    let mut all = Vec::new();
    while !left.is_empty() {
        let (rest, _) = Any::from_der(left).ok()?;
        all.push(left.get(..left.len() - rest.len())?);
        left = rest;
    }
    Some(all)
}

/// A SEQUENCE of these bytes.
pub(crate) fn sequence(contents: &[u8]) -> Vec<u8> {
    element(0x30, contents)
}

/// An element with its header (X.690, 8.1.3).
pub(crate) fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let length = contents.len().to_be_bytes();
    let zeros = length.iter().take_while(|b| **b == 0).count();
    let digits = length.get(zeros..).unwrap_or_default();
    match digits {
        [] => out.push(0),
        [one] if *one < 0x80 => out.push(*one),
        // At most eight digits.
        _ => out.push(0x80 | u8::try_from(digits.len()).unwrap_or(8)),
    }
    if contents.len() >= 0x80 {
        out.extend_from_slice(digits);
    }
    out.extend_from_slice(contents);
    out
}

/// The inside of the outer `signatureAlgorithm`: OID and parameters, the form webpki's algorithms
/// name themselves by.
pub(crate) fn signature_algorithm(der: &[u8]) -> Option<&[u8]> {
    let (_, outer) = Any::from_der(der).ok()?;
    let (after_tbs, _) = Any::from_der(outer.data).ok()?;
    let (_, algorithm) = Any::from_der(after_tbs).ok()?;
    Some(algorithm.data)
}

/// Takes what policy variables need out of a certificate.
pub fn facts(der: &[u8]) -> Result<CertificateFacts, CertificateError> {
    let certificate = parse(der)?;
    let mut subject = name_values(certificate.subject());
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        add_alternative_names(&names.value.general_names, &mut subject);
    }
    let mut issuer = name_values(certificate.issuer());
    for extension in certificate.extensions() {
        if let x509_parser::extensions::ParsedExtension::IssuerAlternativeName(names) =
            extension.parsed_extension()
        {
            add_alternative_names(&names.general_names, &mut issuer);
        }
    }
    Ok(CertificateFacts {
        subject,
        issuer,
        serial_number: serial_hex(certificate.raw_serial()),
        subject_line: certificate.subject().to_string(),
        issuer_line: certificate.issuer().to_string(),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
    })
}

/// Whether the extended key usage, where there is one, contains TLS clients.
pub(crate) fn allows_client_auth(certificate: &X509Certificate<'_>) -> bool {
    match certificate.extended_key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) => usage.value.client_auth || usage.value.any,
        Err(_) => false,
    }
}

/// Names a certificate by its issuer and serial number, as revocation lists do (RFC 5280, 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct IssuedNumber([u8; 32]);

impl IssuedNumber {
    /// Of the issuer's name in DER and the contents of the serial number.
    pub(crate) fn new(issuer: &[u8], serial: &[u8]) -> Self {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(issuer);
        context.update(serial);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(bytes)
    }

    pub(crate) fn of(certificate: &X509Certificate<'_>) -> Self {
        Self::new(certificate.issuer().as_raw(), certificate.raw_serial())
    }
}

/// DER puts a zero before a first byte above 0x7f; it is no part of the number.
fn serial_hex(raw: &[u8]) -> String {
    use std::fmt::Write as _;
    let digits = match raw {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    digits.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn name_values(name: &X509Name<'_>) -> NameValues {
    let mut values = NameValues::new();
    for attribute in name.iter_attributes() {
        if let (Some(key), Some(value)) = (variable_name(attribute.attr_type()), text_of(attribute))
        {
            values.entry(key.to_owned()).or_default().push(value);
        }
    }
    values
}

/// The names of the guide's "X.509 certificate policy variables", by the attributes' OIDs
/// (RFC 5280, A.1).
fn variable_name(oid: &Oid<'_>) -> Option<&'static str> {
    Some(match oid.to_id_string().as_str() {
        "2.5.4.3" => "CommonName",
        "2.5.4.4" => "Surname",
        "2.5.4.5" => "SerialNumber",
        "2.5.4.6" => "Country",
        "2.5.4.8" => "State",
        "2.5.4.10" => "Organization",
        "2.5.4.11" => "OrganizationalUnit",
        "2.5.4.12" => "Title",
        "2.5.4.42" => "GivenName",
        "2.5.4.43" => "Initials",
        "2.5.4.44" => "GenerationQualifier",
        "2.5.4.46" => "DistinguishedNameQualifier",
        "2.5.4.65" => "Pseudonym",
        _ => return None,
    })
}

fn text_of(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    if let Ok(text) = attribute.as_str() {
        return Some(text.to_owned());
    }
    let value = attribute.attr_value();
    match value.tag() {
        // T61String in the wild is Latin-1.
        Tag::T61String => Some(value.data.iter().map(|&b| char::from(b)).collect()),
        Tag::BmpString => {
            let units = value
                .data
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

fn add_alternative_names(names: &[GeneralName<'_>], values: &mut NameValues) {
    for name in names {
        let (key, value) = match name {
            GeneralName::RFC822Name(text) => ("RFC822Name", (*text).to_owned()),
            GeneralName::DNSName(text) => ("DNSName", (*text).to_owned()),
            GeneralName::DirectoryName(name) => ("DirectoryName", name.to_string()),
            GeneralName::URI(text) => ("UniformResourceIdentifier", (*text).to_owned()),
            GeneralName::IPAddress(bytes) => match ip_text(bytes) {
                Some(text) => ("IPAddress", text),
                None => continue,
            },
            _ => continue,
        };
        values
            .entry(format!("AlternativeName.{key}"))
            .or_default()
            .push(value);
    }
}

pub(crate) fn ip_text(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(sixteen).to_string())
}
