//! `iotedgectl policy ...`.

use super::{Session, p};
use crate::ctl::args::{Explain, Policy, PolicyTarget, Version, VersionArg};
use crate::ctl::client::read_as;
use crate::ctl::protocol::Request;
use crate::ctl::{CtlError, offline, show};

fn named(name: &str) -> p::Policy {
    p::Policy { name: name.into() }
}

fn version(v: &VersionArg) -> p::PolicyVersion {
    p::PolicyVersion {
        name: v.name.clone(),
        version: v.version,
    }
}

fn target(t: &PolicyTarget) -> p::PolicyTarget {
    p::PolicyTarget {
        name: t.name.clone(),
        certificate: t.certificate.clone(),
    }
}

impl Session<'_> {
    pub(super) fn policy(&mut self, command: &Policy) -> Result<(), CtlError> {
        match command {
            Policy::Create {
                name,
                file,
                replace,
            } => {
                let request = Request::PolicyCreate(p::PolicyCreate {
                    name: name.clone(),
                    document: offline::read_text(file)?,
                    replace: *replace,
                });
                self.ask_and_show(&request, show::policy_created)
            }
            Policy::List => self.ask_and_list(&Request::PolicyList, show::policies),
            Policy::Show { name } => {
                self.ask_and_show(&Request::PolicyShow(named(name)), show::policy)
            }
            Policy::Delete { name } => {
                self.ask_and_say(&Request::PolicyDelete(named(name)), "deleted")
            }
            Policy::Version(command) => self.policy_version(command),
            Policy::Attach(t) => self.ask_and_say(&Request::PolicyAttach(target(t)), "attached"),
            Policy::Detach(t) => self.ask_and_say(&Request::PolicyDetach(target(t)), "detached"),
            Policy::Explain(question) => self.explain(question),
            Policy::Test {
                request,
                region,
                account_id,
            } => offline::policy_test(request, region, account_id, self.json, self.out),
            Policy::Lint {
                file,
                region,
                account_id,
            } => {
                let scope = region.as_deref().zip(account_id.as_deref());
                offline::policy_lint(file, scope, self.json, self.out)
            }
        }
    }

    fn policy_version(&mut self, command: &Version) -> Result<(), CtlError> {
        match command {
            Version::Create {
                name,
                file,
                set_default,
            } => {
                let request = Request::PolicyVersionCreate(p::PolicyVersionCreate {
                    name: name.clone(),
                    document: offline::read_text(file)?,
                    default: *set_default,
                });
                self.ask_and_show(&request, show::policy_version_created)
            }
            Version::List { name } => self.ask_and_list(
                &Request::PolicyVersionList(named(name)),
                show::policy_versions,
            ),
            Version::Show(v) => self.ask_and_show(
                &Request::PolicyVersionShow(version(v)),
                show::policy_version,
            ),
            Version::SetDefault(v) => self.ask_and_say(
                &Request::PolicyVersionSetDefault(version(v)),
                "this version is in force",
            ),
            Version::Delete(v) => {
                self.ask_and_say(&Request::PolicyVersionDelete(version(v)), "deleted")
            }
        }
    }

    fn explain(&mut self, question: &Explain) -> Result<(), CtlError> {
        let request = Request::PolicyExplain(p::PolicyExplain {
            certificate: question.who.cert.clone(),
            user: question.who.user.clone(),
            listener: question.who.listener.clone(),
            client_id: question.client_id.clone(),
            action: question.action.clone(),
            resource: question.resource.clone(),
            source_ip: question.source_ip,
            persistent: question.persistent,
            will: question.will.clone(),
            domain_name: question.domain_name.clone(),
            secure: !question.plain,
        });
        let answer = self.connect()?.ask(&request)?;
        let explained: p::Explained = read_as(answer.clone())?;
        if self.json {
            writeln!(self.out, "{answer}")?;
        } else {
            let verdict = if explained.allowed { "allow" } else { "deny" };
            writeln!(self.out, "{verdict}\n{}", explained.explanation)?;
        }
        match explained.allowed {
            true => Ok(()),
            false => Err(CtlError::No),
        }
    }
}
