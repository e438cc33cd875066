//! Client certificates for keys that stay where they are: PKCS #10 requests (RFC 2986).

use rcgen::{ExtendedKeyUsagePurpose, SigningKey as _, SubjectPublicKeyInfo};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::certification_request::X509CertificationRequest;

use super::{CertificateAuthority, CreatedCertificate, LAST_YEAR, leaf_params, signing};
use crate::{CaError, CertificateError, certificate, x509};

/// A request whose signature proves that who made it has the key.
pub(crate) struct Request {
    /// The subject as it stands there, DER.
    subject: Vec<u8>,
    key: SubjectPublicKeyInfo,
    /// The first common name of the subject.
    pub(crate) common_name: Option<String>,
}

impl Request {
    pub(crate) fn of_pem(pem: &str) -> Result<Self, CertificateError> {
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| CertificateError::NoRequest)?;
        let bad = |reason: String| CertificateError::BadRequest(reason);
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|e| bad(e.to_string()))?;
        if !rest.is_empty() {
            return Err(bad("there are bytes behind it".into()));
        }
        let info = &request.certification_request_info;
        certificate::check_key(&info.subject_pki)?;
        crate::verifier::verify_signed(
            &der,
            info.raw,
            &request.signature_value.data,
            &x509::public_key(&info.subject_pki),
        )
        .map_err(|e| bad(format!("its own signature: {e}")))?;
        let key = SubjectPublicKeyInfo::from_der(info.subject_pki.raw)
            .map_err(|e| CertificateError::Key(e.to_string()))?;
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            key,
            common_name: x509::common_name(&info.subject),
        })
    }
}

/// What is read out of a certificate signing request (PEM): its first common name.
///
/// # Errors
/// Why it is none, or proves nothing.
pub fn common_name_of_request(pem: &str) -> Result<Option<String>, CertificateError> {
    Request::of_pem(pem).map(|request| request.common_name)
}

impl CertificateAuthority {
    /// Makes a client certificate for the key and the subject of a request. Nothing else of it is
    /// taken over: what a certificate may be used for is not for the device to say.
    pub(crate) fn sign_request(&self, request: &Request) -> Result<CreatedCertificate, CaError> {
        let params = leaf_params(ExtendedKeyUsagePurpose::ClientAuth, LAST_YEAR)?;
        let template = params
            .signed_by(&request.key, &self.issuer()?)
            .map_err(signing)?;
        let der = self
            .with_subject(template.der(), &request.subject)
            .unwrap_or_else(|| Err(CaError::Signing("a certificate without a subject".into())))?;
        Ok(CreatedCertificate {
            id: x509::principal_of(&der),
            certificate_pem: x509::pem_of(&der),
            key_pem: None,
            ca_pem: self.pem.to_string(),
        })
    }

    /// The same certificate with another subject, byte for byte, signed again: rcgen's names have one
    /// value of each kind and no order of their own.
    fn with_subject(&self, der: &[u8], subject: &[u8]) -> Option<Result<Vec<u8>, CaError>> {
        /// Behind version, serial number, algorithm, issuer and validity (RFC 5280, 4.1).
        const SUBJECT: usize = 5;
        let certificate = x509::parse(der).ok()?;
        let mut fields = x509::elements_of(certificate.tbs_certificate.as_ref())?;
        *fields.get_mut(SUBJECT)? = subject;
        let tbs = x509::sequence(&fields.concat());
        let signature = match self.key.sign(&tbs) {
            Ok(signature) => signature,
            Err(error) => return Some(Err(signing(error))),
        };
        let bits = [&[0], signature.as_slice()].concat();
        let algorithm = x509::sequence(x509::signature_algorithm(der)?);
        let signature = x509::element(0x03, &bits);
        Some(Ok(x509::sequence(&[tbs, algorithm, signature].concat())))
    }
}
