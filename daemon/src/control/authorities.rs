//! CAs: the gateway's own, and those that are registered.

use iotedge_identity::{CaStatus, CertificateFacts, OwnCa, RegisteredCa};
use iotedge_model::{CertificateId, UnixMillis};

use super::Answer;
use super::certificates::failure;
use crate::ctl::protocol::{CaInfo, CaRegister, CaRotated, CaUpdate, RegistrationCode, Reply};
use crate::house::Rooms;

fn info(rooms: &Rooms, id: &CertificateId, kind: &str, facts: &CertificateFacts) -> CaInfo {
    let snapshot = rooms.identity.snapshot();
    let certificates = snapshot
        .certificates()
        .filter(|c| c.ca.as_ref() == Some(id))
        .count();
    CaInfo {
        certificate_id: id.to_string(),
        certificate_arn: rooms
            .config
            .gateway
            .arn
            .arn("cacert", id.as_str())
            .as_str()
            .to_owned(),
        kind: kind.to_owned(),
        status: "ACTIVE".to_owned(),
        auto_registration_status: "DISABLE".to_owned(),
        subject: facts.subject_line.clone(),
        not_before: facts.not_before,
        not_after: facts.not_after,
        creation_date: None,
        certificates: certificates as u64,
        certificate_pem: None,
    }
}

fn own(rooms: &Rooms, ca: &OwnCa) -> CaInfo {
    let kind = if ca.current { "own" } else { "own-old" };
    info(rooms, &ca.id, kind, &ca.facts)
}

fn registered(rooms: &Rooms, ca: &RegisteredCa) -> CaInfo {
    let auto = if ca.auto_registration {
        "ENABLE"
    } else {
        "DISABLE"
    };
    CaInfo {
        status: ca.status.as_str().to_owned(),
        auto_registration_status: auto.to_owned(),
        creation_date: Some(ca.created_at),
        ..info(rooms, &ca.id, "registered", &ca.facts)
    }
}

pub(super) fn list(rooms: &Rooms) -> Answer {
    let mut all: Vec<CaInfo> = Vec::new();
    for ca in rooms.identity.own_cas().map_err(|e| failure(&e))? {
        all.push(own(rooms, &ca));
    }
    let snapshot = rooms.identity.snapshot();
    let mut foreign: Vec<_> = snapshot.cas().map(|ca| registered(rooms, ca)).collect();
    let age = |ca: &CaInfo| ca.creation_date.unwrap_or(UnixMillis(0));
    foreign.sort_by(|a, b| (age(a), &a.certificate_id).cmp(&(age(b), &b.certificate_id)));
    all.append(&mut foreign);
    Ok(Reply::ok(&all))
}

pub(super) fn describe(rooms: &Rooms, id: &CertificateId) -> Answer {
    let cas = rooms.identity.own_cas().map_err(|e| failure(&e))?;
    if let Some(ca) = cas.iter().find(|ca| ca.id == *id) {
        return Ok(Reply::ok(&CaInfo {
            certificate_pem: Some(ca.pem.clone()),
            ..own(rooms, ca)
        }));
    }
    let (ca, pem) = rooms.identity.describe_ca(id).map_err(|e| failure(&e))?;
    Ok(Reply::ok(&CaInfo {
        certificate_pem: Some(pem),
        ..registered(rooms, &ca)
    }))
}

pub(super) fn code(rooms: &Rooms, anew: bool) -> Answer {
    let code = rooms.identity.registration_code(anew);
    Ok(Reply::ok(&RegistrationCode {
        registration_code: code.map_err(|e| failure(&e))?,
    }))
}

pub(super) fn register(rooms: &Rooms, register: &CaRegister) -> Answer {
    let status = if register.active {
        CaStatus::Active
    } else {
        CaStatus::Inactive
    };
    let id = rooms
        .identity
        .register_ca(
            &register.pem,
            &register.verification,
            status,
            register.auto_registration,
        )
        .map_err(|e| failure(&e))?;
    rooms.close_revoked();
    known(rooms, &id)
}

fn known(rooms: &Rooms, id: &CertificateId) -> Answer {
    let (ca, _) = rooms.identity.describe_ca(id).map_err(|e| failure(&e))?;
    Ok(Reply::ok(&registered(rooms, &ca)))
}

pub(super) fn update(rooms: &Rooms, update: &CaUpdate) -> Answer {
    let identity = &rooms.identity;
    if let Some(active) = update.active {
        let status = match active {
            true => CaStatus::Active,
            false => CaStatus::Inactive,
        };
        identity
            .set_ca_status(&update.id, status)
            .map_err(|e| failure(&e))?;
    }
    if let Some(on) = update.auto_registration {
        identity
            .set_auto_registration(&update.id, on)
            .map_err(|e| failure(&e))?;
    }
    known(rooms, &update.id)
}

pub(super) fn delete(rooms: &Rooms, id: &CertificateId) -> Answer {
    rooms.identity.delete_ca(id).map_err(|e| failure(&e))?;
    Ok(Reply::done())
}

pub(super) fn rotate(rooms: &Rooms) -> Answer {
    rooms.identity.rotate_ca().map_err(|e| failure(&e))?;
    let cas = rooms.identity.own_cas().map_err(|e| failure(&e))?;
    Ok(Reply::ok(&CaRotated {
        crossed: cas.iter().any(|ca| ca.crossed),
        authorities: cas.iter().map(|ca| own(rooms, ca)).collect(),
        ca_pem: rooms.identity.ca_pem().to_string(),
    }))
}

pub(super) fn drop_old(rooms: &Rooms, revoke: bool) -> Answer {
    let revoked = rooms
        .identity
        .drop_old_ca(revoke)
        .map_err(|e| failure(&e))?;
    rooms.close(&revoked);
    let revoked: Vec<String> = revoked.iter().map(ToString::to_string).collect();
    Ok(Reply::ok(&revoked))
}
