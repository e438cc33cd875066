//! Certificates.

use iotedge_identity::{Certificate, CertificateStatus, IdentityError};
use iotedge_model::{CertificateId, Principal};
use iotedge_ports::{BrokerPort as _, CloseReason};
use iotedge_telemetry::event;

use super::{Answer, things};
use crate::ctl::protocol::{
    CertCreate, CertList, CertRegister, CertificateCreated, CertificateInfo, Failure, Reply,
};
use crate::house::Rooms;

pub(super) fn failure(error: &IdentityError) -> Failure {
    Failure::new(error.reason(), error.to_string())
}

fn arn(rooms: &Rooms, id: &CertificateId) -> String {
    rooms
        .config
        .gateway
        .arn
        .arn("cert", id.as_str())
        .as_str()
        .to_owned()
}

pub(super) fn create(rooms: &Rooms, create: CertCreate) -> Answer {
    if let Some(thing) = &create.thing {
        rooms
            .registry
            .ensure_thing(thing)
            .map_err(|e| things::failure(&e))?;
    }
    let (identity, policies) = (&rooms.identity, &create.policies);
    let created = match (&create.csr, create.name.as_deref()) {
        (Some(csr), name) => identity.create_certificate_of_request(csr, name, policies),
        (None, Some(name)) => identity.create_certificate(name, policies),
        (None, None) => {
            let reason = "a certificate needs a name, or a request that has one";
            return Err(Failure::new("invalid", reason));
        }
    };
    let created = created.map_err(|e| failure(&e))?;
    if let Some(thing) = &create.thing {
        rooms
            .registry
            .attach(thing, &created.id)
            .map_err(|e| things::failure(&e))?;
    }
    Ok(Reply::ok(&CertificateCreated {
        certificate_id: created.id.to_string(),
        certificate_arn: arn(rooms, &created.id),
        certificate_pem: created.certificate_pem,
        private_key: created.key_pem,
        ca_pem: created.ca_pem,
    }))
}

pub(super) fn register(rooms: &Rooms, register: &CertRegister) -> Answer {
    let status = if register.active {
        CertificateStatus::Active
    } else {
        CertificateStatus::Inactive
    };
    let id = rooms
        .identity
        .register_certificate_of(
            register.ca.as_ref(),
            &register.pem,
            register.name.as_deref(),
            status,
            &register.policies,
        )
        .map_err(|e| failure(&e))?;
    known(rooms, &id)
}

/// What is known of it now.
fn known(rooms: &Rooms, id: &CertificateId) -> Answer {
    let snapshot = rooms.identity.snapshot();
    match snapshot.certificate(id) {
        Some(certificate) => Ok(Reply::ok(&info(rooms, certificate, None))),
        None => Err(failure(&IdentityError::NoCertificate(id.clone()))),
    }
}

pub(super) fn list(rooms: &Rooms, list: &CertList) -> Reply {
    let snapshot = rooms.identity.snapshot();
    let mut all: Vec<CertificateInfo> = snapshot
        .certificates()
        .filter(|certificate| list.ca.is_none() || certificate.ca == list.ca)
        .map(|certificate| info(rooms, certificate, None))
        .collect();
    all.sort_by(|a, b| (a.creation_date, &a.name).cmp(&(b.creation_date, &b.name)));
    Reply::ok(&all)
}

pub(super) fn describe(rooms: &Rooms, id: &CertificateId) -> Answer {
    let (certificate, pem) = rooms
        .identity
        .describe_certificate(id)
        .map_err(|e| failure(&e))?;
    Ok(Reply::ok(&info(rooms, &certificate, Some(pem))))
}

pub(super) fn activate(rooms: &Rooms, id: &CertificateId) -> Answer {
    set(rooms, id, CertificateStatus::Active)
}

pub(super) fn deactivate(rooms: &Rooms, id: &CertificateId) -> Answer {
    set(rooms, id, CertificateStatus::Inactive)
}

pub(super) fn revoke(rooms: &Rooms, id: &CertificateId) -> Answer {
    set(rooms, id, CertificateStatus::Revoked)
}

pub(super) fn delete(rooms: &Rooms, id: &CertificateId) -> Answer {
    if let Some(thing) = rooms.registry.principal_things(id).first() {
        let reason = format!("certificate {id} is attached to the thing {thing}; detach it first");
        return Err(Failure::new("conflict", reason));
    }
    rooms
        .identity
        .delete_certificate(id)
        .map_err(|e| failure(&e))?;
    tracing::info!(event = event::CERTIFICATE, principal_id = %id, "the certificate is deleted");
    Ok(Reply::done())
}

fn set(rooms: &Rooms, id: &CertificateId, status: CertificateStatus) -> Answer {
    rooms
        .identity
        .set_status(id, status)
        .map_err(|e| failure(&e))?;
    if status != CertificateStatus::Active {
        let principal = Principal::certificate(id.clone());
        let closed = rooms
            .broker
            .close_principal(&principal, CloseReason::NotAuthorized);
        tracing::info!(
            event = event::CERTIFICATE,
            principal_id = %principal,
            closed,
            "the certificate is now {status}"
        );
    }
    known(rooms, id)
}

fn info(rooms: &Rooms, certificate: &Certificate, pem: Option<String>) -> CertificateInfo {
    let facts = &certificate.facts;
    let things = rooms.registry.principal_things(&certificate.id);
    CertificateInfo {
        certificate_id: certificate.id.to_string(),
        certificate_arn: arn(rooms, &certificate.id),
        name: certificate.name.to_string(),
        status: certificate.status.to_string(),
        origin: match certificate.origin {
            iotedge_identity::CertificateOrigin::Created => "created",
            iotedge_identity::CertificateOrigin::Registered => "registered",
            iotedge_identity::CertificateOrigin::JustInTime => "just-in-time",
        }
        .to_owned(),
        subject: facts.subject_line.clone(),
        issuer: facts.issuer_line.clone(),
        serial_number: facts.serial_number.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        creation_date: certificate.created_at,
        policies: certificate
            .policies
            .iter()
            .map(ToString::to_string)
            .collect(),
        ca_certificate_id: certificate.ca.as_ref().map(ToString::to_string),
        things: things.iter().map(ToString::to_string).collect(),
        certificate_pem: pem,
    }
}
