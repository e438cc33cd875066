//! A new configuration in place of the old one, while everything runs.

use iotedge_identity::Identity;
use iotedge_model::{CertificateId, Principal, PrincipalKind};
use iotedge_ports::{BrokerPort as _, CloseReason};
use iotedge_rules::{Catalog, Engine};

use super::policies::{check_configured, running_policies, stored_policy};
use super::{Problems, Rooms, convert, problem};
use crate::authenticate;
use crate::config;
use crate::documents::{self, Documents};

impl Rooms {
    /// Reads the configuration with its policies and rules again and puts them in force at once, or
    /// leaves everything as it was.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub async fn reload(&self) -> Result<Vec<String>, Problems> {
        let _one = self.reloading.lock().await;
        let mut changes = Vec::new();
        let config = match &self.config.file {
            None => self.config.clone(),
            Some(file) => config::load(file).map_err(|errors| {
                errors
                    .problems()
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Problems>()
            })?,
        };
        let documents = documents::read(&config)?;
        let users = authenticate::read_users(&config.users).await?;
        check_configured(&config, |name| {
            documents.policies.iter().any(|(n, _)| n == name) || stored_policy(&self.identity, name)
        })?;
        let identity = self.identity.clone();
        let (slots, running, new) = (self.tls.clone(), self.config.clone(), config.clone());
        let renew = move || convert::renew(&slots, &running, &new, &identity);
        let renewed = tokio::task::spawn_blocking(renew)
            .await
            .map_err(problem)??;
        let policies = documents.policies.len();
        let rules = install(&self.identity, &self.rules, &self.engine, documents)?;
        for (slot, server) in self.tls.iter().zip(renewed.servers) {
            slot.put(server);
        }
        self.server.set_names(&config);
        let revoked = self.identity.set_crls(renewed.crls);
        if !revoked.is_empty() {
            changes.push(format!(
                "{} certificates are revoked by their CAs",
                revoked.len()
            ));
        }
        self.close(&revoked);
        let gone = self.users.set(users);
        self.authority
            .configure(running_policies(&self.config, &config));
        self.authority.let_guests_in(renewed.guests);
        self.close(&self.authority.unwelcome_guests());
        for name in gone {
            let kind = PrincipalKind::User { name: name.clone() };
            self.broker
                .close_principal(&Principal { kind }, CloseReason::NotAuthorized);
            changes.push(format!("user {name:?} is gone or has another password"));
        }
        changes.push(format!(
            "{policies} policies in {}",
            config.policies_dir.display()
        ));
        for (what, names) in [
            ("added", rules.added),
            ("changed", rules.changed),
            ("removed", rules.removed),
        ] {
            for name in names {
                changes.push(format!("rule {name} {what}"));
            }
        }
        if convert::needs_restart(&self.config, &config) {
            changes.push(
                "the configuration file has other changes, which take effect at the next start"
                    .into(),
            );
        }
        Ok(changes)
    }

    /// Closes the connections of all that stand in a revocation list.
    pub fn close_revoked(&self) {
        self.close(&self.identity.revoked_by_their_cas());
        self.close(&self.authority.unwelcome_guests());
    }

    /// Closes the connections of certificates that may not be here any more.
    pub fn close(&self, certificates: &[CertificateId]) {
        for id in certificates {
            let principal = Principal::certificate(id.clone());
            self.broker
                .close_principal(&principal, CloseReason::NotAuthorized);
        }
    }
}

/// Puts policies and rules in force.
pub(super) fn install(
    identity: &Identity,
    catalog: &Catalog,
    engine: &Engine,
    documents: Documents,
) -> Result<iotedge_rules::Changes, Problems> {
    catalog.check(&documents.rules).map_err(problem)?;
    identity
        .set_file_policies(documents.policies)
        .map_err(problem)?;
    let changes = catalog.install(documents.rules).map_err(problem)?;
    for rule in engine.rules() {
        for warning in rule.warnings() {
            tracing::warn!(rule = %rule.name(), "{warning}");
        }
    }
    Ok(changes)
}
