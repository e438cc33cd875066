//! Commands that need no daemon: policies and rules tried out on files.

use std::fs;
use std::io::{Read as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use iotedge_model::{ArnScope, UnixMillis};
use iotedge_policy::{Case, CaseOutcome, PolicyDocument};
use iotedge_rules::{RuleTestOutcome, rule_test};
use serde_json::json;

use super::args::RuleTest;
use super::{CtlError, text};

/// Reads a file, or standard input for `-`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CtlError> {
    if path.as_os_str() != "-" {
        return fs::read(path).map_err(|e| CtlError::file(path, e));
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|e| CtlError::Failed(format!("standard input: {e}")))?;
    Ok(bytes)
}

/// Reads a text file, or standard input for `-`.
pub(super) fn read_text(path: &Path) -> Result<String, CtlError> {
    String::from_utf8(read(path)?).map_err(|e| CtlError::file(path, e))
}

/// `policy test`: the verdict on the first line, why below it; exit 1 unless allowed.
pub(super) fn policy_test(
    request: &Path,
    region: &str,
    account_id: &str,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let scope = ArnScope {
        region: Arc::from(region),
        account_id: Arc::from(account_id),
    };
    let case = Case::parse(&read_text(request)?).map_err(|e| CtlError::file(request, e))?;
    let outcome = case.run(&scope).map_err(|e| CtlError::file(request, e))?;
    let (verdict, why) = match &outcome {
        CaseOutcome::Allow(why) => ("allow", why.clone()),
        CaseOutcome::Deny(why) => ("deny", why.clone()),
        CaseOutcome::Invalid(number, error) => ("invalid", format!("policy {number}: {error}")),
    };
    if as_json {
        writeln!(out, "{}", json!({ "verdict": verdict, "explanation": why }))?;
    } else if verdict == "invalid" {
        writeln!(out, "invalid: {}", text::plain(&why))?;
    } else {
        writeln!(out, "{verdict}\n{why}")?;
    }
    match outcome {
        CaseOutcome::Allow(_) => Ok(()),
        CaseOutcome::Deny(_) | CaseOutcome::Invalid(..) => Err(CtlError::No),
    }
}

/// `policy lint`: exit 1 when the document would be refused.
pub(super) fn policy_lint(
    file: &Path,
    scope: Option<(&str, &str)>,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let scope = scope.map(|(region, account_id)| ArnScope {
        region: Arc::from(region),
        account_id: Arc::from(account_id),
    });
    let lint = |document| iotedge_policy::lint_for(document, scope.as_ref());
    let document = PolicyDocument::parse(&read_text(file)?);
    if as_json {
        let answer = match &document {
            Ok(document) => json!({ "valid": true, "warnings": lint(document) }),
            Err(error) => json!({ "valid": false, "error": error.to_string() }),
        };
        writeln!(out, "{answer}")?;
        return document.map(|_| ()).map_err(|_| CtlError::No);
    }
    let document = document.map_err(|e| CtlError::file(file, e))?;
    let remarks = lint(&document);
    for remark in &remarks {
        writeln!(out, "{}: {remark}", file.display())?;
    }
    if remarks.is_empty() {
        writeln!(out, "{}: nothing to remark", file.display())?;
    }
    Ok(())
}

/// `rule test`: the outgoing payload with a line feed, or `no match`.
pub(super) fn test_rule(
    arguments: &RuleTest,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let context = arguments.context.as_deref().map(read_text).transpose()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let outcome = rule_test(&iotedge_rules::RuleTest {
        sql: &arguments.sql,
        sql_version: arguments.sql_version.as_deref(),
        topic: &arguments.topic,
        payload: Bytes::from(read(&arguments.payload)?),
        client_id: &arguments.client_id,
        template: arguments.template.as_deref(),
        context: context.as_deref(),
        now: UnixMillis(u64::try_from(now).unwrap_or(u64::MAX)),
    })
    .map_err(|e| CtlError::Failed(e.to_string()))?;
    match (outcome, as_json) {
        (RuleTestOutcome::Output(payload), false) => {
            out.write_all(&payload)?;
            out.write_all(b"\n")?;
        }
        (RuleTestOutcome::NoMatch, false) => writeln!(out, "no match")?,
        (RuleTestOutcome::Output(payload), true) => {
            let (key, value) = super::run::payload_member(&payload);
            writeln!(out, "{}", json!({ "match": true, key: value }))?;
        }
        (RuleTestOutcome::NoMatch, true) => writeln!(out, "{}", json!({ "match": false }))?,
    }
    Ok(())
}
