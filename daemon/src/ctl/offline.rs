//! Commands that need no daemon: policies and rules tried out on files.

use std::fs;
use std::io::{Read as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use iotedge_model::{ArnScope, UnixMillis};
use iotedge_policy::{Case, CaseOutcome, PolicyDocument};
use iotedge_rules::{Clause, Explained, RuleTestError, RuleTestOutcome, rule_explain, rule_test};
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

/// `rule test`: the outgoing payload with a line feed, or `no match`; with `--explain` the value of
/// each part before it.
pub(super) fn test_rule(
    arguments: &RuleTest,
    as_json: bool,
    out: &mut dyn Write,
) -> Result<(), CtlError> {
    let context = arguments.context.as_deref().map(read_text).transpose()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let test = iotedge_rules::RuleTest {
        sql: &arguments.sql,
        sql_version: arguments.sql_version.as_deref(),
        topic: &arguments.topic,
        payload: Bytes::from(read(&arguments.payload)?),
        client_id: &arguments.client_id,
        template: arguments.template.as_deref(),
        context: context.as_deref(),
        now: UnixMillis(u64::try_from(now).unwrap_or(u64::MAX)),
    };
    let failed = |e: RuleTestError| CtlError::Failed(e.to_string());
    let explained = match arguments.explain {
        true => rule_explain(&test).map_err(failed)?,
        false => Explained {
            clauses: Vec::new(),
            outcome: rule_test(&test),
        },
    };
    if !as_json {
        show_clauses(&explained.clauses, out)?;
        match explained.outcome.map_err(failed)? {
            RuleTestOutcome::Output(payload) => {
                out.write_all(&payload)?;
                out.write_all(b"\n")?;
            }
            RuleTestOutcome::NoMatch => writeln!(out, "no match")?,
        }
        return Ok(());
    }
    let mut answer = match &explained.outcome {
        Ok(RuleTestOutcome::Output(payload)) => {
            let (key, value) = super::run::payload_member(payload);
            json!({ "match": true, key: value })
        }
        Ok(RuleTestOutcome::NoMatch) => json!({ "match": false }),
        // Without an explanation the error alone is the answer.
        Err(_) if !arguments.explain => json!({}),
        Err(error) => json!({ "error": error.to_string() }),
    };
    if arguments.explain {
        let clause = |c: &Clause| json!({ "clause": c.clause, "depth": c.depth, "text": c.text, "value": c.value });
        answer["explain"] = explained.clauses.iter().map(clause).collect();
        writeln!(out, "{answer}")?;
        return explained.outcome.map(|_| ()).map_err(failed);
    }
    explained.outcome.map_err(failed)?;
    Ok(writeln!(out, "{answer}")?)
}

/// One part a line, what is within it indented below it, the values in one column.
fn show_clauses(clauses: &[Clause], out: &mut dyn Write) -> std::io::Result<()> {
    let left: Vec<String> = clauses
        .iter()
        .map(|c| {
            let text = c.text.split_whitespace().collect::<Vec<_>>().join(" ");
            match c.depth {
                0 => format!("{} {}", c.clause, text::plain(&text)),
                depth => format!("{}{}", "  ".repeat(depth + 1), text::plain(&text)),
            }
        })
        .collect();
    let width = left
        .iter()
        .map(|l| l.chars().count())
        .filter(|n| *n <= 60)
        .max();
    let width = width.unwrap_or(0);
    for (left, clause) in left.iter().zip(clauses) {
        writeln!(out, "{left:width$}  {}", text::plain(&clause.value))?;
    }
    if !clauses.is_empty() {
        writeln!(out)?;
    }
    Ok(())
}
